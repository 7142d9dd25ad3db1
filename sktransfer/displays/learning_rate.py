"""Plot of a learning rate range test."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktransfer.displays.axes import COLOURS, resolve_axes, style_axes
from sktransfer.exceptions import InvalidParameterError
from sktransfer.finetuning.base import FineTuneBase
from sktransfer.finetuning.find_lr import find_lr
from sktransfer.training.lr_finder import LearningRates

__all__ = ["LearningRateDisplay"]

_HEADROOM = 0.35  # space above the curve as a fraction of its height, above which losses are cut off


class LearningRateDisplay:
    """Plot of the change in loss against a rising learning rate, with the proposed rate.

    Parameters
    ----------
    rates : array-like of shape (n_steps,)
        Learning rate per step.
    changes : array-like of shape (n_steps,)
        Loss of each step's batch, minus the loss of this batch under the initial weights.
    smoothed : array-like of shape (n_steps,)
        Running mean of the changes.
    lr : float
        Learning rate to mark.

    Attributes
    ----------
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure of the axes.
    line_ : Line2D
        Line of the smoothed changes.

    See Also
    --------
    find_lr : Find a learning rate.

    Examples
    --------
    >>> from sktransfer.displays.learning_rate import LearningRateDisplay
    >>> display = LearningRateDisplay([1e-4, 1e-3, 1e-2], [-0.1, -0.8, 9.0], [-0.1, -0.4, 4.0], lr=1e-4).plot()
    >>> display.ax_.get_xlabel()
    'learning rate'
    """

    def __init__(self, rates: Any, changes: Any, smoothed: Any, lr: float) -> None:
        self.rates = np.asarray(rates, dtype=float)
        self.changes = np.asarray(changes, dtype=float)
        self.smoothed = np.asarray(smoothed, dtype=float)
        self.lr = float(lr)

    @classmethod
    def from_finder(cls, found: LearningRates | FineTuneBase, *, ax: Any = None) -> Self:
        """Draw the result of `find_lr`, or of a `fit` with `lr="find"`.

        Parameters
        ----------
        found : LearningRates, FineTuneClassifier or FineTuneRegressor
            Result of `find_lr`, or an estimator fitted with `lr="find"`.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.

        Raises
        ------
        InvalidParameterError
            If the estimator was fitted with a given learning rate.
        """
        if isinstance(found, LearningRates):
            lr, curve = found.lr, found.curve
        else:
            check_is_fitted(found)
            if not hasattr(found, "lr_curve_"):
                raise InvalidParameterError(
                    f"this {type(found).__name__} was fitted with lr={found.lr!r} and max_epochs={found.max_epochs}, "
                    "and no rates were tried; fit it with lr='find' and an epoch or more, or pass the result of find_lr"
                )
            lr, curve = found.lr_, found.lr_curve_
        return cls(curve["lr"], curve["change"], curve["smoothed"], float(lr)).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        lowest: float = 1e-6,
        highest: float = 1.0,
        n_steps: int = 60,
        ax: Any = None,
    ) -> Self:
        """Run `find_lr` on a clone of an estimator, and draw the result.

        Parameters
        ----------
        estimator : FineTuneClassifier or FineTuneRegressor
            Estimator with the parameters of the later training. It is cloned.
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        lowest, highest, n_steps
            As in `find_lr`.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.

        Raises
        ------
        InvalidParameterError
            If a parameter of this method or of the estimator is not allowed.
        """
        result = find_lr(estimator, X, y, sample_weight, lowest=lowest, highest=highest, n_steps=n_steps)
        return cls.from_finder(result, ax=ax)

    def plot(self, ax: Any = None, *, color: str = COLOURS[0]) -> Self:
        """Draw the plot.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on. None creates a figure.
        color : str, default="#0072B2"
            Colour of the curve. The proposed rate has its own colour.
        """
        self.ax_ = resolve_axes(ax)
        self.figure_ = self.ax_.figure
        self.ax_.scatter(self.rates, self.changes, s=12, color=color, alpha=0.5, linewidths=0, label="a batch")
        (self.line_,) = self.ax_.plot(self.rates, self.smoothed, color=color, label="smoothed")
        self.ax_.axvline(self.lr, color=COLOURS[1], linestyle="--", label=f"proposed: {self.lr:.2g}")
        self.ax_.set_xscale("log")
        self._set_limits()
        self.ax_.set_xlabel("learning rate")
        self.ax_.set_ylabel("change of the loss since the start")
        style_axes(self.ax_)
        self.ax_.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
        return self

    def _set_limits(self) -> None:
        """Fit the vertical axis to the curve up to its minimum, and cut off later losses that diverge."""
        if not np.isfinite(self.smoothed).any():
            return
        lowest = int(np.nanargmin(self.smoothed))
        self.ax_.plot(self.rates[lowest], self.smoothed[lowest], "o", fillstyle="none", color=self.line_.get_color())
        visible = np.concatenate([self.changes, self.smoothed[: lowest + 1]])
        low, top = np.nanmin(visible), np.nanmax(self.smoothed[: lowest + 1])
        height = max(top - low, 0.2 * abs(low), 1e-12)  # not 0 for a loss that never falls
        self.ax_.set_ylim(low - 0.1 * height, top + _HEADROOM * height)
