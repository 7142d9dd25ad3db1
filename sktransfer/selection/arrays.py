"""What scores take: features and targets as arrays, and which kind the targets are of."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktransfer.exceptions import InvalidParameterError

__all__ = ["KINDS", "as_features", "as_labels", "as_targets", "kind_of"]

KINDS = ("classes", "numbers", "multilabel")


def as_features(features: Any) -> np.ndarray:
    """Return features as float64 (n_samples, n_features): sums over thousands of samples outgrow float32.

    Raises
    ------
    InvalidParameterError
        If they are no such array, or not finite.
    """
    found = np.asarray(features, dtype=np.float64)
    if found.ndim != 2 or not found.size:
        raise InvalidParameterError(f"features of shape {found.shape} must be (n_samples, n_features), not empty")
    if not np.isfinite(found).all():
        raise InvalidParameterError("features must be finite: a backbone that overflows needs precision='float32'")
    return found


def as_labels(y: Any, n_samples: int) -> tuple[np.ndarray, int]:
    """Return labels as places among the sorted labels (n_samples,), and how many labels there are.

    Raises
    ------
    InvalidParameterError
        If they are not one a sample, or all the same.
    """
    labels = np.asarray(y)
    if labels.shape != (n_samples,):
        raise InvalidParameterError(f"y of shape {labels.shape} must hold one label for each of {n_samples} samples")
    classes, places = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InvalidParameterError("y holds one class only: there is nothing to tell apart")
    return places, len(classes)


def as_targets(y: Any, n_samples: int, target: str = "auto") -> tuple[np.ndarray, str]:
    """Return targets as numbers (n_samples, n_targets), and their kind.

    Labels become a column of 0 and 1 for each class.

    Parameters
    ----------
    y : array-like
        The targets.
    n_samples : int
        How many samples there are.
    target : str, default="auto"
        As in `kind_of`.

    Raises
    ------
    InvalidParameterError
        If they do not belong to the samples, or labels are all the same.
    """
    kind = kind_of(y, target)
    if kind == "classes":
        labels, n_classes = as_labels(y, n_samples)
        return np.eye(n_classes)[labels], kind  # (n_samples, n_classes)
    targets = np.asarray(y, dtype=np.float64)
    targets = targets[:, None] if targets.ndim == 1 else targets  # (n_samples, n_targets)
    if len(targets) != n_samples or not np.isfinite(targets).all():
        raise InvalidParameterError(f"y of shape {targets.shape} must hold finite numbers for {n_samples} samples")
    return targets, kind


def kind_of(y: Any, target: str = "auto") -> str:
    """Return what targets are: "classes", "numbers", or "multilabel" (columns of 0 and 1).

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        The targets.
    target : {"auto", "classes", "numbers", "multilabel"}, default="auto"
        "auto" takes whole numbers for classes, as scikit-learn does, and columns of 0 and 1 for several labels a
        sample; anything else is what the caller knows.

    Raises
    ------
    InvalidParameterError
        If they are of no shape that such targets have.

    Examples
    --------
    >>> from sktransfer.selection.arrays import kind_of
    >>> kind_of(["ant", "bee"]), kind_of([0.5, 1.25]), kind_of([[0, 1], [1, 1]])
    ('classes', 'numbers', 'multilabel')
    """
    if target not in ("auto", *KINDS):
        raise InvalidParameterError(f"target={target!r} must be 'auto' or one of {KINDS}")
    targets = np.asarray(y)
    if target != "auto" and targets.ndim in {"classes": (1,), "numbers": (1, 2), "multilabel": (2,)}[target]:
        return target
    if target != "auto":
        raise InvalidParameterError(f"y of shape {targets.shape} cannot hold target={target!r}")
    if targets.ndim == 1:
        whole = targets.dtype.kind != "f" or bool(np.isfinite(targets).all() and (targets == np.round(targets)).all())
        return "classes" if whole else "numbers"
    if targets.ndim != 2 or targets.dtype.kind not in "biuf":
        raise InvalidParameterError(f"y of shape {targets.shape} and type {targets.dtype} is no target that is scored")
    return "multilabel" if np.isin(targets, (0, 1)).all() else "numbers"
