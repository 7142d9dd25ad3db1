"""Nearest class mean by cosine similarity, for few samples per class."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.preprocessing import normalize
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer._utils import all_or_nothing
from sktransfer.classifiers.cosine import SCALE, CosineClassifier, check_scale, mean_direction
from sktransfer.samples.labels import row_labels
from sktransfer.tasks.validation import as_array, check_none_missing, check_weight

__all__ = ["NearestClassMean"]


class NearestClassMean(CosineClassifier, BaseEstimator):
    """Predict the class whose mean feature vector has the highest cosine similarity.

    One sample per class is enough, and there are no hyperparameters to tune. Features are scaled to length 1 and
    averaged, and the means are scaled to length 1. Features of images are all positive and point in similar directions.
    Centre them first with `StandardScaler(with_std=False)` [1]_.

    Parameters
    ----------
    scale : float, default=20.0
        Factor of the cosines before the softmax. Higher values give more confident probabilities and do not change
        predictions.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    means_ : ndarray of shape (n_classes, n_features)
        The mean of each class, of length 1.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    ContrastiveFineTuner : Fine-tunes features for this classifier on few samples.
    sklearn.neighbors.NearestCentroid : Uses the Euclidean distance, with feature selection. Its probabilities divide by
        the deviation of each feature within classes, which requires more samples than classes, and many samples to be
        accurate.
    ZeroShotClassifier : Uses descriptions of the classes instead of samples.

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

    @all_or_nothing
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Compute the mean of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Labels of any type.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample. Only ratios of weights matter. A sample of weight 0 is ignored.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If `scale` is not allowed.
        ValueError
            If y has not one label per sample, or holds one class only.
        """
        check_scale(self.scale)
        _refuse_texts(X)
        if y is not None:
            check_none_missing(as_array(y, "y"), "y", "label", labels=row_labels(y))
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        weight = check_weight(sample_weight, len(X))
        rows = weight > 0
        classes = np.unique(y[rows])
        if len(classes) < 2:
            raise ValueError(f"y holds one class only, {classes.tolist()}; pass samples of at least two classes")
        members = [rows & (y == label) for label in classes]
        self.classes_ = classes
        self.means_ = np.stack([mean_direction(X[mask], weight[mask]) for mask in members])  # (n_classes, n_features)
        return self

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        cosines: np.ndarray = normalize(X) @ self.means_.T  # (n_samples, n_classes)
        return check_scale(self.scale) * cosines


def _refuse_texts(X: Any) -> None:
    """Raise an error if X is a list or a column of strings, such as texts or paths."""
    values = X if isinstance(X, (list, tuple)) else getattr(X, "to_numpy", lambda: X)()
    if not isinstance(values, (list, tuple, np.ndarray)) or np.ndim(values[:1]) == 0 or not len(values):
        return
    first = values[0]
    if isinstance(first, np.ndarray) and first.shape == (1,) and first.dtype == object:
        first = first[0]
    if isinstance(first, str):
        raise ValueError(
            f"X holds strings, such as {first[:60]!r}, and this estimator takes vectors. Put a featurizer before it: "
            "make_pipeline(TextFeaturizer(), NearestClassMean()), or ImageFeaturizer() for paths of images"
        )
