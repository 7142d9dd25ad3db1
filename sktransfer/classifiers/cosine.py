"""Classifiers that know each class by one vector, and take for a sample's class the vector it points at best."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import normalize

from sktransfer.exceptions import InvalidParameterError

__all__ = ["SCALE", "CosineClassifier", "check_scale", "mean_direction"]

SCALE = 20.0  # what encoders of sentences multiply cosines by while they are trained


def check_scale(scale: Any) -> float:
    """Return `scale` where it is a number greater than 0.

    Raises
    ------
    InvalidParameterError
        If it is not.
    """
    if isinstance(scale, bool) or not isinstance(scale, Real) or not 0 < float(scale) < float("inf"):
        raise InvalidParameterError(f"scale={scale!r} must be a number greater than 0")
    return float(scale)


def mean_direction(vectors: np.ndarray, sample_weight: np.ndarray | None = None) -> np.ndarray:
    """Return the vector of length 1 that vectors point at on average, whatever their lengths.

    Parameters
    ----------
    vectors : ndarray of shape (n, n_features)
    sample_weight : ndarray of shape (n,), default=None
        How much each counts.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.classifiers.cosine import mean_direction
    >>> mean_direction(np.array([[3.0, 0.0], [0.0, 1.0]])).round(2).tolist()
    [0.71, 0.71]
    """
    mean = np.average(normalize(vectors), axis=0, weights=sample_weight)  # (n_features,)
    unit: np.ndarray = normalize(mean[None])[0]  # (n_features,)
    return unit


class CosineClassifier(ClassifierMixin):
    """The part of such a classifier that predicts; subclasses have `classes_` and know the cosines."""

    classes_: Any

    def _scores(self, X: Any) -> np.ndarray:
        """Return the scaled cosine of each sample and each class, (n_samples, n_classes)."""
        raise NotImplementedError

    def decision_function(self, X: Any) -> np.ndarray:
        """Return cosines times scale (n_samples, n_classes); for two classes their difference (n_samples,).

        Parameters
        ----------
        X : array-like of n_samples
            What `fit` takes.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class (n_samples, n_classes), in the order of `classes_`.

        It is the softmax of cosines times scale.

        Parameters
        ----------
        X : array-like of n_samples
            What `fit` takes.
        """
        probabilities: np.ndarray = softmax(self._scores(X), axis=1)
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each sample, (n_samples,).

        Parameters
        ----------
        X : array-like of n_samples
            What `fit` takes.
        """
        nearest = self._scores(X).argmax(1)  # (n_samples,)
        labels: np.ndarray = self.classes_[nearest]
        return labels
