"""Settings of the gallery, and the stored pictures of examples on their pages.

Executing all examples takes half an hour. A page shows the pictures that the repository stores instead, with the
alternative texts of `examples/README.md`. `make docs GALLERY=run` executes the examples.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sphinx_gallery.utils import scale_image

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
RUN = os.environ.get("GALLERY") == "run"
OUT = Path(tempfile.gettempdir()) / f"gallery_{os.getpid()}"  # folder for pictures of executed examples
SCRIPT_OR_PICTURE = re.compile(r"\]\(([\w/]+\.py)\)|!\[([^]]+)\]\((pictures/\w+\.png)\)")

SETTINGS = {
    "examples_dirs": [str(EXAMPLES)],
    "gallery_dirs": ["auto_examples"],
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"_show\.py|service",
    "plot_gallery": RUN,
    "within_subsection_order": "extensions.gallery.ReadmeOrder",
    "reset_argv": "extensions.gallery.arguments",
    "image_scrapers": ["extensions.gallery.scrape"],
    "download_all_examples": False,
    "nested_sections": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 1e9,
    "thumbnail_size": (320, 224),
}


class ReadmeOrder:
    """Order scripts as `examples/README.md` does."""

    def __init__(self, folder: str) -> None:
        """Keep the folder of the scripts."""
        self.folder = Path(folder)

    def __call__(self, name: str) -> int:
        """Return the place of a script."""
        return list(stored_pictures()).index((self.folder / name).relative_to(EXAMPLES).as_posix())


def arguments(gallery_conf: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
    """Return the arguments of an executed example, and empty the folder for its pictures."""
    shutil.rmtree(OUT, ignore_errors=True)
    return ["--out", str(OUT)]


def scrape(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Move the pictures that an example has saved to its page."""
    texts = {path.name: text for pictures in stored_pictures().values() for path, text in pictures}
    images = ""
    for picture in sorted(OUT.glob("*.png")):
        path = Path(next(block_vars["image_path_iterator"]))
        shutil.move(picture, path)
        images += _image(f"/{path.relative_to(gallery_conf['src_dir']).as_posix()}", texts[picture.name])
    return images


def _image(path: str, text: str) -> str:
    return f".. image:: {path}\n   :alt: {text}\n\n"


def stored_pictures() -> dict[str, list[tuple[Path, str]]]:
    """Return pictures and their alternative texts by script, in the order of `examples/README.md`."""
    pictures: dict[str, list[tuple[Path, str]]] = {}
    script = ""
    for link, text, picture in SCRIPT_OR_PICTURE.findall((EXAMPLES / "README.md").read_text(encoding="utf-8")):
        script = link or script
        if picture:
            pictures.setdefault(script, []).append((EXAMPLES / picture, text))
    return pictures


def _make_thumbnails(app: Any) -> None:
    """Make the first stored picture of a script its thumbnail."""
    for script, pictures in stored_pictures().items():
        path = Path(app.srcdir, "auto_examples", script)
        thumbnail = path.parent / "images" / "thumb" / f"sphx_glr_{path.stem}_thumb.png"
        scale_image(pictures[0][0], thumbnail, *SETTINGS["thumbnail_size"])


def _read_source(app: Any, docname: str, content: list[str]) -> None:
    """Give the page of a script a title, a block for its command, and its pictures."""
    folder, _, script = docname.partition("/")
    if folder != "auto_examples":
        return
    if docname.endswith("index"):
        content[0] = re.sub(r' tooltip="[^"]*"|\.(?=</div>$)', "", content[0], flags=re.MULTILINE)  # no commands there
        return
    _, label, rest = content[0].partition(f"_sphx_glr_auto_examples_{script.replace('/', '_')}.py:\n\n")
    title, _, rest = rest.partition("\n")
    title = title.rstrip(".")
    rest = re.sub(r"^(?=    \w)", ".. code-block:: console\n\n", rest, count=1, flags=re.MULTILINE)
    images = ""
    if not RUN:
        for picture, text in stored_pictures()[f"{script}.py"]:
            path = os.path.relpath(picture, Path(app.srcdir, docname).parent)
            images += _image(path, text)
    marker = ".. GENERATED FROM PYTHON SOURCE LINES"
    before, _, after = rest.partition(marker)
    content[0] = f".. {label}{title}\n{'=' * len(title)}\n{before}{images}{marker}{after}"


def setup(app: Any) -> dict[str, bool]:
    """Register the stored pictures."""
    if not RUN:
        app.connect("builder-inited", _make_thumbnails, priority=900)  # after sphinx-gallery
    app.connect("source-read", _read_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
