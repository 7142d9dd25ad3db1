"""Classification: one of several classes, or any of several labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit, softmax
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import assert_all_finite
from torch import Tensor
from torch.nn import functional

from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.arrays import tensor_to_array
from sktransfer.samples.columns import is_tensor
from sktransfer.samples.labels import row_labels
from sktransfer.tasks.base import Targets, Task
from sktransfer.tasks.head_init import linear_head, linear_input, standardize, write_linear
from sktransfer.tasks.heads import FeatureHead
from sktransfer.tasks.validation import as_labels, check_none_missing

__all__ = ["Multiclass", "MultilabelIndicator", "check_labels", "classification_task"]

ClassWeight = Mapping[Any, float] | str | None


def check_labels(y: Any) -> np.ndarray:
    """Return labels of one task, (n_samples,).

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of any type.

    Raises
    ------
    ValueError
        If a label is missing, or y holds no labels.
    """
    labels: np.ndarray = as_labels(y)
    check_none_missing(labels, "y", "label", labels=row_labels(y))
    assert_all_finite(labels, input_name="y")
    _check_label_types(labels)
    check_classification_targets(labels)
    return labels


def _check_label_types(labels: np.ndarray) -> None:
    """Raise if labels are of a type, or of several types, that scikit-learn calls unknown without naming it."""
    if labels.dtype.names:
        raise ValueError(f"y has dtype {labels.dtype}; select one field, y[{labels.dtype.names[0]!r}]")
    if labels.dtype != object or type_of_target(labels, input_name="y") != "unknown":
        return
    kinds = sorted({type(label).__name__ for label in labels})
    raise ValueError(
        f"Unknown label type: y holds objects of type {' and '.join(kinds)}; labels are str, int or bool, and all of "
        "one type: pass [str(label) for label in y]"
    )


def classification_task(y: Any, class_weight: ClassWeight = None, label_smoothing: float = 0.0) -> Task:
    """Return the task that y asks for.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Labels, or an indicator matrix.
    class_weight : dict or "balanced", default=None
        Weight of each class.
    label_smoothing : float, default=0.0
        Share of each target that is spread evenly over the classes.

    Raises
    ------
    ValueError
        If y holds lists of different lengths.

    Examples
    --------
    >>> from sktransfer.tasks.classification import classification_task
    >>> classification_task(["a", "b"]).kind, classification_task([[0, 1], [1, 1]]).kind
    ('multiclass', 'multilabel-indicator')
    """
    y = _dense(y)
    try:
        shape = np.asarray(y).shape
    except ValueError as error:  # rows of different length
        raise ValueError(
            "y holds lists of different length; several labels per sample are an indicator matrix: "
            "sklearn.preprocessing.MultiLabelBinarizer().fit_transform(y)"
        ) from error
    # A single column is labels of one task, and type_of_target rejects the NaN that it may hold.
    if len(shape) == 2 and shape[1] > 1 and type_of_target(y, input_name="y") == "multilabel-indicator":
        return MultilabelIndicator(class_weight, label_smoothing)
    return Multiclass(class_weight, label_smoothing)


def _dense(y: Any) -> Any:
    if is_tensor(y):
        return tensor_to_array(y)
    return y.toarray() if issparse(y) else y


class _Classification(Task):
    """Parameters and head of both kinds of classification."""

    def __init__(
        self, class_weight: ClassWeight = None, label_smoothing: float = 0.0, classes: np.ndarray | None = None
    ) -> None:
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.classes = classes  # given by the first call of partial_fit, else found by encode

    def make_head(self, n_features: int, n_mixed: int | None = None) -> FeatureHead:
        """Return a linear head with one output per class."""
        assert self.classes is not None
        return FeatureHead(n_features, len(self.classes), n_mixed)

    def score(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Return the accuracy; of an indicator matrix the share of rows that are right in all labels."""
        return float(accuracy_score(y_true, y_pred, sample_weight=sample_weight))


