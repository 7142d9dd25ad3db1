"""Labels as a network learns them, and its outputs as labels: one of several classes, or any of several labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import assert_all_finite
from torch import nn

from sktransfer.exceptions import InvalidParameterError
from sktransfer.finetuning.base import FineTuneBase
from sktransfer.training.optimisation import MultiLabelBCE
from sktransfer.training.validation import check_none_missing

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from sktransfer.training.settings import Settings

__all__ = ["Labelling", "check_labels"]


def check_labels(y: Any) -> np.ndarray:
    """Return labels of one task, (n_samples,).

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of any kind.

    Raises
    ------
    ValueError
        If one is missing, or they are no labels.
    """
    labels: np.ndarray = column_or_1d(y, warn=True)
    if labels.dtype == object:  # of numbers scikit-learn says so in its own words
        check_none_missing(labels, "y", "label")
    assert_all_finite(labels, input_name="y")
    check_classification_targets(labels)
    return labels


def _shape(y: Any) -> tuple[int, ...]:
    try:
        return np.asarray(y).shape
    except ValueError as error:  # rows of different length
        raise ValueError(
            "y holds lists of different length; several labels a sample are an indicator matrix: "
            "sklearn.preprocessing.MultiLabelBinarizer().fit_transform(y)"
        ) from error


class Labelling(ClassifierMixin, FineTuneBase):
    """The part of a classifier that knows of labels."""

    class_weight: Any
    _known: np.ndarray | None  # the classes that `partial_fit` was told of

    def decision_function(self, X: Any) -> np.ndarray:
        """Return logits (n_samples, n_classes); for two classes their difference (n_samples,).

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        """
        logits = self._outputs(X)
        return logits[:, 1] - logits[:, 0] if self._task == "classes" and len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class (n_samples, n_classes), in the order of `classes_`.

        Where several labels may hold, each has a probability of its own, and they do not sum to one.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        """
        logits = self._outputs(X)
        probabilities: np.ndarray = softmax(logits, axis=1) if self._task == "classes" else expit(logits)
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each sample, (n_samples,), or an indicator matrix (n_samples, n_labels).

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        """
        logits = self._outputs(X)
        if self._task == "labels":
            indicators: np.ndarray = (logits > 0).astype(np.int64)  # (n_samples, n_labels)
            return indicators
        labels: np.ndarray = self.classes_[logits.argmax(1)]
        return labels

    def _check_y(self, y: Any) -> np.ndarray:
        y = y.toarray() if issparse(y) else y
        # A single column is labels of one task, and type_of_target stumbles over the NaN that it may hold.
        shape = _shape(y)
        if len(shape) == 2 and shape[1] > 1 and type_of_target(y, input_name="y") == "multilabel-indicator":
            self._task = "labels"
            return np.asarray(y)
        self._task = "classes"
        return check_labels(y)

    def _targets(self, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._task == "labels":
            return self._indicators(y), weight
        classes = np.unique(y) if self._known is None else self._known
        if len(classes) < 2:
            raise ValueError(
                f"y holds one class only, {classes.tolist()[0]!r}; a classifier needs two or more to tell apart"
            )
        strange = np.setdiff1d(y, classes)
        if len(strange):
            raise ValueError(f"y holds {strange.tolist()}, and the first call of partial_fit named {classes.tolist()}")
        self.classes_ = classes
        if self.class_weight is not None:
            weight = weight * compute_sample_weight(self.class_weight, y)
        indices: np.ndarray = np.searchsorted(classes, y).astype(np.int64)  # (n_samples,)
        return indices, weight

    def _indicators(self, y: np.ndarray) -> np.ndarray:
        if self.class_weight is not None:
            raise InvalidParameterError(
                f"class_weight={self.class_weight!r} weighs classes of which one holds, and y is an indicator matrix; "
                "weigh samples by sample_weight"
            )
        if self._known is not None and len(self._known) != y.shape[1]:
            raise ValueError(f"y has {y.shape[1]} columns, and classes are {self._known.tolist()}")
        self.classes_ = np.arange(y.shape[1])
        strange = np.setdiff1d(y, [0, 1])
        if len(strange):
            raise ValueError(
                f"y holds {np.unique(y).tolist()}; an indicator matrix holds 0 and 1: give (y > 0).astype(int), if "
                "that is what its values mean"
            )
        indicators: np.ndarray = (y != 0).astype(np.float32)  # (n_samples, n_labels)
        return indicators

    def _criterion(self, settings: Settings) -> nn.Module:
        if self._task == "labels":
            return MultiLabelBCE(settings.label_smoothing)
        return nn.CrossEntropyLoss(reduction="none", label_smoothing=settings.label_smoothing)

    def _n_outputs(self) -> int:
        return len(self.classes_)

    def _units(self) -> tuple[Any, ...]:
        return (self.classes_,)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
