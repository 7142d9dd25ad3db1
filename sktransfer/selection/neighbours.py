"""k nearest neighbours, each sample left out in turn: a score that is an accuracy."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.arrays import as_features, as_labels, as_targets, kind_of

__all__ = ["knn"]

_BLOCK = 1024  # samples whose distances to all others are in memory at once


def knn(features: Any, y: Any, *, k: int = 5, distance: str = "cosine", target: str = "auto") -> float:
    """Return how well each sample's k nearest among the others tell its target.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        What a stage gives, pooled.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Labels, numbers, or columns of 0 and 1 for several labels a sample.
    k : int, default=5
        How many neighbours; all others where there are fewer.
    distance : {"cosine", "euclidean"}, default="cosine"
        What near means.
    target : {"auto", "classes", "numbers", "multilabel"}, default="auto"
        What y holds: "auto" takes whole numbers for classes, and columns of 0 and 1 for several labels a sample.

    Returns
    -------
    score : float
        For labels the accuracy of the majority (where m labels have as many votes, each counts as 1 / m), for columns
        of 0 and 1 the mean of their accuracies, for numbers R² of the mean.

    Raises
    ------
    InvalidParameterError
        If the arrays do not belong together, y holds one class only, or a parameter is not allowed.

    Notes
    -----
    Equal samples are each other's neighbours: a set with repeated samples scores too high.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection.transferability import knn
    >>> knn([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], ["a", "a", "b", "b"], k=1)
    1.0
    """
    Z = as_features(features)
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise InvalidParameterError(f"k={k!r} must be an int of at least 1")
    if distance not in ("cosine", "euclidean"):
        raise InvalidParameterError(f"distance={distance!r} must be 'cosine' or 'euclidean'")
    if len(Z) < 2:
        raise InvalidParameterError("one sample has no neighbours: give at least two")
    if kind_of(y, target) == "classes":
        labels, n_classes = as_labels(y, len(Z))
        near = _neighbours(Z, min(int(k), len(Z) - 1), distance)  # (n_samples, k)
        return _accuracy(np.eye(n_classes)[labels[near]].sum(1), labels)
    targets, kind = as_targets(y, len(Z), target)
    near = _neighbours(Z, min(int(k), len(Z) - 1), distance)  # (n_samples, k)
    if kind == "multilabel":
        ones = targets[near].sum(1)  # (n_samples, n_targets)
        scores = [_accuracy(np.stack([near.shape[1] - n, n], 1), t.astype(int)) for n, t in zip(ones.T, targets.T)]
        return float(np.mean(scores))
    residual = ((targets - targets[near].mean(1)) ** 2).sum(0)  # (n_targets,)
    total = ((targets - targets.mean(0)) ** 2).sum(0)
    return float(np.mean(1 - residual / np.where(total > 0, total, 1)))


def _accuracy(votes: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy of the majority among votes (n_samples, n_classes); ties are shared."""
    first = votes == votes.max(1, keepdims=True)
    return float((first[np.arange(len(labels)), labels] / first.sum(1)).mean())


def _neighbours(Z: np.ndarray, k: int, distance: str) -> np.ndarray:
    """Return the k nearest others of each sample, (n_samples, k)."""
    if distance == "cosine":
        lengths = np.linalg.norm(Z, axis=1, keepdims=True)
        Z = Z / np.where(lengths > 0, lengths, 1)
    else:
        Z = Z - Z.mean(0)  # what all share would cost digits
    halves = (Z**2).sum(1) / 2
    near = np.empty((len(Z), k), np.intp)
    for start in range(0, len(Z), _BLOCK):
        block = Z[start : start + _BLOCK]
        closeness = block @ Z.T - halves  # (block, n_samples): minus half of the squared distance, but for a constant
        closeness[np.arange(len(block)), start + np.arange(len(block))] = -np.inf
        near[start : start + len(block)] = np.argpartition(-closeness, k - 1, axis=1)[:, :k]
    return near
