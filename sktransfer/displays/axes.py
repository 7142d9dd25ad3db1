"""What all displays share: axes to draw on, colours that the colour-blind tell apart, names that fit."""

from __future__ import annotations

from typing import Any

from sktransfer.exceptions import InvalidParameterError

__all__ = ["COLOURS", "MARKERS", "axes_for", "check_columns", "finish", "short"]

# Okabe and Ito's, without their yellow, which is too pale for lines; each goes with a marker of its own.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def axes_for(ax: Any, size: tuple[float, float] = (6.0, 4.0)) -> Any:
    """Return the axes to draw on: those given, or new ones in a figure of their own, whose labels are not cut.

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


def finish(ax: Any, *, grid: str = "both") -> None:
    """Take away what is not read: the frame's upper and right sides; add a pale grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, alpha=0.25)
    ax.set_axisbelow(True)


def short(name: str, length: int = 32) -> str:
    """Return a backbone's name as it fits a label: of a local folder the last parts.

    Examples
    --------
    >>> from sktransfer.displays.axes import short
    >>> short("hf//home/me/models/my-bert"), short("tiny/cnn")
    ('hf/…/models/my-bert', 'tiny/cnn')
    """
    provider, _, rest = name.partition("/")
    parts = [part for part in rest.split("/") if part]
    if len(parts) > 2:
        name = f"{provider}/…/{'/'.join(parts[-2:])}"
    return name if len(name) <= length else f"{name[: length // 2 - 1]}…{name[-length // 2 :]}"


def check_columns(table: Any, columns: list[str], who: str) -> None:
    """Raise where a table is no ranking.

    Raises
    ------
    InvalidParameterError
        If it lacks one of the columns.
    """
    missing = [column for column in columns if column not in getattr(table, "columns", ())]
    if missing:
        raise InvalidParameterError(f"{who} takes a DataFrame as rank_backbones returns it; {missing} are not in it")
