"""Roles of HTML that docutils writes and that readers of screens no longer know."""

from __future__ import annotations

import re
from typing import Any

# Entries of a list of references or footnotes. Their roles of digital publishing are deprecated.
ENTRY = re.compile(r'role="doc-(biblioentry|footnote)"')


def _make_entries_items(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if "body" in context:
        context["body"] = ENTRY.sub('role="listitem"', context["body"])


def setup(app: Any) -> dict[str, bool]:
    """Register the change of roles."""
    app.connect("html-page-context", _make_entries_items)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
