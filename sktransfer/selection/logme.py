"""LogME: how probable the targets are under a linear model of the features, whatever its weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktransfer.selection.arrays import as_features, as_targets

__all__ = ["logme"]

_GRID = np.linspace(-14, 10, 97)  # of the decimal logarithm of t over the largest eigenvalue
_GOLDEN = (5**0.5 - 1) / 2
_STEPS = 40  # a grid cell shrinks by 0.618 a step: to 1e-9 of a decade
_FLOOR = 1e-12  # of the targets' own size: a residual of exactly zero would be infinitely probable


def logme(features: Any, y: Any, *, target: str = "auto") -> float:
    """Return the maximum evidence of a linear model, a sample and a target [1]_.

    The model is y = Z w + noise with w ~ N(0, 1 / alpha) and noise ~ N(0, 1 / beta); alpha and beta are those under
    which y is most probable. Labels stand as a column of 0 and 1 for each class, and the score is the mean over them.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        What a stage gives, pooled.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Labels, numbers, or columns of 0 and 1 for several labels a sample.
    target : {"auto", "classes", "numbers", "multilabel"}, default="auto"
        What y holds: "auto" takes whole numbers for classes, and columns of 0 and 1 for several labels a sample.

    Returns
    -------
    score : float
        In nats.

    Raises
    ------
    InvalidParameterError
        If the arrays do not belong together, or y holds one class only.

    Notes
    -----
    The authors iterate alpha and beta from 1, eleven times at most. Here the ratio t = alpha / beta is searched, beta
    being known for each t: the maximum itself, where the iteration may end before it or stay where it began. With more
    features than samples theirs also adds (n_features - n_samples) / 2 log alpha, which no term of the evidence is.

    References
    ----------
    .. [1] K. You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection.transferability import logme
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(200, 5))
    >>> logme(Z, Z @ np.ones(5) + 0.1 * rng.normal(size=200)) > logme(Z, rng.normal(size=200))
    True
    """
    Z = as_features(features)
    targets, _ = as_targets(y, len(Z), target)
    eigenvalues, projected = _decomposed(Z, targets)  # (k,), (k, n_targets)
    total = (targets**2).sum(0)  # (n_targets,)
    rest = np.maximum(total - (projected**2).sum(0), _FLOOR * np.maximum(total, 1e-300))
    if not len(eigenvalues):
        return float(_evidence(np.zeros(len(total)), eigenvalues, projected, rest, len(Z)).mean() / len(Z))
    best = _maximum(lambda t: _evidence(t, eigenvalues, projected, rest, len(Z)), eigenvalues[0], len(total))
    return float(best.mean() / len(Z))


def _decomposed(Z: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues of ZZ', largest first, and the targets in its eigenvectors; without those of zero."""
    n, d = Z.shape
    small = Z.T @ Z if d < n else Z @ Z.T  # (min(n, d), min(n, d))
    eigenvalues, vectors = np.linalg.eigh(small)
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    kept = eigenvalues > max(n, d) * np.finfo(float).eps * max(eigenvalues[0], np.finfo(float).tiny)
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    if d < n:
        return eigenvalues, vectors.T @ (Z.T @ targets) / np.sqrt(eigenvalues)[:, None]  # (k,), (k, n_targets)
    return eigenvalues, vectors.T @ targets  # (k,), (k, n_targets)


def _evidence(t: np.ndarray, eigenvalues: np.ndarray, projected: np.ndarray, rest: np.ndarray, n: int) -> np.ndarray:
    """Return the log evidence of each target at its t = alpha / beta, at the beta that is best there.

    y ~ N(0, (I + ZZ' / t) / beta): beta's best is n over the quadratic form, which then is n itself.
    """
    stretch = 1 + eigenvalues[:, None] / t if len(eigenvalues) else np.ones((0, len(t)))  # (k, n_targets)
    quadratic = rest + (projected**2 / stretch).sum(0)  # (n_targets,)
    found: np.ndarray = -0.5 * (n * np.log(2 * np.pi * np.maximum(quadratic, 1e-300) / n) + np.log(stretch).sum(0) + n)
    return found


def _maximum(evidence: Any, largest: float, n_targets: int) -> np.ndarray:
    """Return the largest evidence of each target: on a grid of t, then by golden sections about the best cell."""

    def at(log_t: np.ndarray) -> np.ndarray:
        found: np.ndarray = evidence(largest * 10**log_t)
        return found

    coarse = np.stack([at(np.full(n_targets, place)) for place in _GRID])  # (grid, n_targets)
    centre, step = _GRID[coarse.argmax(0)], _GRID[1] - _GRID[0]
    low, high = centre - step, centre + step  # (n_targets,)
    for _ in range(_STEPS):
        width = _GOLDEN * (high - low)
        left, right = high - width, low + width
        rises = at(left) < at(right)
        low, high = np.where(rises, left, low), np.where(rises, high, right)
    best: np.ndarray = np.maximum(at((low + high) / 2), coarse.max(0))
    return best
