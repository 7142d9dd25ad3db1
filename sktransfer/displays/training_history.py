"""Plot of losses and scores per epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktransfer.displays.axes import COLOURS, MARKERS, resolve_axes, style_axes
from sktransfer.exceptions import InvalidParameterError

__all__ = ["TrainingHistoryDisplay"]


class TrainingHistoryDisplay:
    """Plot of losses against epochs, with other scores on a second axis at the right.

    Parameters
    ----------
    losses : dict of str to array-like of shape (n_epochs,)
        Losses by name: "train_loss" and, with a validation split, "valid_loss".
    others : dict of str to array-like of shape (n_epochs,), default=None
        Scores by name, such as "valid_acc".

    Attributes
    ----------
    ax_ : Axes
        Axes of the losses.
    right_ax_ : Axes or None
        Axes of the scores, None without scores.
    figure_ : Figure
        Figure of the axes.

    Examples
    --------
    >>> from sktransfer.displays.training_history import TrainingHistoryDisplay
    >>> TrainingHistoryDisplay({"train_loss": [0.9, 0.5, 0.4]}).plot().ax_.get_xlabel()
    'epoch'
    """

    def __init__(self, losses: dict[str, Any], others: dict[str, Any] | None = None) -> None:
        self.losses = {name: np.asarray(values, dtype=float) for name, values in losses.items()}
        self.others = {name: np.asarray(values, dtype=float) for name, values in (others or {}).items()}

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, scores: Sequence[str] = ("valid_acc", "valid_r2", "valid_iou"), ax: Any = None
    ) -> Self:
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : FineTuneClassifier, FineTuneRegressor, FineTuneTagger or FineTuneSegmenter
            Estimator fitted for at least one epoch.
        scores : sequence of str, default=("valid_acc", "valid_r2", "valid_iou")
            Other columns of `net_.history` to draw. Missing ones are skipped.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.

        Raises
        ------
        InvalidParameterError
            If the estimator trains no network, or no epoch was trained.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "net_"):
            raise InvalidParameterError(
                f"{type(estimator).__name__} has no history of a training; pass the tuner, such as pipeline[-1] or "
                "search.best_estimator_"
            )
        history = estimator.net_.history
        if not len(history):
            raise InvalidParameterError(
                "no epoch was trained (max_epochs=0): fit with max_epochs of at least 1 to have a history"
            )
        if isinstance(scores, str):
            raise InvalidParameterError(f"scores={scores!r} must be a list of names, such as [{scores!r}]")
        known = [name for name in history[-1] if all(name in epoch for epoch in history)]
        losses = {name: history[:, name] for name in ("train_loss", "valid_loss") if name in known}
        return cls(losses, {name: history[:, name] for name in scores if name in known}).plot(ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the plot.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on. None creates a figure.
        """
        self.ax_ = resolve_axes(ax)
        from matplotlib.ticker import MaxNLocator  # after the message of `resolve_axes`, if it is not installed

        self.figure_, self.right_ax_ = self.ax_.figure, None
        lines = [self._draw_line(self.ax_, k, name, values) for k, (name, values) in enumerate(self.losses.items())]
        self.ax_.set_xlabel("epoch")
        self.ax_.set_ylabel("loss")
        self.ax_.xaxis.set_major_locator(MaxNLocator(integer=True))
        style_axes(self.ax_)
        if self.others:
            self.right_ax_ = self.ax_.twinx()
            self.right_ax_.spines[["top", "left"]].set_visible(False)
            self.right_ax_.set_ylabel("score (dashed)")
            for k, (name, values) in enumerate(self.others.items(), start=len(self.losses)):
                lines.append(self._draw_line(self.right_ax_, k, name, values, linestyle="--"))
        labels = [line.get_label() for line in lines]
        self.ax_.legend(lines, labels, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(lines))
        return self

    def _draw_line(self, ax: Any, k: int, name: str, values: np.ndarray, **style: Any) -> Any:
        epochs = np.arange(1, len(values) + 1)
        style |= {"color": COLOURS[k % 6], "marker": MARKERS[k % len(MARKERS)], "markersize": 4}
        (line,) = ax.plot(epochs, values, label=name.replace("_", " "), **style)
        return line
