"""Transferability scores of features: H-score, LogME and k nearest neighbours.

None of them trains a model. Larger is better. A score is not an accuracy, except for `knn`: it compares layers and
backbones on the same samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sktransfer._validation import check_int, check_option, is_real
from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.validation import check_features, encode_labels, encode_targets, resolve_target_type

__all__ = ["h_score", "knn", "logme"]

# LogME maximises over t, the ratio alpha / beta.
_GRID = np.linspace(-14, 10, 97)  # log10 of t divided by the largest eigenvalue
_GOLDEN = (5**0.5 - 1) / 2
_STEPS = 40  # of golden-section search: each shrinks a grid cell by 0.618, to 1e-9 of a decade
_FLOOR = 1e-12  # smallest residual, relative to the targets: a residual of 0 would have infinite evidence
_BLOCK = 1024  # samples whose distances to all others are in memory at once


def h_score(features: Any, y: Any, *, shrinkage: float | str = "auto") -> float:
    """Return the H-score of features and labels, the trace of cov(Z)^-1 cov(E[Z | y]) [1]_.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Pooled output of a layer.
    y : array-like of shape (n_samples,)
        Labels.
    shrinkage : float or "auto", default="auto"
        Weight, from 0 to 1, of a multiple of the identity in the estimate of cov(Z). The score is multiplied by
        1 - shrinkage. "auto" is the estimate of Ledoit and Wolf [2]_, as in [3]_. With 0, features at least as many as
        samples always reach the largest possible score.

    Returns
    -------
    score : float
        From 0 to n_classes - 1.

    Raises
    ------
    InvalidParameterError
        If features and y differ in length, y holds fewer than two classes, or `shrinkage` is not allowed.

    References
    ----------
    .. [1] Y. Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning", ICIP 2019.
    .. [2] O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
       Multivariate Analysis 88, 2004.
    .. [3] S. Ibrahim et al., "Newer is not always better: Rethinking transferability metrics, their peculiarities,
       stability and performance", ECML PKDD 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection.feature_scores import h_score
    >>> y = np.arange(100) % 2
    >>> noise = np.random.default_rng(0).normal(size=(100, 3))
    >>> h_score(noise, y) < 0.1 < 0.9 < h_score(noise + 10 * y[:, None], y)
    True
    """
    centred = check_features(features)
    labels, n_classes = encode_labels(y, len(centred))
    centred = centred - centred.mean(0)  # (n_samples, n_features)
    n, d = centred.shape
    # Covariance and Gram matrix have the same non-zero eigenvalues: use the smaller one.
    gram = centred.T @ centred if d <= n else centred @ centred.T  # (min(n, d), min(n, d))
    scale = np.trace(gram) / (n * d)  # mean variance of a feature
    if scale <= np.finfo(float).tiny:
        return 0.0  # constant features
    weight = _resolve_shrinkage(shrinkage, centred, gram, scale)
    averaging = np.zeros((n_classes, n))
    averaging[labels, np.arange(n)] = 1
    counts = averaging.sum(1)  # (n_classes,)
    averaging /= counts[:, None]  # (n_classes, n_samples): averaging @ features are the class means
    means = averaging @ (centred if d <= n else gram)  # (n_classes, min(n, d))
    shrunk = (1 - weight) * gram / n + weight * scale * np.eye(len(gram))
    if d <= n:
        explained = (means @ np.linalg.pinv(shrunk, hermitian=True) * means).sum(1)  # (n_classes,)
    else:  # Z (a Z'Z + b I)^-1 Z' = K (a K + b I)^-1 with K = ZZ', and class means are means of rows of Z
        explained = (means @ np.linalg.pinv(shrunk, hermitian=True) * averaging).sum(1)  # (n_classes,)
    return float((1 - weight) * (counts / n * explained).sum())


def _resolve_shrinkage(shrinkage: float | str, centred: np.ndarray, gram: np.ndarray, scale: float) -> float:
    if isinstance(shrinkage, str) and shrinkage == "auto":
        n, d = centred.shape
        squared_norm = (gram**2).sum() / n**2  # sum of the squared entries of the covariance
        dispersion = ((centred**2).sum(1) ** 2).sum() / n - squared_norm  # of the matrices x x' around their mean
        distance = squared_norm - d * scale**2  # of the covariance from a multiple of the identity
        return 1.0 if distance <= 0 else float(min(1.0, max(0.0, dispersion) / n / distance))
    if not is_real(shrinkage) or not 0 <= float(shrinkage) <= 1:
        raise InvalidParameterError(f"shrinkage={shrinkage!r} must be 'auto' or a number from 0 to 1")
    return float(shrinkage)


def logme(features: Any, y: Any, *, target: str = "auto") -> float:
    """Return the maximum log evidence of a linear model, per sample and target [1]_.

    The model is y = Z w + noise with w ~ N(0, 1 / alpha) and noise ~ N(0, 1 / beta). alpha and beta maximise the
    evidence of y. Labels are one-hot encoded, and the score is the mean over classes.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Pooled output of a layer.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Labels, numbers, or columns of 0 and 1 for several labels per sample.
    target : {"auto", "classes", "numbers", "multilabel"}, default="auto"
        Meaning of y. "auto" reads whole numbers as classes, and columns of 0 and 1 as several labels per sample.

    Returns
    -------
    score : float
        In nats.

    Raises
    ------
    InvalidParameterError
        If features and y differ in length, y holds fewer than two classes, or `target` is not allowed.

    Notes
    -----
    The authors iterate alpha and beta from 1, at most eleven times. This function searches the ratio t = alpha / beta,
    because the best beta for a given t is known in closed form. It therefore finds the maximum, while the iteration may
    stop before it or stay at its start. With more features than samples, the authors also add
    (n_features - n_samples) / 2 log alpha, which is not a term of the evidence.

    References
    ----------
    .. [1] K. You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection.feature_scores import logme
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(200, 5))
    >>> logme(Z, Z @ np.ones(5) + 0.1 * rng.normal(size=200)) > logme(Z, rng.normal(size=200))
    True
    """
    Z = check_features(features)
    targets, _ = encode_targets(y, len(Z), target)
    eigenvalues, projected = _eigendecomposition(Z, targets)  # (k,), (k, n_targets)
    total = (targets**2).sum(0)  # (n_targets,)
    residual = np.maximum(total - (projected**2).sum(0), _FLOOR * np.maximum(total, 1e-300))  # (n_targets,)
    if not len(eigenvalues):
        return float(_evidence(np.zeros(len(total)), eigenvalues, projected, residual, len(Z)).mean() / len(Z))
    best = _maximise(lambda t: _evidence(t, eigenvalues, projected, residual, len(Z)), eigenvalues[0], len(total))
    return float(best.mean() / len(Z))


def _eigendecomposition(Z: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the non-zero eigenvalues of ZZ', largest first, and the targets in the basis of its eigenvectors."""
    n, d = Z.shape
    gram = Z.T @ Z if d < n else Z @ Z.T  # (min(n, d), min(n, d))
    eigenvalues, vectors = np.linalg.eigh(gram)
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    nonzero = eigenvalues > max(n, d) * np.finfo(float).eps * max(eigenvalues[0], np.finfo(float).tiny)
    eigenvalues, vectors = eigenvalues[nonzero], vectors[:, nonzero]
    if d < n:
        return eigenvalues, vectors.T @ (Z.T @ targets) / np.sqrt(eigenvalues)[:, None]  # (k,), (k, n_targets)
    return eigenvalues, vectors.T @ targets  # (k,), (k, n_targets)


