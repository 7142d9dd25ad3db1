"""Plot of scores along the layers of one backbone."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from sktransfer.displays.axes import (
    COLOURS,
    MARKERS,
    check_ranking,
    require_ranking,
    resolve_axes,
    shorten_name,
    style_axes,
)
from sktransfer.exceptions import InvalidParameterError, did_you_mean

__all__ = ["LayerScoreDisplay"]

_OTHER_COLUMNS = ("backbone", "layer", "probe_std", "seconds", "bytes")


class LayerScoreDisplay:
    """Plot of scores against layers, each scaled to its own range, with the best layer of each marked.

    Scores have no common unit. The legend shows the range of each.

    Parameters
    ----------
    layers : sequence of str
        Names of the layers, from the input up.
    scores : dict of str to array-like of shape (n_layers,)
        Scores by name. `probe_mean` is drawn in black.
    name : str, default=""
        Name of the backbone, drawn as the title.

    Attributes
    ----------
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure of the axes.

    Examples
    --------
    >>> from sktransfer.displays.layer_score import LayerScoreDisplay
    >>> display = LayerScoreDisplay(["stem", "top"], {"logme": [0.1, 0.2]}, "tiny/cnn").plot()
    >>> display.ax_.get_title()
    'tiny/cnn'
    """

    def __init__(self, layers: Any, scores: dict[str, Any], name: str = "") -> None:
        self.layers, self.name = list(layers), name
        self.scores = {score: np.asarray(values, dtype=float) for score, values in scores.items()}

    @classmethod
    def from_ranking(cls, ranking: pd.DataFrame, *, backbone: str | None = None, ax: Any = None) -> Self:
        """Draw the layers of one backbone of a ranking.

        Parameters
        ----------
        ranking : DataFrame
            Result of `rank_backbones`.
        backbone : str, default=None
            Name of the backbone. None is the best one.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.

        Raises
        ------
        InvalidParameterError
            If the table is not a ranking, or has no such backbone.
        """
        check_ranking(ranking, cls.__name__)
        names = ranking["backbone"].unique().tolist()
        backbone = names[0] if backbone is None else backbone
        if backbone not in names:
            raise InvalidParameterError(
                f"backbone={backbone!r} is not in the ranking; choose from {names}." + did_you_mean(backbone, names)
            )
        rows = ranking[ranking["backbone"] == backbone].sort_index()
        scores = {name: rows[name] for name in rows.columns if name not in _OTHER_COLUMNS and rows[name].notna().all()}
        return cls(rows["layer"], scores, shorten_name(backbone, 48)).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the layers of the backbone chosen by a fitted `BestBackbone`.

        Parameters
        ----------
        estimator : BestBackbone
            Fitted estimator.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.
        """
        return cls.from_ranking(require_ranking(estimator), backbone=estimator.best_backbone_, ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the plot.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on. None creates a figure.
        """
        self.ax_ = resolve_axes(ax, (max(6.0, 2.5 + 0.55 * len(self.layers)), 4.0))
        self.figure_ = self.ax_.figure
        positions = np.arange(len(self.layers))
        for k, (name, values) in enumerate(self.scores.items()):
            low, high = float(values.min()), float(values.max())
            scaled = (values - low) / (high - low) if high > low else np.ones_like(values)
            is_probe = name == "probe_mean"
            colour = "#000000" if is_probe else COLOURS[k % 6]
            style = {"color": colour, "marker": MARKERS[k % len(MARKERS)], "linestyle": "--" if is_probe else "-"}
            label = f"{'probe' if is_probe else name}, {low:.3g} to {high:.3g}"
            self.ax_.plot(positions, scaled, label=label, markersize=5, **style)
            best = int(values.argmax())
            self.ax_.plot(best, scaled[best], marker="o", markersize=11 + 4 * k, fillstyle="none", color=colour)
        rotated = sum(len(layer) + 2 for layer in self.layers) > 40  # horizontal labels would touch
        self.ax_.set_xticks(positions, self.layers, rotation=40 if rotated else 0, ha="right" if rotated else "center")
        self.ax_.set_yticks([0, 0.5, 1], ["worst", "", "best"])
        self.ax_.set_ylim(-0.08, 1.16)
        self.ax_.margins(x=0.06)
        self.ax_.set_xlabel("layer, from the input up")
        self.ax_.set_ylabel("score, scaled to its own range")
        self.ax_.set_title(self.name)
        self.ax_.legend(
            frameon=False,
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            title="score, and its range\n(ringed: its best layer)",
        )
        style_axes(self.ax_)
        return self
