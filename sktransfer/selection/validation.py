"""Validation of features and targets for transferability scores.

The parameter `target` of public functions says "classes", "numbers" or "multilabel". Inside this package, targets are
called what scikit-learn's `type_of_target` calls them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sktransfer._validation import check_option
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.labels import row_labels
from sktransfer.tasks.validation import as_array, check_none_missing, check_numbers, holds_dates

__all__ = ["TARGET_TYPES", "check_features", "encode_labels", "encode_targets", "resolve_target_type"]

# Value of the public parameter `target` -> word of scikit-learn's `type_of_target`.
TARGET_TYPES = {"classes": "multiclass", "numbers": "continuous", "multilabel": "multilabel-indicator"}
_DIMENSIONS = {"multiclass": (1,), "continuous": (1, 2), "multilabel-indicator": (2,)}


def check_features(features: Any) -> np.ndarray:
    """Return features as a float64 array, because sums over thousands of samples lose digits in float32.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Features to check.

    Returns
    -------
    features : ndarray of shape (n_samples, n_features), float64

    Raises
    ------
    InvalidParameterError
        If the array is not two-dimensional, is empty, or contains NaN or infinity.
    """
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2 or not array.size:
        raise InvalidParameterError(f"features of shape {array.shape} must be (n_samples, n_features), not empty")
    if not np.isfinite(array).all():
        raise InvalidParameterError("features must be finite: a backbone that overflows needs precision='float32'")
    return array


def encode_labels(y: Any, n_samples: int) -> tuple[np.ndarray, int]:
    """Return labels as indices into the sorted classes, and the number of classes.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels.
    n_samples : int
        Number of samples expected.

    Returns
    -------
    labels : ndarray of shape (n_samples,), int
    n_classes : int

    Raises
    ------
    InvalidParameterError
        If there is not one label per sample, a label is missing, or there are fewer than two classes.
    """
    labels = np.asarray(y)
    if labels.shape != (n_samples,):
        raise InvalidParameterError(f"y of shape {labels.shape} must hold one label for each of {n_samples} samples")
    try:
        check_none_missing(labels, "y", "label", labels=row_labels(y))
    except ValueError as error:
        raise InvalidParameterError(str(error)) from error
    classes, indices = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InvalidParameterError("y holds one class only: a score needs samples of at least two classes")
    return indices, len(classes)


def encode_targets(y: Any, n_samples: int, target: str = "auto") -> tuple[np.ndarray, str]:
    """Return targets as columns of floats, and their type. Labels are one-hot encoded.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Targets.
    n_samples : int
        Number of samples expected.
    target : {"auto", "classes", "numbers", "multilabel"}, default="auto"
        As in `resolve_target_type`.

    Returns
    -------
    targets : ndarray of shape (n_samples, n_targets)
    target_type : {"multiclass", "continuous", "multilabel-indicator"}

    Raises
    ------
    InvalidParameterError
        If there is not one finite target per sample, or there are fewer than two classes.
    """
    target_type = resolve_target_type(y, target)
    if target_type == "multiclass":
        labels, n_classes = encode_labels(y, n_samples)
        return np.eye(n_classes)[labels], target_type  # (n_samples, n_classes)
    targets = np.asarray(y, dtype=np.float64)
    targets = targets[:, None] if targets.ndim == 1 else targets  # (n_samples, n_targets)
    if len(targets) != n_samples or not np.isfinite(targets).all():
        raise InvalidParameterError(f"y of shape {targets.shape} must hold finite numbers for {n_samples} samples")
    return targets, target_type


def resolve_target_type(y: Any, target: str = "auto") -> str:
    """Return the type of targets in the words of scikit-learn's `type_of_target`, with "binary" as "multiclass".

    `type_of_target` itself raises an error for NaN, which here is left to `encode_targets`, and calls columns of whole
    numbers "multiclass-multioutput", for which no score is defined.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Targets.
    target : {"auto", "classes", "numbers", "multilabel"}, default="auto"
        Meaning of y. "auto" reads whole numbers as classes, as scikit-learn does, columns of 0 and 1 as several labels
        per sample, and other numbers as continuous.

    Returns
    -------
    target_type : {"multiclass", "continuous", "multilabel-indicator"}

    Raises
    ------
    InvalidParameterError
        If `target` is not allowed, or targets of this type cannot have the shape of y.

    Examples
    --------
    >>> from sktransfer.selection.validation import resolve_target_type
    >>> resolve_target_type(["ant", "bee"]), resolve_target_type([0.5, 1.25])
    ('multiclass', 'continuous')
    >>> resolve_target_type([[0, 1], [1, 1]])
    'multilabel-indicator'
    """
    check_option("target", target, ("auto", *TARGET_TYPES))
    array = as_array(y, "y")
    if (target == "auto" and holds_dates(array)) or (target == "numbers" and array.dtype.kind not in "biuf"):
        try:
            check_numbers(y, "y", "target")  # dates and strings are no numbers, although NumPy can convert them
        except ValueError as error:
            raise InvalidParameterError(str(error)) from error
    if target != "auto":
        if array.ndim not in _DIMENSIONS[TARGET_TYPES[target]]:
            raise InvalidParameterError(f"y of shape {array.shape} cannot hold target={target!r}")
        return TARGET_TYPES[target]
    if array.ndim == 1:
        whole = array.dtype.kind != "f" or bool(np.isfinite(array).all() and (array == np.round(array)).all())
        return "multiclass" if whole else "continuous"
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise InvalidParameterError(
            f"y of shape {array.shape} and type {array.dtype} cannot be scored: pass labels (n_samples,), or numbers "
            "(n_samples,) or (n_samples, n_targets)"
        )
    return "multilabel-indicator" if np.isin(array, (0, 1)).all() else "continuous"