class Multiclass(_Classification):
    """One of two or more classes per sample.

    Parameters
    ----------
    class_weight : dict or "balanced", default=None
        Weight of each class.
    label_smoothing : float, default=0.0
        Share of each target that is spread evenly over the classes.
    classes : ndarray of shape (n_classes,), default=None
        All classes, sorted; None for those in y.
    """

    kind = "multiclass"
    stratifies = True

    def check(self, y: Any) -> np.ndarray:
        """Return labels (n_samples,)."""
        return check_labels(_dense(y))

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return class indices (n_samples,), and weights with those of the classes in them."""
        classes = np.unique(y) if self.classes is None else self.classes
        if len(classes) < 2:
            raise ValueError(
                f"y holds one class only, {classes.tolist()[0]!r}; a classifier needs two or more to tell apart"
            )
        unexpected = np.setdiff1d(y, classes)
        if len(unexpected):
            raise ValueError(
                f"y holds {unexpected.tolist()}, and the first call of partial_fit named {classes.tolist()}"
            )
        self.classes = classes
        if self.class_weight is not None:
            weight = weight * compute_sample_weight(self.class_weight, y)
        return Targets(np.searchsorted(classes, y).astype(np.int64), weight)  # (n_samples,) each

    def init_head(self, head: Any, features: np.ndarray, targets: Targets, how: str) -> None:
        """Write a logistic regression or the class means into a head."""
        standardize(head, features, targets.weight)
        if how != "random":
            read = linear_input(head, features)  # (n_samples, width)
            write_linear(head, *linear_head(read, targets.values, targets.weight, head.n_outputs, how))

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the cross entropy of each row, (n,)."""
        assert outputs is not None
        return functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=self.label_smoothing)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the most probable label per sample, (n_samples,)."""
        assert self.classes is not None
        labels: np.ndarray = self.classes[outputs.argmax(1)]
        return labels

    def decode_proba(self, outputs: np.ndarray) -> np.ndarray:
        """Return probabilities (n_samples, n_classes) that sum to one per row."""
        return np.asarray(softmax(outputs, axis=1))

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        """Return logits (n_samples, n_classes); for two classes their difference (n_samples,)."""
        assert self.classes is not None
        difference: np.ndarray = outputs[:, 1] - outputs[:, 0] if len(self.classes) == 2 else outputs
        return difference

    def output_classes(self, n_outputs: int) -> np.ndarray:
        """Return the class indices."""
        return np.arange(n_outputs)

    def output_probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return probabilities (n_samples, n_classes)."""
        return self.decode_proba(outputs)

    def output_predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Return class indices (n_samples,)."""
        return np.asarray(outputs.argmax(1))


class MultilabelIndicator(_Classification):
    """Any number of labels per sample, each on its own.

    Parameters
    ----------
    class_weight : None
        Not allowed: samples may be weighted by `sample_weight`.
    label_smoothing : float, default=0.0
        How far targets are moved from 0 and 1 towards 0.5, as a share of the distance to the uniform distribution.
    classes : ndarray of shape (n_labels,), default=None
        Labels of the columns; None for their numbers.
    """

    kind = "multilabel-indicator"

    def check(self, y: Any) -> np.ndarray:
        """Return an array (n_samples, n_labels)."""
        matrix: np.ndarray = np.asarray(_dense(y))
        if matrix.ndim != 2:
            raise ValueError(
                f"y has shape {matrix.shape}; an indicator matrix has one row per sample and one column per label"
            )
        return matrix

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return indicators (n_samples, n_labels) of 0 and 1, float32."""
        if self.class_weight is not None:
            raise InvalidParameterError(
                f"class_weight={self.class_weight!r} weighs classes that exclude each other, and y is an indicator "
                "matrix; weigh samples by sample_weight"
            )
        if self.classes is not None and len(self.classes) != y.shape[1]:
            raise ValueError(f"y has {y.shape[1]} columns, and classes are {self.classes.tolist()}")
        unexpected = np.setdiff1d(y, [0, 1])
        if len(unexpected):
            raise ValueError(
                f"y holds {np.unique(y).tolist()}; an indicator matrix holds 0 and 1: give "
                "(np.asarray(y) > 0).astype(int), if that is what its values mean"
            )
        self.classes = np.arange(y.shape[1])
        return Targets((y != 0).astype(np.float32), weight)  # (n_samples, n_labels), (n_samples,)

    def init_head(self, head: Any, features: np.ndarray, targets: Targets, how: str) -> None:
        """Write one binary classifier per label into a head."""
        standardize(head, features, targets.weight)
        if how == "random":
            return
        read = linear_input(head, features)  # (n_samples, width)
        columns = [linear_head(read, column.astype(np.int64), targets.weight, 2, how) for column in targets.values.T]
        weight = np.stack([weight[1] - weight[0] for weight, _ in columns])  # (n_labels, width)
        bias = np.stack([bias[1] - bias[0] for _, bias in columns])  # (n_labels,)
        write_linear(head, weight, bias)

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the mean binary cross entropy of each row's labels, (n,)."""
        assert outputs is not None
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / 2  # (n, n_labels)
        return functional.binary_cross_entropy_with_logits(outputs, smooth, reduction="none").mean(1)  # (n,)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return an indicator matrix (n_samples, n_labels)."""
        indicators: np.ndarray = (outputs > 0).astype(np.int64)  # (n_samples, n_labels)
        return indicators

    def decode_proba(self, outputs: np.ndarray) -> np.ndarray:
        """Return the probability of each label (n_samples, n_labels); rows do not sum to one."""
        return np.asarray(expit(outputs))

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        """Return logits (n_samples, n_labels)."""
        return outputs

    def output_classes(self, n_outputs: int) -> list[np.ndarray]:
        """Return the two classes of each label."""
        return [np.arange(2)] * n_outputs

    def output_probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return probabilities (n_samples, n_labels)."""
        return self.decode_proba(outputs)

    def output_predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Return an indicator matrix (n_samples, n_labels)."""
        return (self.decode_proba(outputs) > 0.5).astype(np.int64)
