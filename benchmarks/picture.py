"""Pictures: all questions that have a mark to reach, one bar per question, and lines of several draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["draw", "draw_lines", "progress"]

REACHED, SHORT = "#2a7f62", "#c0563b"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777")


def progress(row: dict[str, Any], value: float) -> float:
    """Return the base-2 logarithm of a value relative to the mark. It is positive if the value exceeds the mark.

    Parameters
    ----------
    row : dict
        A judged row of a report.
    value : float
        The ratio reached, or the aim.
    """
    gain = value / row["must"]
    return math.log2(1 / gain if row["at_most"] else gain)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the rows and write the picture.

    Parameters
    ----------
    rows : sequence of dict
        Judged rows, from top to bottom.
    path : Path
        Path of the PNG file.
    """
    from matplotlib.figure import Figure  # pyplot would start a window system

    figure = Figure(figsize=(11, 1.2 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots()
    limit = 2.5
    for place, row in enumerate(rows):
        length = max(-limit, min(limit, progress(row, row["reached"])))
        axes.barh(place, length, color=REACHED if row["kept"] else SHORT, height=0.62)
        if row["aim"] is not None:
            axes.plot([progress(row, row["aim"])] * 2, [place - 0.4, place + 0.4], color="black", linewidth=1.6)
        sign = "≤" if row["at_most"] else "≥"
        label = f"{row['reached']:.3g}  ({sign} {row['must']:.3g})"
        axes.text(limit * 1.03, place, label, va="center", ha="left", fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{row['question']}: {row['what']}" for row in rows], fontsize=7)
    axes.set_xlim(-limit, limit)
    axes.set_xticks([-2, -1, 0, 1, 2], ["¼", "½", "must", "2x", "4x"])
    axes.invert_yaxis()
    axes.set_title("Reached value as a multiple of the mark (black ticks: target)", fontsize=9)
    figure.savefig(path, dpi=130)


def draw_lines(lines: Mapping[str, np.ndarray], ticks: Sequence[str], path: Path, *, across: str, along: str) -> None:
    """Draw a line per name, the mean over draws, with a band of the standard error, and write the picture.

    Parameters
    ----------
    lines : mapping of str to ndarray of shape (n_draws, n_ticks)
        Values by name.
    ticks : sequence of str
        Labels of the places of the horizontal axis.
    path : Path
        Path of the PNG file.
    across, along : str
        Labels of the horizontal and of the vertical axis.
    """
    from matplotlib.figure import Figure  # pyplot would start a window system

    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    axes = figure.subplots()
    places = range(len(ticks))
    for (name, values), colour in zip(lines.items(), COLOURS):
        means, errors = values.mean(0), values.std(0) / np.sqrt(len(values))  # (n_ticks,) each
        axes.plot(places, means, marker="o", markersize=4, label=name, color=colour)
        axes.fill_between(places, means - errors, means + errors, color=colour, alpha=0.1)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(places, ticks)
    axes.set_xlabel(across)
    axes.set_ylabel(along)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
