"""Repairs of HTML that readers of screens need."""

from __future__ import annotations

import re
from typing import Any

# Entries of a list of references or footnotes. Their roles of digital publishing are deprecated.
ENTRY = re.compile(r'role="doc-(biblioentry|footnote)"')
# The corner of a table with names of rows is a header of nothing.
CORNER = re.compile(r'<th class="head"><p></p></th>')


def _repair(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if "body" in context:
        context["body"] = CORNER.sub("<td></td>", ENTRY.sub('role="listitem"', context["body"]))


def setup(app: Any) -> dict[str, bool]:
    """Register the repairs."""
    app.connect("html-page-context", _repair)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
