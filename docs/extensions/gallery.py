"""Settings of the gallery, and the stored pictures of examples on their pages.

Executing all examples takes about half an hour. A page shows the pictures that the repository stores instead, with the
alternative texts of `examples/README.md`. `make docs GALLERY=run` executes the examples.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURE = re.compile(r"!\[([^]]+)\]\(pictures/(\w+\.png)\)")


def settings(run: bool) -> dict[str, Any]:
    """Return the settings of sphinx-gallery, which executes the examples if `run`."""
    return {
        "examples_dirs": [str(EXAMPLES)],
        "gallery_dirs": ["auto_examples"],
        "filename_pattern": r"\.py$",
        "ignore_pattern": r"_show\.py|service",
        "plot_gallery": run,
        "download_all_examples": False,
        "show_memory": False,
        "show_signature": False,
        "min_reported_time": 1e9,
        "remove_config_comments": True,
        "only_warn_on_example_error": False,
    }


def setup(app: Any) -> dict[str, bool]:
    return {"parallel_read_safe": True, "parallel_write_safe": True}
