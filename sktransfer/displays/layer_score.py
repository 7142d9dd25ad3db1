"""How each score goes along the layers of one backbone."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from sktransfer.displays.axes import COLOURS, MARKERS, axes_for, check_columns, finish, short
from sktransfer.exceptions import InvalidParameterError, did_you_mean

__all__ = ["LayerScoreDisplay"]

_NO_SCORES = ("backbone", "layer", "probe_std", "seconds", "bytes")


class LayerScoreDisplay:
    """Scores against layers, each as a share of its own range, the best layer of each marked.

    Scores have no common unit; the legend says what the range of each is.

    Parameters
    ----------
    layers : sequence of str
        From the input up.
    scores : dict of str to array-like of shape (n_layers,)
        By name; `probe_mean` is drawn in black.
    name : str, default=""
        The backbone's, for the title.

    Attributes
    ----------
    ax_ : Axes
        Where it is drawn.
    figure_ : Figure
        What that is part of.

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
            What `rank_backbones` returns.
        backbone : str, default=None
            Which; None for the one on top.
        ax : Axes, default=None
            None makes a figure.

        Raises
        ------
        InvalidParameterError
            If the table is no ranking, or has no such backbone.
        """
        check_columns(ranking, ["backbone", "layer"], cls.__name__)
        names = ranking["backbone"].unique().tolist()
        backbone = names[0] if backbone is None else backbone
        if backbone not in names:
            raise InvalidParameterError(
                f"backbone={backbone!r} is not in the ranking, which has {names}." + did_you_mean(backbone, names)
            )
        rows = ranking[ranking["backbone"] == backbone].sort_index()
        scores = {name: rows[name] for name in rows.columns if name not in _NO_SCORES and rows[name].notna().all()}
        return cls(rows["layer"], scores, short(backbone, 48)).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the layers of the backbone that a fitted `BestBackbone` has chosen.

        Parameters
        ----------
        estimator : BestBackbone
            Fitted.
        ax : Axes, default=None
            None makes a figure.
        """
        return cls.from_ranking(estimator.ranking_, backbone=estimator.best_backbone_, ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            None makes a figure.
        """
        self.ax_ = axes_for(ax, (max(6.0, 2.5 + 0.55 * len(self.layers)), 4.0))
        self.figure_ = self.ax_.figure
        places = np.arange(len(self.layers))
        for k, (name, values) in enumerate(self.scores.items()):
            low, high = float(values.min()), float(values.max())
            shares = (values - low) / (high - low) if high > low else np.ones_like(values)
            is_probe = name == "probe_mean"
            colour = "#000000" if is_probe else COLOURS[k % 6]
            style = {"color": colour, "marker": MARKERS[k % len(MARKERS)], "linestyle": "--" if is_probe else "-"}
            label = f"{'probe' if is_probe else name}, {low:.3g} to {high:.3g}"
            self.ax_.plot(places, shares, label=label, markersize=5, **style)
            best = int(values.argmax())
            self.ax_.plot(best, shares[best], marker="o", markersize=11 + 4 * k, fillstyle="none", color=colour)
        turned = sum(len(layer) + 2 for layer in self.layers) > 40  # side by side they would touch
        self.ax_.set_xticks(places, self.layers, rotation=40 if turned else 0, ha="right" if turned else "center")
        self.ax_.set_yticks([0, 0.5, 1], ["worst", "", "best"])
        self.ax_.set_ylim(-0.08, 1.16)
        self.ax_.margins(x=0.06)
        self.ax_.set_xlabel("layer, from the input up")
        self.ax_.set_ylabel("share of the score's own range")
        self.ax_.set_title(self.name)
        self.ax_.legend(
            frameon=False,
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            title="score, and its range\n(ringed: its best layer)",
        )
        finish(self.ax_)
        return self