def _evidence(
    t: np.ndarray, eigenvalues: np.ndarray, projected: np.ndarray, residual: np.ndarray, n: int
) -> np.ndarray:
    """Return the log evidence of each target at its t = alpha / beta and the best beta for that t.

    y ~ N(0, (I + ZZ' / t) / beta). The best beta is n divided by the quadratic form, which makes the exponent n / 2.
    """
    stretch = 1 + eigenvalues[:, None] / t if len(eigenvalues) else np.ones((0, len(t)))  # (k, n_targets)
    quadratic = residual + (projected**2 / stretch).sum(0)  # (n_targets,)
    log_density: np.ndarray = n * np.log(2 * np.pi * np.maximum(quadratic, 1e-300) / n) + np.log(stretch).sum(0) + n
    return -0.5 * log_density


def _maximise(evidence: Callable[[np.ndarray], np.ndarray], largest: float, n_targets: int) -> np.ndarray:
    """Return the maximum evidence of each target: grid search over t, refined by golden-section search."""

    def at(log_t: np.ndarray) -> np.ndarray:
        return evidence(largest * 10**log_t)

    coarse = np.stack([at(np.full(n_targets, log_t)) for log_t in _GRID])  # (grid, n_targets)
    centre, step = _GRID[coarse.argmax(0)], _GRID[1] - _GRID[0]
    low, high = centre - step, centre + step  # (n_targets,)
    for _ in range(_STEPS):
        width = _GOLDEN * (high - low)
        left, right = high - width, low + width
        rises = at(left) < at(right)
        low, high = np.where(rises, left, low), np.where(rises, high, right)
    best: np.ndarray = np.maximum(at((low + high) / 2), coarse.max(0))
    return best


