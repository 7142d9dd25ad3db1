"""Plot of a score against the freeze depth."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from sktransfer._validation import is_int, is_real
from sktransfer.displays.axes import COLOURS, labels_of, resolve_axes, style_axes
from sktransfer.exceptions import FreezingWarning, InvalidParameterError, warn

__all__ = ["FreezeDepthDisplay"]


class FreezeDepthDisplay:
    """Plot of a score against the freeze depth, with the standard deviation over folds.

    Parameters
    ----------
    depths : sequence of int, float or str
        Freeze depths, in the order of the axis.
    mean, deviation : array-like of shape (n_depths,)
        Mean and standard deviation of the score.
    score_name : str, default="score"
        Label of the vertical axis.
    parameter : str, default="freeze_depth"
        Name of the parameter whose values `depths` are.

    Warns
    -----
    FreezingWarning
        If the int 1, which freezes one stage, stands among fractions, where 1.0 would freeze all.

    Attributes
    ----------
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure of the axes.

    Examples
    --------
    >>> from sktransfer.displays.freeze_depth import FreezeDepthDisplay
    >>> display = FreezeDepthDisplay([0, -1, "all"], [0.80, 0.91, 0.88], [0.02, 0.01, 0.02], "accuracy").plot()
    >>> display.ax_.get_ylabel()
    'accuracy'
    """

    def __init__(
        self,
        depths: Sequence[Any],
        mean: Any,
        deviation: Any,
        score_name: str = "score",
        parameter: str = "freeze_depth",
    ) -> None:
        self.depths = list(depths)
        self.mean, self.deviation = np.asarray(mean, dtype=float), np.asarray(deviation, dtype=float)
        self.score_name, self.parameter = score_name, parameter
        if parameter == "freeze_depth":
            _warn_of_one(self.depths)

    @classmethod
    def from_cv_results(
        cls, cv_results: Any, *, parameter: str = "freeze_depth", score_name: str = "score", ax: Any = None
    ) -> Self:
        """Draw the results of a search over freeze depths.

        Parameters
        ----------
        cv_results : dict or fitted search
            Fitted `GridSearchCV`, or its `cv_results_`. If other parameters were searched too, each depth shows its
            best candidate.
        parameter : str, default="freeze_depth"
            Name in the grid, with or without the names of enclosing steps.
        score_name : str, default="score"
            Label of the vertical axis.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.

        Raises
        ------
        InvalidParameterError
            If the search did not vary that parameter.
        """
        results: Mapping[str, Any] = getattr(cv_results, "cv_results_", cv_results)
        candidates: list[Mapping[str, Any]] = list(results["params"])
        searched = sorted({name for candidate in candidates for name in candidate})
        names = [name for name in searched if f"__{name}".endswith(f"__{parameter}")]
        if len(names) != 1:
            raise InvalidParameterError(f"parameter={parameter!r} was not searched; choose from {searched}")
        best: dict[Any, tuple[Any, int]] = {}
        means = np.asarray(results["mean_test_score"], dtype=float)
        ranks = np.where(np.isnan(means), -np.inf, means)  # candidates whose fit failed come last
        # The columns "param_..." are no source: scikit-learn casts them to one type, which makes 1 out of 1.0.
        for row, candidate in enumerate(candidates):
            if names[0] not in candidate:  # of another grid
                continue
            depth = candidate[names[0]]
            depth = depth.item() if isinstance(depth, np.generic) else depth
            key = (type(depth).__name__, depth if isinstance(depth, Hashable) else repr(depth))
            if key not in best or ranks[row] > ranks[best[key][1]]:
                best[key] = depth, row
        rows = [row for _, row in best.values()]
        deviation = np.asarray(results["std_test_score"])[rows]
        name = parameter.rpartition("__")[2]
        return cls([depth for depth, _ in best.values()], means[rows], deviation, score_name, name).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        depths: Sequence[Any] = (0, 0.5, -1, "all"),
        cv: Any = 3,
        scoring: Any = None,
        ax: Any = None,
    ) -> Self:
        """Cross-validate an estimator at several freeze depths, and draw the scores.

        Parameters
        ----------
        estimator : FineTuneClassifier or FineTuneRegressor
            Estimator to clone.
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,)
            Targets.
        depths : sequence, default=(0, 0.5, -1, "all")
            Values of `freeze_depth`.
        cv : int or splitter, default=3
            Folds.
        scoring : str or callable, default=None
            Scorer. None is the estimator's `score`.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.
        """
        scores = [
            cross_val_score(
                clone(estimator).set_params(freeze_depth=depth), X, y, cv=cv, scoring=scoring, error_score="raise"
            )
            for depth in depths
        ]
        name = scoring if isinstance(scoring, str) else "score"
        return cls(depths, np.mean(scores, axis=1), np.std(scores, axis=1), name).plot(ax=ax)

    def plot(self, ax: Any = None, *, name: str | None = None, color: str = COLOURS[0]) -> Self:
        """Draw the plot.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on. None creates a figure. Several curves with the same depths can share axes.
        name : str, default=None
            Label of the curve in the legend.
        color : str, default="#0072B2"
            Colour of the curve.
        """
        self.ax_ = resolve_axes(ax)
        self.figure_ = self.ax_.figure
        positions = range(len(self.depths))
        self.ax_.errorbar(positions, self.mean, yerr=self.deviation, marker="o", capsize=4, color=color, label=name)
        if np.isfinite(self.mean).any():
            best = int(np.nanargmax(self.mean))
            self.ax_.plot(best, self.mean[best], marker="o", markersize=13, fillstyle="none", color=color)
        self.ax_.set_xticks(positions, labels_of(self.depths))
        hint = " (0 trains all stages, 'all' freezes all)" if self.parameter == "freeze_depth" else ""
        self.ax_.set_xlabel(self.parameter + hint)
        self.ax_.set_ylabel(self.score_name)
        self.ax_.margins(x=0.08, y=0.15)
        style_axes(self.ax_)
        if name is not None:
            self.ax_.legend(frameon=False)
        return self


def _warn_of_one(depths: Sequence[Any]) -> None:
    """Warn if the int 1 is among fractions, and 1.0 is not. [0, 0.5, 1] suggests all stages."""
    fractions = [depth for depth in depths if is_real(depth) and not is_int(depth)]
    if fractions and 1.0 not in fractions and any(is_int(depth) and depth == 1 for depth in depths):
        warn(
            f"freeze_depth=1 among {depths} freezes one stage, because an int counts stages. If all stages were meant, "
            "as the fractions suggest, write 1.0 or 'all'",
            FreezingWarning,
        )
