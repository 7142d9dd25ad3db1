"""Bar chart of a ranking of backbones."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from sktransfer.displays.axes import COLOURS, check_ranking, require_ranking, resolve_axes, shorten_name, style_axes
from sktransfer.exceptions import InvalidParameterError

__all__ = ["BackboneRankingDisplay"]


class BackboneRankingDisplay:
    """Bar chart with one bar per backbone, the score of its best layer.

    Parameters
    ----------
    names : sequence of str
        Labels of the bars: backbone and layer, best first.
    values : array-like of shape (n_backbones,)
        Scores.
    metric : str
        Name of the score.
    probe : list of (float, float), default=None
        Mean and standard deviation of the probe per backbone, written to the right of the bars.

    Attributes
    ----------
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure of the axes.

    Examples
    --------
    >>> from sktransfer.displays.backbone_ranking import BackboneRankingDisplay
    >>> display = BackboneRankingDisplay(["tiny/cnn · block4", "random · top"], [0.2, 0.1], "logme").plot()
    >>> display.ax_.get_xlabel()
    'logme'
    """

    def __init__(self, names: Any, values: Any, metric: str, probe: list[tuple[float, float]] | None = None) -> None:
        self.names, self.values, self.metric = list(names), np.asarray(values, dtype=float), metric
        self.probe = probe

    @classmethod
    def from_ranking(cls, ranking: pd.DataFrame, *, metric: str | None = None, top: int = 15, ax: Any = None) -> Self:
        """Draw a ranking, with the best layer per backbone.

        Parameters
        ----------
        ranking : DataFrame
            Result of `rank_backbones`.
        metric : str, default=None
            Column to rank by. None is the first score.
        top : int, default=15
            Maximum number of backbones.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.

        Raises
        ------
        InvalidParameterError
            If the table is not a ranking, or has no such column.
        """
        check_ranking(ranking, cls.__name__)
        metric = ranking.columns[2] if metric is None else metric
        if metric not in ranking.columns:
            raise InvalidParameterError(
                f"metric={metric!r} is no column of the ranking; choose from {list(ranking.columns[2:])}"
            )
        rows = ranking[ranking[metric].notna()].sort_values(metric, ascending=False, kind="stable")
        rows = rows.drop_duplicates("backbone").head(top)
        names = [f"{shorten_name(row.backbone)} · {row.layer}" for row in rows.itertuples()]
        probe = list(zip(rows["probe_mean"], rows["probe_std"])) if "probe_mean" in rows else None
        return cls(names, rows[metric], metric, probe).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, *, top: int = 15, ax: Any = None) -> Self:
        """Draw the ranking of a fitted `BestBackbone`.

        Parameters
        ----------
        estimator : BestBackbone
            Fitted estimator.
        top : int, default=15
            Maximum number of backbones.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.
        """
        return cls.from_ranking(require_ranking(estimator), top=top, ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the plot.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on. None creates a figure.
        """
        self.ax_ = resolve_axes(ax, (8.0, 1.3 + 0.42 * len(self.names)))
        self.figure_ = self.ax_.figure
        positions = np.arange(len(self.names))
        colours = [COLOURS[0], *["#9BBBD0"] * (len(self.names) - 1)]  # the best bar is darker
        self.ax_.barh(positions, self.values, color=colours, height=0.62)
        low, high = min(0.0, float(self.values.min())), max(0.0, float(self.values.max()))
        span = (high - low) or 1.0
        for position, value in zip(positions, self.values):
            label = f"{value:.3g}"
            if self.probe is not None:
                label += f"   probe {self.probe[position][0]:.3f} ± {self.probe[position][1]:.3f}"
            # Right of the axes and not at the ends of the bars, because the layout makes room there.
            self.ax_.text(1.015, position, label, transform=self.ax_.get_yaxis_transform(), va="center", fontsize=9)
        self.ax_.set_xlim(low - 0.02 * span * (low < 0), high + 0.02 * span)
        self.ax_.set_yticks(positions, self.names)
        self.ax_.invert_yaxis()
        self.ax_.set_xlabel(self.metric)
        style_axes(self.ax_, grid="x")
        return self
