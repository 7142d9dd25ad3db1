"""HTML table of an estimator's backbone stages for notebooks, frozen or trained."""

from __future__ import annotations

from html import escape
from typing import Any

__all__ = ["BackboneHTML", "backbone_html", "count_parameters"]

_STYLE = "font-size:0.85em;margin:0.3em 0 0 0.6em"
_CELL = "padding:0 1.2em 0 0;text-align:left;background:none"


class BackboneHTML:
    """Mixin that adds the backbone's stages to scikit-learn's HTML of an estimator, alone or within a pipeline."""

    def _get_params_html(self, deep: bool = True, doc_link: str = "") -> Any:
        # The diagram of a pipeline asks its steps only for this table, so the stages are appended to it.
        table: Any = super()._get_params_html(deep, doc_link)  # type: ignore[misc]
        to_html = table._html_repr
        table._html_repr = lambda: to_html() + backbone_html(self)
        return table

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        # scikit-learn's table reads every attribute. If `backbone_` is a property, reading it loads the backbone,
        # possibly from a hub.
        if isinstance(getattr(type(self), "backbone_", None), property):
            return {}
        return super()._get_fitted_attr_html(doc_link)  # type: ignore[misc]


def backbone_html(estimator: Any) -> str:
    """Return a table of the stages of an estimator's backbone, with their state and their number of parameters.

    Above it are the lines of `report_`, if the estimator has one.

    The function loads nothing. The result is empty for an unfitted estimator that names its backbone, and for an
    unfitted estimator that trains its backbone.

    Parameters
    ----------
    estimator : estimator
        Has a parameter `backbone`, and `backbone_`, `freeze_depth_` and `net_` if it is fitted.

    Returns
    -------
    html : str
        Names are escaped, because they come from files.
    """
    backbone = vars(estimator).get("backbone_", getattr(estimator, "backbone", None))
    if not hasattr(backbone, "stages") or not hasattr(backbone, "stage_names"):
        return ""
    if hasattr(estimator, "freeze_depth") and not hasattr(estimator, "freeze_depth_"):
        return ""  # the freezing boundary is known after fit
    boundary = getattr(estimator, "freeze_depth_", None)
    trains = [False] * len(backbone.stages) if boundary is None else backbone.trains(boundary)
    counted: set[int] = set()
    rows, totals = [], {"frozen": 0, "trained": 0}
    for name, stage, is_trained in zip(backbone.stage_names, backbone.stages, trains):
        state = "trained" if is_trained else "frozen"
        rows.append((name, state, count_parameters(stage, counted)))
        totals[state] += rows[-1][2]
    head = getattr(getattr(getattr(estimator, "net_", None), "module_", None), "heads", None)
    if head is not None and list(head.parameters()):
        rows.append(("head", "trained", count_parameters(head, counted)))
        totals["trained"] += rows[-1][2]
    labels = {"frozen": "&#10052; frozen", "trained": "trained"}
    cells = "".join(
        f'<tr><td style="{_CELL}">{escape(name)}</td><td style="{_CELL}">{labels[state]}</td>'
        f'<td style="{_CELL}">{count:,}</td></tr>'
        for name, state, count in rows
    )
    device = escape(str(getattr(estimator, "device", "auto")))
    title = (
        f"{escape(backbone.name)}: {totals['trained']:,} parameters trained, {totals['frozen']:,} frozen; "
        f"device={device}"
    )
    chosen = "".join(f"<div>{escape(line)}</div>" for line in getattr(estimator, "report_", "").splitlines())
    return f'<details style="{_STYLE}"><summary>{title}</summary>{chosen}<table>{cells}</table></details>'


def count_parameters(module: Any, counted: set[int]) -> int:
    """Return the number of weights of a module. Parameters shared by stages count for the first stage only.

    Parameters
    ----------
    module : nn.Module
        Stage or head.
    counted : set of int
        Ids of the parameters of earlier modules. Those of this one are added.
    """
    total = 0
    for parameter in module.parameters():
        if id(parameter) not in counted:
            counted.add(id(parameter))
            total += parameter.numel()
    return total
