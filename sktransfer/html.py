"""What a notebook shows of an estimator beside its parameters: the stages of its backbone, frozen or trained."""

from __future__ import annotations

from html import escape
from typing import Any

__all__ = ["BackboneHTML", "backbone_html"]

_STYLE = "font-size:0.85em;margin:0.3em 0 0 0.6em"
_CELL = "padding:0 1.2em 0 0;text-align:left;background:none"


class BackboneHTML:
    """Adds the backbone to what scikit-learn shows of an estimator in a notebook, by itself or within a pipeline."""

    def _get_params_html(self, deep: bool = True, doc_link: str = "") -> Any:
        # A pipeline's diagram asks its steps for this table, and for nothing else that they could add to.
        shown: Any = super()._get_params_html(deep, doc_link)  # type: ignore[misc]
        table = shown._html_repr
        shown._html_repr = lambda: table() + backbone_html(self)
        return shown

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        # The table reads every attribute. One that needs no fit loads its backbone when it is read, from a hub maybe.
        if isinstance(getattr(type(self), "backbone_", None), property):
            return {}
        return super()._get_fitted_attr_html(doc_link)  # type: ignore[misc]


def backbone_html(estimator: Any) -> str:
    """Return the stages of an estimator's backbone, those frozen marked, with what they count and where they run.

    Nothing is loaded for it: an estimator that was not fitted, and names its backbone, gives nothing; nor does one that
    is to be trained, and was not.

    Parameters
    ----------
    estimator : estimator
        With a parameter `backbone`; `backbone_`, `freeze_depth_` and `net_` once it is fitted.

    Returns
    -------
    html : str
        Names are escaped, for they come from files.
    """
    backbone = vars(estimator).get("backbone_", getattr(estimator, "backbone", None))
    if not hasattr(backbone, "stages") or not hasattr(backbone, "stage_names"):
        return ""
    if hasattr(estimator, "freeze_depth") and not hasattr(estimator, "freeze_depth_"):
        return ""  # what is frozen is known once it is fitted
    n_frozen = getattr(estimator, "freeze_depth_", len(backbone.stages))
    seen: set[int] = set()
    rows, counts = [], {"frozen": 0, "trained": 0}
    for place, (name, stage) in enumerate(zip(backbone.stage_names, backbone.stages)):
        state = "frozen" if place < n_frozen else "trained"
        rows.append((name, state, _count(stage, seen)))
        counts[state] += rows[-1][2]
    head = getattr(getattr(getattr(estimator, "net_", None), "module_", None), "head", None)
    if head is not None and list(head.parameters()):
        rows.append(("head", "trained", _count(head, seen)))
        counts["trained"] += rows[-1][2]
    marks = {"frozen": "&#10052; frozen", "trained": "trained"}
    cells = "".join(
        f'<tr><td style="{_CELL}">{escape(name)}</td><td style="{_CELL}">{marks[state]}</td>'
        f'<td style="{_CELL}">{count:,}</td></tr>'
        for name, state, count in rows
    )
    device = escape(str(getattr(estimator, "device", "auto")))
    title = (
        f"{escape(backbone.name)}: {counts['trained']:,} parameters trained, {counts['frozen']:,} frozen; "
        f"device={device}"
    )
    return f'<details style="{_STYLE}"><summary>{title}</summary><table>{cells}</table></details>'


def _count(module: Any, seen: set[int]) -> int:
    """Return how many numbers a module's parameters hold; those that stages share belong to the first."""
    total = 0
    for parameter in module.parameters():
        if id(parameter) not in seen:
            seen.add(id(parameter))
            total += parameter.numel()
    return total
