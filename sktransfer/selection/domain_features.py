"""Features of fitted classifiers, by which two domains are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

__all__ = ["innermost", "read_features"]


def innermost(estimator: Any) -> Any:
    """Return the last step of pipelines and the best estimator of searches, or the estimator itself.

    Parameters
    ----------
    estimator : estimator
        Estimator, fitted or not.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sktransfer.selection.domain_features import innermost
    >>> innermost(make_pipeline(StandardScaler(), LogisticRegression()))
    LogisticRegression()
    """
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        else:
            return estimator


def read_features(estimator: Any, X: Any) -> np.ndarray:
    """Return the features that the last part of a fitted classifier reads.

    Those of a fine-tuned estimator are what its head reads, standardized. Those of a pipeline of other steps are what
    the last step reads. Those of another classifier are X.

    Parameters
    ----------
    estimator : classifier
        Fitted classifier, pipeline or search.
    X : array-like of n_samples
        Samples.

    Returns
    -------
    features : ndarray of shape (n_samples, n_features), float64

    Raises
    ------
    ValueError
        If the last step reads no table of finite numbers.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import TextFeaturizer
    >>> from sktransfer.selection.domain_features import read_features
    >>> clf = make_pipeline(TextFeaturizer("tiny/bert", layer=-1), LogisticRegression()).fit(["good", "bad"], [1, 0])
    >>> read_features(clf, ["a fine film"]).shape
    (1, 160)
    """
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            X = estimator[:-1].transform(X) if len(estimator.steps) > 1 else X
            estimator = estimator.steps[-1][1]
        else:
            break
    if hasattr(estimator, "_head_inputs"):
        X = estimator._head_inputs(X)  # (n_samples, n_features)
    features = X.toarray() if issparse(X) else np.asarray(X)
    is_table = features.ndim == 2 and features.dtype.kind in "biuf" and np.isfinite(features).all()
    if not is_table:
        form = f"an array of shape {features.shape} and type {features.dtype}"
        raise ValueError(
            f"{type(estimator).__name__} reads {form}, and domains are compared by a table of finite features: those "
            "of a fine-tuned estimator, or what the last step of a pipeline reads, as in "
            "make_pipeline(TextFeaturizer(), LogisticRegression()). 'im', 'snd', 'entropy', 'circular' and 'mano' need "
            "no features"
        )
    return np.asarray(features, dtype=np.float64)
