"""What steps gain, and when they diverge, as the learning rate rises."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktransfer.displays.axes import COLOURS, axes_for, finish
from sktransfer.exceptions import InvalidParameterError
from sktransfer.finetuning.base import FineTuneBase
from sktransfer.finetuning.find_lr import find_lr
from sktransfer.training.lr_finder import LearningRates

__all__ = ["LearningRateDisplay"]

_ROOM = 0.35  # of the curve's height that is left above it: what diverges goes out of sight


class LearningRateDisplay:
    """What a batch's loss has changed by since the start, against a rising learning rate, and the rate proposed.

    Parameters
    ----------
    rates : array-like of shape (n_steps,)
        One a step.
    changes : array-like of shape (n_steps,)
        Of each step's batch: its loss, less what it was under the weights of the start.
    smoothed : array-like of shape (n_steps,)
        Their running mean.
    lr : float
        The rate to mark.

    Attributes
    ----------
    ax_ : Axes
        Where it is drawn.
    figure_ : Figure
        What that is part of.
    line_ : Line2D
        The smoothed change.

    See Also
    --------
    find_lr : What finds the rate.

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
        """Draw what `find_lr` has found, or a `fit` with `lr="find"`.

        Parameters
        ----------
        found : LearningRates, FineTuneClassifier or FineTuneRegressor
            As `find_lr` returns it; or an estimator that was fitted with `lr="find"`.
        ax : Axes, default=None
            None makes a figure.

        Raises
        ------
        InvalidParameterError
            If the estimator was fitted at a rate that was given.
        """
        if isinstance(found, LearningRates):
            lr, curve = found.lr, found.curve
        else:
            check_is_fitted(found)
            if not hasattr(found, "lr_curve_"):
                raise InvalidParameterError(
                    f"this {type(found).__name__} was fitted with lr={found.lr!r} and max_epochs={found.max_epochs}, "
                    "and no rates were tried; fit it with lr='find' and an epoch or more, or give what find_lr returns"
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
        """Try rising rates on a clone of an estimator, and draw what comes out.

        Parameters
        ----------
        estimator : FineTuneClassifier or FineTuneRegressor
            With the parameters that it is to be trained with; not changed.
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts.
        lowest, highest, n_steps
            As `find_lr` takes them.
        ax : Axes, default=None
            None makes a figure.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed, of the estimator as well.
        """
        found = find_lr(estimator, X, y, sample_weight, lowest=lowest, highest=highest, n_steps=n_steps)
        return cls.from_finder(found, ax=ax)

    def plot(self, ax: Any = None, *, color: str = COLOURS[0]) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            None makes a figure.
        color : str, default="#0072B2"
            Of the curve; the proposed rate has a colour of its own.
        """
        self.ax_ = axes_for(ax)
        self.figure_ = self.ax_.figure
        self.ax_.scatter(self.rates, self.changes, s=12, color=color, alpha=0.5, linewidths=0, label="a batch")
        (self.line_,) = self.ax_.plot(self.rates, self.smoothed, color=color, label="smoothed")
        self.ax_.axvline(self.lr, color=COLOURS[1], linestyle="--", label=f"proposed: {self.lr:.2g}")
        self.ax_.set_xscale("log")
        self._limit()
        self.ax_.set_xlabel("learning rate")
        self.ax_.set_ylabel("change of the loss since the start")
        finish(self.ax_)
        self.ax_.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
        return self

    def _limit(self) -> None:
        """Show the fall; what has risen above the start for good may leave the picture as well."""
        if not np.isfinite(self.smoothed).any():
            return
        lowest = int(np.nanargmin(self.smoothed))
        self.ax_.plot(self.rates[lowest], self.smoothed[lowest], "o", fillstyle="none", color=self.line_.get_color())
        seen = np.concatenate([self.changes, self.smoothed[: lowest + 1]])
        low, top = np.nanmin(seen), np.nanmax(self.smoothed[: lowest + 1])
        height = max(top - low, 0.2 * abs(low), 1e-12)  # a loss that never fell has a picture, too
        self.ax_.set_ylim(low - 0.1 * height, top + _ROOM * height)