def knn(features: Any, y: Any, *, k: int = 5, distance: str = "cosine", target: str = "auto") -> float:
    """Return the leave-one-out score of k nearest neighbours.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Pooled output of a layer.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Labels, numbers, or columns of 0 and 1 for several labels per sample.
    k : int, default=5
        Number of neighbours. All other samples are used if there are fewer.
    distance : {"cosine", "euclidean"}, default="cosine"
        Distance between features.
    target : {"auto", "classes", "numbers", "multilabel"}, default="auto"
        Meaning of y. "auto" reads whole numbers as classes, and columns of 0 and 1 as several labels per sample.

    Returns
    -------
    score : float
        For labels, the accuracy of the majority vote, where m labels with equally many votes count 1 / m each. For
        columns of 0 and 1, the mean of their accuracies. For numbers, R² of the neighbours' mean.

    Raises
    ------
    InvalidParameterError
        If features and y differ in length, y holds fewer than two classes, or a parameter is not allowed.

    Notes
    -----
    Duplicates are neighbours of each other, so a set with repeated samples scores too high.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection.feature_scores import knn
    >>> knn([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], ["a", "a", "b", "b"], k=1)
    1.0
    """
    Z = check_features(features)
    check_int("k", k, 1)
    check_option("distance", distance, ("cosine", "euclidean"))
    if len(Z) < 2:
        raise InvalidParameterError("one sample has no neighbours: give at least two")
    k = min(int(k), len(Z) - 1)
    if resolve_target_type(y, target) == "multiclass":
        labels, n_classes = encode_labels(y, len(Z))
        near = _nearest_neighbours(Z, k, distance)  # (n_samples, k)
        return _vote_accuracy(np.eye(n_classes)[labels[near]].sum(1), labels)
    targets, target_type = encode_targets(y, len(Z), target)
    near = _nearest_neighbours(Z, k, distance)  # (n_samples, k)
    if target_type == "multilabel-indicator":
        ones = targets[near].sum(1)  # (n_samples, n_targets)
        scores = [_vote_accuracy(np.stack([k - n, n], 1), t.astype(int)) for n, t in zip(ones.T, targets.T)]
        return float(np.mean(scores))
    residual = ((targets - targets[near].mean(1)) ** 2).sum(0)  # (n_targets,)
    total = ((targets - targets.mean(0)) ** 2).sum(0)  # (n_targets,)
    return float(np.mean(1 - residual / np.where(total > 0, total, 1)))


def _vote_accuracy(votes: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy of the majority of votes (n_samples, n_classes). Tied labels share the sample."""
    first = votes == votes.max(1, keepdims=True)
    return float((first[np.arange(len(labels)), labels] / first.sum(1)).mean())


def _nearest_neighbours(Z: np.ndarray, k: int, distance: str) -> np.ndarray:
    """Return the indices of the k nearest other samples per sample, (n_samples, k).

    `sklearn.neighbors.NearestNeighbors.kneighbors()` returns the same sets in 0.4 to 1.3 times the time, except among
    ties at the k-th distance. It would change the scores of features with duplicates or few distinct values.
    """
    if distance == "cosine":
        lengths = np.linalg.norm(Z, axis=1, keepdims=True)
        Z = Z / np.where(lengths > 0, lengths, 1)
    else:
        Z = Z - Z.mean(0)  # a common offset would cost digits
    halves = (Z**2).sum(1) / 2
    near = np.empty((len(Z), k), np.intp)
    for start in range(0, len(Z), _BLOCK):
        block = Z[start : start + _BLOCK]
        closeness = block @ Z.T - halves  # (block, n_samples): -1/2 squared distance, up to a constant per row
        closeness[np.arange(len(block)), start + np.arange(len(block))] = -np.inf
        near[start : start + len(block)] = np.argpartition(-closeness, k - 1, axis=1)[:, :k]
    return near
