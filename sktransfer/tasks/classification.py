"""Classification: one of several classes, or any of several labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from scipy.special import expit, softmax
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import assert_all_finite
from torch import Tensor
from torch.nn import functional

from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.arrays import tensor_to_array
from sktransfer.samples.columns import is_tensor
from sktransfer.samples.labels import row_labels
from sktransfer.tasks.base import NOTHING_KNOWN, Targets, Task, relative_weights
from sktransfer.tasks.criterion import Criterion
from sktransfer.tasks.head_init import linear_head, linear_input, probe_strength, standardize, write_linear
from sktransfer.tasks.heads import FeatureHead
from sktransfer.tasks.labels import (
    column_names,
    label_factors,
    refuse_label_lists,
    warn_of_many_classes,
    warn_of_one_hot,
)
from sktransfer.tasks.validation import as_labels, check_none_missing, many_classes_allowed

__all__ = ["Multiclass", "MultilabelIndicator", "balances", "check_labels", "classification_task"]

ClassWeight = Mapping[Any, float] | Sequence[Mapping[Any, float]] | str | None


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
    refuse_label_lists(y)
    shape = np.asarray(y).shape
    if len(shape) == 2 and shape[1] > 1:
        raise ValueError(
            f"y should be a 1d array, got an array of shape {shape} instead: several columns are several labels only "
            "if they hold 0 and 1; for several classes, fit a classifier per column (sklearn.multioutput)"
        )
    labels: np.ndarray = as_labels(y)
    if labels.dtype.names:
        raise ValueError(f"y has dtype {labels.dtype}; select one field, y[{labels.dtype.names[0]!r}]")
    check_none_missing(labels, "y", "label", labels=row_labels(y))
    assert_all_finite(labels, input_name="y")
    _check_label_types(labels)
    with many_classes_allowed():
        check_classification_targets(labels)
    return labels


def _check_label_types(labels: np.ndarray) -> None:
    """Raise if labels are of a type, or of several types, that scikit-learn calls unknown without naming it."""
    is_text = [isinstance(label, str) for label in labels] if labels.dtype == object else [True]
    if any(is_text) and all(is_text):
        return
    if not any(is_text) and type_of_target(labels, input_name="y") != "unknown":
        return
    kinds = sorted({type(label).__name__ for label in labels})
    raise ValueError(
        f"Unknown label type: y holds objects of type {' and '.join(kinds)}; labels are str, int or bool, and all of "
        f"one type: pass {_conversion(labels)}"
    )


def _conversion(labels: np.ndarray) -> str:
    """Return the expression that converts labels of an array of objects."""
    for kind, name in ((bool, "bool"), (int, "int")):
        if all(isinstance(label, (kind, np.bool_ if kind is bool else np.integer)) for label in labels):
            return f"y.astype({name})"
    return "[str(label) for label in y]"


def classification_task(
    y: Any, class_weight: ClassWeight = None, label_smoothing: float = 0.0, criterion: Criterion | None = None
) -> Task:
    """Return the task that y asks for.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Labels, or an indicator matrix.
    class_weight : dict or "balanced", default=None
        Weight of each class.
    label_smoothing : float, default=0.0
        Share of each target that is spread evenly over the classes.
    criterion : Criterion, default=None
        Loss of outputs and targets; None for the cross entropy.

    Raises
    ------
    ValueError
        If y holds lists of different lengths.

    Warns
    -----
    TargetWarning
        If each row of an indicator matrix has exactly one label.

    Examples
    --------
    >>> from sktransfer.tasks.classification import classification_task
    >>> classification_task(["a", "b"]).kind, classification_task([[0, 1], [1, 1]]).kind
    ('multiclass', 'multilabel-indicator')
    """
    given, y = y, _dense(y)
    refuse_label_lists(y)
    shape = np.asarray(y).shape
    # A single column is labels of one task, and type_of_target rejects the NaN that it may hold.
    if len(shape) == 2 and shape[1] > 1 and type_of_target(y, input_name="y") == "multilabel-indicator":
        warn_of_one_hot(given, np.asarray(y))
        return MultilabelIndicator(class_weight, label_smoothing, criterion=criterion)
    return Multiclass(class_weight, label_smoothing, criterion=criterion)


def _dense(y: Any) -> Any:
    if is_tensor(y):
        return tensor_to_array(y)
    return y.toarray() if issparse(y) else y


class _Classification(Task):
    """Parameters and head of both kinds of classification."""

    score_name = "acc"

    def __init__(
        self,
        class_weight: ClassWeight = None,
        label_smoothing: float = 0.0,
        classes: np.ndarray | None = None,
        criterion: Criterion | None = None,
    ) -> None:
        if criterion is not None:
            self.criterion = criterion
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
    criterion : Criterion, default=None
        Loss of logits and class indices; None for the cross entropy.
    """

    kind = "multiclass"
    stratifies = True

    def check(self, y: Any) -> np.ndarray:
        """Return labels (n_samples,)."""
        try:
            labels = check_labels(_dense(y))
        except ValueError as error:
            if not str(error).startswith("Unknown label type: continuous"):
                raise
            raise ValueError(f"{error} For numbers use FineTuneRegressor.") from error
        if self.classes is None:
            warn_of_many_classes(labels, np.unique(labels))
        return labels

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return class indices (n_samples,), and weights with those of the classes in them."""
        codes = self.encode_labels(y)
        if self.class_weight is not None:
            weight = weight * self._class_factors(y)
        return Targets(codes, weight)  # (n_samples,) each

    def unknown(self, n_samples: int) -> Targets:
        """Return the index of the first class, of zero weight (n_samples,)."""
        if self.classes is None:
            raise ValueError(NOTHING_KNOWN)
        return Targets(np.zeros(n_samples, np.int64), np.zeros(n_samples))

    def encode_labels(self, y: np.ndarray) -> np.ndarray:
        """Return class indices (n_samples,). The first call sets the classes, unless they are given.

        Parameters
        ----------
        y : ndarray of shape (n_samples,)
            Labels.

        Raises
        ------
        ValueError
            If there is one class only, or a label is not among the classes.
        """
        classes = np.unique(y) if self.classes is None else self.classes
        if len(classes) < 2:
            given = "y" if self.classes is None else "classes"
            raise ValueError(
                f"{given} holds one class only, {classes.tolist()[0]!r}; a classifier needs two or more to tell apart"
            )
        unexpected = np.setdiff1d(y, classes)
        if len(unexpected):
            raise ValueError(
                f"y holds {unexpected.tolist()}, which are not among the classes of the training, {classes.tolist()}"
            )
        self.classes = classes
        return np.searchsorted(classes, y).astype(np.int64)

    def _class_factors(self, y: np.ndarray) -> np.ndarray:
        """Return the factor of each sample (n_samples,)."""
        assert self.classes is not None
        return _class_factors(self.class_weight, self.classes, y)

    def init_head(
        self, head: Any, features: np.ndarray, targets: Targets, how: str, choice: LayerChoice | None = None
    ) -> HeadStrength | None:
        """Write a logistic regression or the class means into a head."""
        standardize(head, features, targets.weight, choice)
        if how == "random":
            return None
        read, strength, C = linear_input(head, features), None, 1.0  # (n_samples, width)
        if how == "probe":
            strength, C = probe_strength(read, self.choice_targets(targets), targets.weight, choice)
        write_linear(head, *linear_head(read, targets.values, targets.weight, head.n_outputs, how, C))
        return strength

    def choice_targets(self, targets: Targets) -> ChoiceTargets:
        """Return one-hot labels of the classes that there are."""
        return ChoiceTargets.of_classes(targets.values)

    def strata(self, targets: Targets) -> np.ndarray:
        """Return whether each row has each class, (n_samples, n_classes)."""
        assert self.classes is not None
        members: np.ndarray = targets.values[:, None] == np.arange(len(self.classes))  # (n_samples, n_classes)
        return members & (targets.weight > 0)[:, None]

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the cross entropy of each row, or the loss of the criterion, (n,)."""
        assert outputs is not None
        if self.criterion is not None:
            return self.criterion.rows(outputs, targets)
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


