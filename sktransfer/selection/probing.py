"""Linear probe: a cross-validated linear model on the features of a layer."""

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

from sktransfer._validation import is_int
from sktransfer.exceptions import InvalidParameterError

__all__ = ["Probe", "make_probe", "shuffled_folds"]

Probe = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (features, y) -> scores of shape (n_folds,)


def make_probe(probe: Any, cv: Any, target_type: str, rng: np.random.RandomState) -> Probe | None:
    """Return a function that cross-validates the probe on features and targets, or None without a probe.

    Parameters
    ----------
    probe : bool or estimator
        True for a linear model on standardised features: logistic regression, or ridge regression for continuous
        targets.
    cv : int or splitter
        Folds. An int draws them once, stratified by class, and all layers share them.
    target_type : {"multiclass", "continuous", "multilabel-indicator"}
        Type of the targets.
    rng : RandomState
        Generator that draws the folds.

    Raises
    ------
    InvalidParameterError
        If `probe` is neither a bool nor an estimator, or `cv` is too small.
    """
    if probe is False:
        return None
    if probe is not True and not hasattr(probe, "fit"):
        raise InvalidParameterError(f"probe={probe!r} must be True, False or an estimator")
    estimator = _linear_model(target_type) if probe is True else probe
    if is_int(cv):
        cv = shuffled_folds(cv, rng, stratify=target_type == "multiclass")

    def cross_validate(features: np.ndarray, y: np.ndarray) -> np.ndarray:
        scores: np.ndarray = cross_val_score(clone(estimator), features, y, cv=cv, error_score="raise")
        return scores

    return cross_validate


def shuffled_folds(n_splits: int, rng: np.random.RandomState, *, stratify: bool) -> KFold | StratifiedKFold:
    """Return a splitter that shuffles the samples.

    Parameters
    ----------
    n_splits : int
        Number of folds, the value of the parameter `cv`.
    rng : RandomState
        Generator that draws the folds.
    stratify : bool
        Whether folds keep the ratio of the classes.

    Raises
    ------
    InvalidParameterError
        If `n_splits` is too small.
    """
    splitter = StratifiedKFold if stratify else KFold
    try:
        return splitter(n_splits, shuffle=True, random_state=rng.randint(np.iinfo(np.int32).max))
    except ValueError as error:
        raise InvalidParameterError(f"cv={n_splits!r}: {error}") from error


def _linear_model(target_type: str) -> Any:
    if target_type == "continuous":
        return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 7)))
    logistic = LogisticRegression(C=0.1, max_iter=1000)
    return make_pipeline(StandardScaler(), logistic if target_type == "multiclass" else MultiOutputClassifier(logistic))
