"""Which backbone suits the data, each with its best layer."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from sktransfer.displays.axes import COLOURS, axes_for, check_columns, finish, short
from sktransfer.exceptions import InvalidParameterError

__all__ = ["BackboneRankingDisplay"]


class BackboneRankingDisplay:
    """One bar a backbone: the score of its best layer, which stands beside its name.

    Parameters
    ----------
    names : sequence of str
        Backbones with their layers, the best first.
    values : array-like of shape (n_backbones,)
        Their scores.
    metric : str
        What the score is called.
    probe : list of (float, float), default=None
        Mean and deviation of a probe on each, written at the bars' ends.

    Attributes
    ----------
    ax_ : Axes
        Where it is drawn.
    figure_ : Figure
        What that is part of.

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
        """Draw a ranking, each backbone with its best layer.

        Parameters
        ----------
        ranking : DataFrame
            What `rank_backbones` returns.
        metric : str, default=None
            The column that ranks; None for the first score.
        top : int, default=15
            How many backbones.
        ax : Axes, default=None
            None makes a figure.

        Raises
        ------
        InvalidParameterError
            If the table is no ranking, or has no such column.
        """
        check_columns(ranking, ["backbone", "layer"], cls.__name__)
        metric = ranking.columns[2] if metric is None else metric
        if metric not in ranking.columns:
            raise InvalidParameterError(f"metric={metric!r} is no column of the ranking: {list(ranking.columns[2:])}")
        rows = ranking[ranking[metric].notna()].sort_values(metric, ascending=False, kind="stable")
        rows = rows.drop_duplicates("backbone").head(top)
        names = [f"{short(row.backbone)} · {row.layer}" for row in rows.itertuples()]
        probe = list(zip(rows["probe_mean"], rows["probe_std"])) if "probe_mean" in rows else None
        return cls(names, rows[metric], metric, probe).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, *, top: int = 15, ax: Any = None) -> Self:
        """Draw the ranking of a fitted `BestBackbone`.

        Parameters
        ----------
        estimator : BestBackbone
            Fitted.
        top : int, default=15
            How many backbones.
        ax : Axes, default=None
            None makes a figure.
        """
        return cls.from_ranking(estimator.ranking_, top=top, ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            None makes a figure.
        """
        self.ax_ = axes_for(ax, (8.0, 1.3 + 0.42 * len(self.names)))
        self.figure_ = self.ax_.figure
        places = np.arange(len(self.names))
        colours = [COLOURS[0], *["#9BBBD0"] * (len(self.names) - 1)]  # the one chosen stands out by its darkness
        self.ax_.barh(places, self.values, color=colours, height=0.62)
        low, high = min(0.0, float(self.values.min())), max(0.0, float(self.values.max()))
        room = (high - low) or 1.0
        for place, value in zip(places, self.values):
            told = f"{value:.3g}"
            if self.probe is not None:
                told += f"   probe {self.probe[place][0]:.3f} ± {self.probe[place][1]:.3f}"
            # Beside the axes, not at the bars' ends: there the layout makes room for them.
            self.ax_.text(1.015, place, told, transform=self.ax_.get_yaxis_transform(), va="center", fontsize=9)
        self.ax_.set_xlim(low - 0.02 * room * (low < 0), high + 0.02 * room)
        self.ax_.set_yticks(places, self.names)
        self.ax_.invert_yaxis()
        self.ax_.set_xlabel(self.metric)
        finish(self.ax_, grid="x")
        return self
