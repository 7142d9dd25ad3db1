"""The referee of scores: a linear model on a layer's features, cross-validated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer.exceptions import InvalidParameterError

__all__ = ["Probe", "make_probe"]

Probe = Callable[[np.ndarray, np.ndarray], np.ndarray]


def make_probe(asked: Any, cv: Any, kind: str, rng: np.random.RandomState) -> Probe | None:
    """Return what gives the scores of each fold for features and targets; None where no probe is asked for.

    Parameters
    ----------
    asked : bool or estimator
        True for a linear model on features of variance one: logistic, or ridge for numbers.
    cv : int or splitter
        Folds; an int draws them once, the same for all layers, with each class's share kept.
    kind : {"classes", "numbers", "multilabel"}
        What the targets are.
    rng : RandomState
        Draws the folds.

    Raises
    ------
    InvalidParameterError
        If it is neither.
    """
    if asked is False:
        return None
    if asked is not True and not hasattr(asked, "fit"):
        raise InvalidParameterError(f"probe={asked!r} must be True, False or an estimator")
    estimator = _linear(kind) if asked is True else asked
    if isinstance(cv, int) and not isinstance(cv, bool):
        splitter = StratifiedKFold if kind == "classes" else KFold
        try:
            cv = splitter(cv, shuffle=True, random_state=rng.randint(np.iinfo(np.int32).max))
        except ValueError as error:
            raise InvalidParameterError(f"cv={cv!r}: {error}") from error

    def scores(features: np.ndarray, y: np.ndarray) -> np.ndarray:
        found: np.ndarray = cross_val_score(clone(estimator), features, y, cv=cv, error_score="raise")
        return found

    return scores


def _linear(kind: str) -> Any:
    if kind == "numbers":
        return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 7)))
    logistic = LogisticRegression(C=0.1, max_iter=1000)
    return make_pipeline(StandardScaler(), logistic if kind == "classes" else MultiOutputClassifier(logistic))
