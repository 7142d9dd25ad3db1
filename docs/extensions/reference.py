"""Links to the reference from names in code style, without roles in the sources."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx import addnodes

import sktransfer

OWN = "sktransfer"


def _skip_member(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Skip members that scikit-learn, skorch or torch document."""
    home = getattr(getattr(member, "fget", member), "__module__", None)
    return True if isinstance(home, str) and not home.startswith(OWN) else None


def _link_names(app: Any, doctree: nodes.document) -> None:
    page = app.env.docname
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext().removesuffix("()").removeprefix("sktransfer.")
        if name not in sktransfer.__all__ or page == f"reference/sktransfer.{name}":
            continue
        node, linked = literal.parent, False
        while node is not None:
            linked |= isinstance(node, (nodes.reference, addnodes.pending_xref, nodes.title))
            node = node.parent
        if linked:
            continue
        target = addnodes.pending_xref(
            "", refdomain="py", reftype="obj", reftarget=f"sktransfer.{name}", refexplicit=True, refdoc=page
        )
        literal.replace_self(target)
        target += literal


def setup(app: Any) -> dict[str, bool]:
    """Register the links."""
    app.connect("autodoc-skip-member", _skip_member)
    app.connect("doctree-read", _link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