def balances(class_weight: Any) -> bool:
    """Return whether class weights are "balanced"."""
    return isinstance(class_weight, str) and class_weight == "balanced"


def _class_factors(class_weight: Any, classes: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the factor of each sample (n_samples,). A dict may weigh classes that y lacks."""
    if isinstance(class_weight, Mapping):
        by_class = compute_class_weight(dict(class_weight), classes=classes, y=classes)  # (n_classes,)
        factors = np.asarray(by_class[np.searchsorted(classes, y)])
    else:
        factors = np.asarray(compute_sample_weight(class_weight, y))
    if not (np.isfinite(factors).all() and (factors >= 0).all() and factors.any()):
        raise InvalidParameterError(
            f"class_weight={class_weight!r} must hold finite numbers of at least 0, not all of them 0"
        )
    return factors


class MultilabelIndicator(_Classification):
    """Any number of labels per sample, each on its own.

    Parameters
    ----------
    class_weight : "balanced" or list of dict, default=None
        Weights of the values of each label, as `label_factors` takes them.
    label_smoothing : float, default=0.0
        How far targets are moved from 0 and 1 towards 0.5, as a share of the distance to the uniform distribution.
    classes : ndarray of shape (n_labels,), default=None
        Labels of the columns; None for their numbers.
    criterion : Criterion, default=None
        Loss of logits and indicators; None for the binary cross entropy.
    """

    kind = "multilabel-indicator"
    label_names: list[str] | None = None  # of the first data frame
    factors: np.ndarray | None = None  # of the loss of each label, absent or present: (2, n_labels)

    def check(self, y: Any) -> np.ndarray:
        """Return an array (n_samples, n_labels). Columns must have the names of the first call."""
        refuse_label_lists(_dense(y))
        names = column_names(y)
        if names is not None and self.label_names not in (None, names):
            raise ValueError(f"y has the columns {names}, and the first y had {self.label_names}, in this order")
        self.label_names = names or self.label_names
        matrix: np.ndarray = np.asarray(_dense(y))
        if matrix.ndim != 2:
            raise ValueError(
                f"y has shape {matrix.shape}; an indicator matrix has one row per sample and one column per label"
            )
        return matrix

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return indicators (n_samples, n_labels) of 0 and 1, float32."""
        if self.classes is not None and len(self.classes) != y.shape[1]:
            raise ValueError(f"y has {y.shape[1]} columns, and classes are {self.classes.tolist()}")
        names: Sequence[Any] = self.label_names or range(y.shape[1])
        for name, column in zip(names, y.T):
            if len(np.setdiff1d(column, [0, 1])):
                raise ValueError(
                    f"column {name!r} of y holds {np.unique(column).tolist()}; an indicator matrix holds 0 and 1: give "
                    "(np.asarray(y) > 0).astype(int), if that is what its values mean"
                )
        self.classes = np.arange(y.shape[1])
        if self.class_weight is not None and self.factors is None:
            self.factors = label_factors(self.class_weight, y, weight, names)
        return Targets((y != 0).astype(np.float32), weight)  # (n_samples, n_labels), (n_samples,)

    def unknown(self, n_samples: int) -> Targets:
        """Return indicators of no label, of zero weight (n_samples, n_labels)."""
        if self.classes is None:
            raise ValueError(NOTHING_KNOWN)
        return Targets(np.zeros((n_samples, len(self.classes)), np.float32), np.zeros(n_samples))

    def init_head(
        self, head: Any, features: np.ndarray, targets: Targets, how: str, choice: LayerChoice | None = None
    ) -> HeadStrength | None:
        """Write one binary classifier per label into a head. They share one strength."""
        standardize(head, features, targets.weight, choice)
        if how == "random":
            return None
        read, strength, C = linear_input(head, features), None, 1.0  # (n_samples, width)
        if how == "probe":
            strength, C = probe_strength(read, self.choice_targets(targets), targets.weight, choice)
        columns = [self._column_head(read, targets, label, how, C) for label in range(targets.values.shape[1])]
        weight = np.stack([weight[1] - weight[0] for weight, _ in columns])  # (n_labels, width)
        bias = np.stack([bias[1] - bias[0] for _, bias in columns])  # (n_labels,)
        write_linear(head, weight, bias)
        return strength

    def choice_targets(self, targets: Targets) -> ChoiceTargets:
        """Return the indicators."""
        return ChoiceTargets(targets.values.astype(np.float64), 2)

    def strata(self, targets: Targets) -> np.ndarray:
        """Return whether each row has each label, and whether it has none, (n_samples, n_labels + 1)."""
        members = targets.values > 0  # (n_samples, n_labels)
        members = np.concatenate([members, ~members.any(1, keepdims=True)], axis=1)  # (n_samples, n_labels + 1)
        return members & (targets.weight > 0)[:, None]

    def _column_head(
        self, read: np.ndarray, targets: Targets, label: int, how: str, C: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return weight (2, width) and bias (2,) of the classifier of one label."""
        column, weight = targets.values[:, label].astype(np.int64), targets.weight  # (n_samples,) each
        if self.factors is None:
            return linear_head(read, column, weight, 2, how, C)
        weight = relative_weights(weight * self.factors[column, label])  # (n_samples,)
        rows = np.flatnonzero(weight)
        if not len(rows):
            return np.zeros((2, read.shape[1])), np.zeros(2)
        return linear_head(read[rows], column[rows], weight[rows], 2, how, C)

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the weighted mean of the binary cross entropies of each row's labels, or of the criterion, (n,)."""
        assert outputs is not None
        if self.criterion is not None:
            losses = self.criterion(outputs, targets)  # (n, n_labels) or (n,)
        else:
            smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / 2  # (n, n_labels)
            losses = functional.binary_cross_entropy_with_logits(outputs, smooth, reduction="none")  # (n, n_labels)
        if self.factors is not None:
            if losses.ndim == 1:
                raise InvalidParameterError(
                    f"class_weight={self.class_weight!r} weighs labels, and criterion returns one loss per row; return "
                    "one per row and label, or leave class_weight out"
                )
            absent, present = torch.as_tensor(self.factors, dtype=torch.float32, device=losses.device)  # (n_labels,)
            losses = losses * torch.where(targets > 0, present, absent)  # (n, n_labels)
        return losses if losses.ndim == 1 else losses.mean(1)  # (n,)

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
