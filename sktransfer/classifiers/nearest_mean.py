"""A classifier for features of few samples: a class is the mean of those that are known of it."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.preprocessing import normalize
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from sktransfer.classifiers.cosine import SCALE, CosineClassifier, check_scale, mean_direction

__all__ = ["NearestClassMean"]


class NearestClassMean(CosineClassifier, BaseEstimator):
    """Give a sample the class whose mean is nearest, by the cosine of features.

    One sample a class is enough, and nothing is to be chosen. Features are scaled to length 1, averaged, and the means
    scaled to length 1. Features of images are all positive and point much the same way: a
    `StandardScaler(with_std=False)` before it takes off what they have in common [1]_.

    Parameters
    ----------
    scale : float, default=20.0
        What cosines are multiplied by before the softmax: the greater, the surer the probabilities; what is predicted
        does not depend on it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    means_ : ndarray of shape (n_classes, n_features)
        The mean of each class, of length 1.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    ContrastiveFineTuner : Features for it, shaped by a few samples.
    sklearn.neighbors.NearestCentroid : By Euclidean distance, with feature selection. Its probabilities divide by the
        deviation of each feature within classes, which needs more samples than classes, and many to be right.
    ZeroShotClassifier : The same by descriptions in place of samples.

    References
    ----------
    .. [1] Y. Wang et al., "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning", 2019.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import NearestClassMean, TextFeaturizer
    >>> clf = make_pipeline(TextFeaturizer("tiny/bert"), NearestClassMean())
    >>> clf.fit(["what a moving, funny film", "two hours of dull nothing"], ["up", "down"])  # doctest: +ELLIPSIS
    Pipeline(...)
    >>> clf.predict(["a funny film, and so moving"]).tolist()
    ['up']
    """

    def __init__(self, *, scale: float = SCALE) -> None:
        self.scale = scale

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Take the mean of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Labels of any kind.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; 0 is its absence.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If `scale` is not allowed.
        ValueError
            If y does not fit X or holds one class only.
        """
        check_scale(self.scale)
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        rows = weight > 0
        classes = np.unique(y[rows])
        if len(classes) < 2:
            raise ValueError(
                f"y holds one class only, {classes.tolist()}; a classifier needs two classes or more to tell apart"
            )
        of_class = [rows & (y == label) for label in classes]
        self.classes_ = classes
        self.means_ = np.stack([mean_direction(X[one], weight[one]) for one in of_class])  # (n_classes, n_features)
        return self

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        cosines: np.ndarray = normalize(X) @ self.means_.T  # (n_samples, n_classes)
        return check_scale(self.scale) * cosines
