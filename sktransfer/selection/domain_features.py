"""Features of fitted classifiers, by which two domains are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.metadata_routing import get_routing_for_object

__all__ = ["domain_arguments", "innermost", "read_features"]


def domain_arguments(estimator: Any, method: str, sample_domain: np.ndarray) -> dict[str, Any]:
    """Return the arguments by which a method of an adapted estimator tells domains apart, if it takes any.

    The steps of skada change samples of a source otherwise than those of a target. Without these arguments they take
    all samples as target, or refuse those of a source.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator.
    method : str
        Name of the method, such as "predict".
    sample_domain : ndarray of shape (n_samples,)
        Domain of each sample.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sktransfer.selection.domain_features import domain_arguments
    >>> domain_arguments(LogisticRegression(), "predict", np.array([1, -1]))
    {}
    """
    arguments = {"sample_domain": sample_domain, "allow_source": True}
    taken = get_routing_for_object(estimator).consumes(method, list(arguments))
    return {name: arguments[name] for name in taken}


def innermost(estimator: Any) -> Any:
    """Return the last step of pipelines and the best estimator of searches, or the estimator itself.

    Steps of skada wrap an estimator, which is returned if they are fitted.

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
        elif hasattr(estimator, "base_estimator_"):
            estimator = estimator.base_estimator_
        else:
            return estimator


def read_features(estimator: Any, X: Any, sample_domain: np.ndarray) -> np.ndarray:
    """Return the features that the last part of a fitted classifier reads.

    Those of a fine-tuned estimator are what its head reads, standardized. Those of a pipeline of other steps are what
    the last step reads. Those of another classifier are X.

    Parameters
    ----------
    estimator : classifier
        Fitted classifier, pipeline or search.
    X : array-like of n_samples
        Samples.
    sample_domain : ndarray of shape (n_samples,)
        Domain of each sample.

    Returns
    -------
    features : ndarray of shape (n_samples, n_features), float64

    Raises
    ------
    ValueError
        If the last step reads no table of finite numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import TextFeaturizer
    >>> from sktransfer.selection.domain_features import read_features
    >>> clf = make_pipeline(TextFeaturizer("tiny/bert", layer=-1), LogisticRegression()).fit(["good", "bad"], [1, 0])
    >>> read_features(clf, ["a fine film"], np.array([-1])).shape
    (1, 160)
    """
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            if len(estimator.steps) > 1:
                before = estimator[:-1]
                X = before.transform(X, **domain_arguments(before, "transform", sample_domain))
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
