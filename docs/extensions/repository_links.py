"""Make links of Markdown files between files of the repository lead to pages of the site.

Documents are written for readers of the repository as well. Their links are relative paths of files, such as
`../examples/digits.py` or `CONTRIBUTING.md`. Some of these files are pages of the site by another name, because a page
includes them or the gallery shows them. Links to other files become downloads.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Files outside of docs, and the pages of docs that include them.
INCLUDED = {
    "benchmarks/README.md": "benchmarks.md",
    "CHANGES.md": "whats_new.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples.md",
    "plugins/README.md": "plugins/index.md",
    "plugins/clip/README.md": "plugins/clip.md",
    "plugins/historic/README.md": "plugins/historic.md",
    "plugins/onnxruntime/README.md": "plugins/onnxruntime.md",
    "plugins/openvino/README.md": "plugins/openvino.md",
    "plugins/sentence_transformers/README.md": "plugins/sentence_transformers.md",
    "plugins/template/README.md": "plugins/template.md",
    "plugins/timm/README.md": "plugins/timm.md",
    "README.md": "index.md",
    "RELEASE.md": "release.md",
    "SECURITY.md": "security.md",
    "sktransfer/providers/shipped/tiny_bert.md": "networks/tiny_bert.md",
    "sktransfer/providers/shipped/tiny_cnn.md": "networks/tiny_cnn.md",
}
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")


def page_of(path: Path) -> Path:
    """Return the file that shows `path` on the site, or `path` itself if no page does."""
    path = path / "README.md" if path.is_dir() else path
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    if name in INCLUDED:
        return DOCS / INCLUDED[name]
    if re.fullmatch(r"examples/(paths/)?[a-z]\w*\.py", name):
        return DOCS / name.replace("examples/", "auto_examples/").replace(".py", ".rst")
    return path


def rewrite(text: str, folder: Path, page: Path) -> str:
    """Return Markdown `text`, a file of `folder`, with links that are right on `page`."""

    def target(match: re.Match[str]) -> str:
        path = Path(os.path.normpath(folder / match[1]))
        if not path.exists():
            return match[0]
        shown = page_of(path)
        link = os.path.relpath(shown, page.parent) + (match[2] or "")
        is_page = shown.is_relative_to(DOCS) or shown.suffix != ".md"
        return link if is_page else f"path:{link}"  # MyST then offers a download

    return LINK.sub(target, text)


def _read_source(app: Any, docname: str, content: list[str]) -> None:
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".md":
        content[0] = rewrite(content[0], path.parent, path)


def _read_include(app: Any, relative_path: Path, parent_docname: str, content: list[str]) -> None:
    path = (Path(app.srcdir) / relative_path).resolve()
    if path.suffix == ".md":
        content[0] = rewrite(content[0], path.parent, Path(app.env.doc2path(app.env.docname)))


def setup(app: Any) -> dict[str, bool]:
    """Register the rewriting of links."""
    app.connect("source-read", _read_source)
    app.connect("include-read", _read_include)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
