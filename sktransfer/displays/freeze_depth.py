"""Plot of a score against the freeze depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from sktransfer.displays.axes import COLOURS, resolve_axes, style_axes
from sktransfer.exceptions import InvalidParameterError

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

    def __init__(self, depths: Sequence[Any], mean: Any, deviation: Any, score_name: str = "score") -> None:
        self.depths = list(depths)
        self.mean, self.deviation = np.asarray(mean, dtype=float), np.asarray(deviation, dtype=float)
        self.score_name = score_name

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
        keys = [key for key in results if key.startswith("param_") and f"__{key[6:]}".endswith(f"__{parameter}")]
        if len(keys) != 1:
            searched = sorted(key.removeprefix("param_") for key in results if key.startswith("param_"))
            raise InvalidParameterError(f"parameter={parameter!r} was not searched; choose from {searched}")
        best: dict[Any, int] = {}
        means = np.asarray(results["mean_test_score"])
        for row, depth in enumerate(results[keys[0]]):
            depth = depth.item() if isinstance(depth, np.generic) else depth
            key = (type(depth).__name__, depth)  # 1 freezes one stage, 1.0 all stages
            if key not in best or means[row] > means[best[key]]:
                best[key] = row
        rows = list(best.values())
        deviation = np.asarray(results["std_test_score"])[rows]
        return cls([depth for _, depth in best], means[rows], deviation, score_name).plot(ax=ax)

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
        best = int(np.argmax(self.mean))
        self.ax_.plot(best, self.mean[best], marker="o", markersize=13, fillstyle="none", color=color)
        self.ax_.set_xticks(positions, [repr(depth) if isinstance(depth, str) else str(depth) for depth in self.depths])
        self.ax_.set_xlabel("freeze_depth (0 trains all stages, 'all' freezes all)")
        self.ax_.set_ylabel(self.score_name)
        self.ax_.margins(x=0.08, y=0.15)
        style_axes(self.ax_)
        if name is not None:
            self.ax_.legend(frameon=False)
        return self
