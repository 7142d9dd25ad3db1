"""Links between guide and reference, without roles in the sources.

A public name in code style links to its page in the reference. That page links to the pages of the guide that use the
name, and each parameter to the place of the guide that explains it.
"""

from __future__ import annotations

import inspect
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx import addnodes

import sktransfer.exceptions
from extensions.guide_pages import PAGE_OF, Guide
from extensions.public_names import qualified

SKLEARN = "https://scikit-learn.org/stable/modules/generated"


def _to_page(here: str, page: str, explicit: bool) -> addnodes.pending_xref:
    """Return a link from one page to another, whose text is the title of that page unless `explicit`."""
    return addnodes.pending_xref(
        "", refdomain="std", reftype="doc", reftarget=f"/{page}", refexplicit=explicit, refdoc=here
    )


class GuidePages(Directive):
    """A paragraph with links to the pages of the guide that use a name."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the paragraph, or nothing if no page uses the name."""
        env = self.state.document.settings.env
        pages = env.app.guide.pages_on(self.arguments[0])
        if not pages:
            return []
        paragraph = nodes.paragraph("", "In the guide: ", classes=["guide-pages"])
        for i, page in enumerate(pages):
            if i:
                paragraph += nodes.Text(", ")
            link = _to_page(env.docname, page, explicit=False)
            link += nodes.inline("", page)
            paragraph += link
        return [paragraph]


def _skip_member(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Skip members that scikit-learn, skorch or torch document."""
    home = getattr(getattr(member, "fget", member), "__module__", None)
    return True if isinstance(home, str) and not home.startswith("sktransfer") else None


def _name_inherited(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Name the methods that scikit-learn documents."""
    if what != "class":
        return
    names = []
    for method, member in inspect.getmembers(obj, callable):
        if not method.startswith("_") and (getattr(member, "__module__", None) or "").startswith("sklearn"):
            names.append(f"``{method}``")
    if names:
        lines += ["", f"Methods of scikit-learn: {', '.join(names)}.", ""]


def _is_linked(node: nodes.Node) -> bool:
    while node is not None:
        if isinstance(node, (nodes.reference, addnodes.pending_xref, nodes.title)):
            return True
        node = node.parent
    return False


def _link(app: Any, doctree: nodes.document) -> None:
    page = app.env.docname
    for literal in list(doctree.findall(nodes.literal)):
        target = qualified(literal.astext())
        if target and page != f"reference/{target}" and not _is_linked(literal):
            _wrap(literal, _to_object(page, target))
    if page.startswith("reference/"):
        _link_terms(page, doctree)


def _to_object(here: str, target: str) -> addnodes.pending_xref:
    return addnodes.pending_xref("", refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refdoc=here)


def _wrap(node: nodes.Node, link: addnodes.pending_xref) -> None:
    node.parent.replace(node, link)
    link += node


def _link_terms(page: str, doctree: nodes.document) -> None:
    """Link parameters to the guide, and exceptions to their pages."""
    for term in doctree.findall(nodes.term):
        texts = (child for child in term.children if isinstance(child, nodes.Text))
        for name in [
            *term.findall(nodes.strong),
            *texts,
        ]:  # names of parameters are strong, those of exceptions are not
            text = name.astext()
            if text in PAGE_OF and isinstance(name, nodes.strong):
                _wrap(name, _to_page(page, PAGE_OF[text], explicit=True))
            elif text in sktransfer.exceptions.__all__:
                _wrap(name, _to_object(page, qualified(text)))


def _resolve_sklearn(app: Any, env: Any, node: addnodes.pending_xref, text: nodes.Element) -> nodes.Element | None:
    target = node.get("reftarget", "")
    if node["refdomain"] != "py" or not target.startswith("sklearn."):
        return None
    return nodes.reference("", "", text, refuri=f"{SKLEARN}/{target}.html")


def setup(app: Any) -> dict[str, bool]:
    """Register the links."""
    app.guide = Guide()
    app.add_directive("guide-pages", GuidePages)
    app.connect("autodoc-skip-member", _skip_member)
    app.connect("autodoc-process-docstring", _name_inherited, priority=900)  # after numpydoc
    app.connect("doctree-read", _link)
    app.connect("missing-reference", _resolve_sklearn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
