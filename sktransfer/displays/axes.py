"""Axes, colour-blind safe colours and label helpers for all displays."""

from __future__ import annotations

from typing import Any

from sktransfer.exceptions import InvalidParameterError

__all__ = ["COLOURS", "MARKERS", "check_ranking", "resolve_axes", "shorten_name", "style_axes"]

# The palette of Okabe and Ito without yellow, which is too pale for lines. Each colour has its own marker.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def resolve_axes(ax: Any, size: tuple[float, float] = (6.0, 4.0)) -> Any:
    """Return `ax`, or the axes of a new figure whose layout makes room for the labels.

    Parameters
    ----------
    ax : Axes or None
        Axes to draw on.
    size : (float, float), default=(6.0, 4.0)
        Width and height of a new figure, in inches.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError("displays need matplotlib: pip install 'matplotlib>=3.9'") from error
    if ax is None:
        _, ax = plt.subplots(figsize=size, layout="constrained")
    return ax


def style_axes(ax: Any, *, grid: str = "both") -> None:
    """Hide the upper and right spines, and add a pale grid below the data.

    Parameters
    ----------
    ax : Axes
        Axes to style.
    grid : {"both", "x", "y"}, default="both"
        Direction of the grid.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, alpha=0.25)
    ax.set_axisbelow(True)


def shorten_name(name: str, length: int = 32) -> str:
    """Shorten a backbone's name for a label. Of a local folder, the last two parts remain.

    Parameters
    ----------
    name : str
        Name of the backbone.
    length : int, default=32
        Maximum number of characters.

    Examples
    --------
    >>> from sktransfer.displays.axes import shorten_name
    >>> shorten_name("hf//home/me/models/my-bert"), shorten_name("tiny/cnn")
    ('hf/…/models/my-bert', 'tiny/cnn')
    """
    provider, _, rest = name.partition("/")
    parts = [part for part in rest.split("/") if part]
    if len(parts) > 2:
        name = f"{provider}/…/{'/'.join(parts[-2:])}"
    return name if len(name) <= length else f"{name[: length // 2 - 1]}…{name[-length // 2 :]}"


def check_ranking(ranking: Any, display: str) -> None:
    """Raise an error if an object is not a ranking.

    Parameters
    ----------
    ranking : object
        Object to check.
    display : str
        Class name of the display that raises the error.

    Raises
    ------
    InvalidParameterError
        If it lacks the columns "backbone" or "layer".
    """
    missing = [column for column in ("backbone", "layer") if column not in getattr(ranking, "columns", ())]
    if missing:
        raise InvalidParameterError(
            f"{display} takes a DataFrame as rank_backbones returns it; the columns {missing} are missing"
        )
