"""Base class of classifiers that compare features with one vector per class by cosine similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import normalize

from sktransfer._validation import is_real
from sktransfer.exceptions import InvalidParameterError

__all__ = ["SCALE", "CosineClassifier", "check_scale", "mean_direction"]

SCALE = 20.0  # factor of cosines in the training loss of sentence encoders


def check_scale(scale: Any) -> float:
    """Return `scale` as a float.

    Raises
    ------
    InvalidParameterError
        If it is not a finite number greater than 0.
    """
    if not is_real(scale) or not 0 < float(scale) < float("inf"):
        raise InvalidParameterError(f"scale={scale!r} must be a number greater than 0")
    return float(scale)


def mean_direction(vectors: np.ndarray, sample_weight: np.ndarray | None = None) -> np.ndarray:
    """Return the mean direction of vectors, of length 1. The lengths of the vectors do not count.

    Parameters
    ----------
    vectors : ndarray of shape (n, n_features)
        Vectors to average.
    sample_weight : ndarray of shape (n,), default=None
        Weight of each vector.

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
    """Prediction from scaled cosines. Subclasses have `classes_` and implement `_scores`."""

    classes_: Any

    def _scores(self, X: Any) -> np.ndarray:
        """Return the scaled cosine of each sample and each class (n_samples, n_classes)."""
        raise NotImplementedError

    def decision_function(self, X: Any) -> np.ndarray:
        """Return cosines times scale (n_samples, n_classes). For two classes, return their difference (n_samples,).

        Parameters
        ----------
        X : array-like of n_samples
            Samples of the kind that `fit` accepts.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores  # (n_samples,) for two classes

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class (n_samples, n_classes), in the order of `classes_`.

        Probabilities are the softmax of cosines times scale.

        Parameters
        ----------
        X : array-like of n_samples
            Samples of the kind that `fit` accepts.
        """
        probabilities: np.ndarray = softmax(self._scores(X), axis=1)
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each sample (n_samples,).

        Parameters
        ----------
        X : array-like of n_samples
            Samples of the kind that `fit` accepts.
        """
        nearest = self._scores(X).argmax(1)  # (n_samples,)
        labels: np.ndarray = self.classes_[nearest]
        return labels
