"""H-score: how much of the features' variance lies between the classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.arrays import as_features, as_labels

__all__ = ["h_score"]


def h_score(features: Any, y: Any, *, shrinkage: float | str = "auto") -> float:
    """Return the H-score of features and labels: the trace of cov(Z)^-1 cov(E[Z | y]) [1]_.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        What a stage gives, pooled.
    y : array-like of shape (n_samples,)
        Labels.
    shrinkage : float or "auto", default="auto"
        How far cov(Z) is drawn towards a multiple of the identity, from 0 to 1; the score is multiplied by what is left
        of it. "auto" is Ledoit and Wolf's estimate [2]_, as in [3]_. Without any, the score of features as many as
        samples is the largest possible, whatever they are worth.

    Returns
    -------
    score : float
        From 0 to the number of classes less one.

    Raises
    ------
    InvalidParameterError
        If the arrays do not belong together, y holds one class only, or `shrinkage` is not allowed.

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
    >>> from sktransfer.selection.transferability import h_score
    >>> y = np.arange(100) % 2
    >>> noise = np.random.default_rng(0).normal(size=(100, 3))
    >>> h_score(noise, y) < 0.1 < 0.9 < h_score(noise + 10 * y[:, None], y)
    True
    """
    centred = as_features(features)
    labels, n_classes = as_labels(y, len(centred))
    centred = centred - centred.mean(0)  # (n_samples, n_features)
    n, d = centred.shape
    # Both have the same eigenvalues but for zeros; the smaller one is worked with.
    small = centred.T @ centred if d <= n else centred @ centred.T  # (min(n, d), min(n, d))
    scale = np.trace(small) / (n * d)  # the mean variance of a feature
    if scale <= np.finfo(float).tiny:
        return 0.0  # features that are all the same tell nothing
    share = _shrinkage(shrinkage, centred, small, scale)
    between = np.zeros((n_classes, n))
    between[labels, np.arange(n)] = 1
    counts = between.sum(1)  # (n_classes,)
    between /= counts[:, None]  # (n_classes, n_samples): times features gives the means of classes
    means = between @ (centred if d <= n else small)  # (n_classes, min(n, d))
    shrunk = (1 - share) * small / n + share * scale * np.eye(len(small))
    if d <= n:
        explained = (means @ np.linalg.pinv(shrunk, hermitian=True) * means).sum(1)
    else:  # Z (a Z'Z + b I)^-1 Z' = K (a K + b I)^-1 with K = ZZ', and the means are means of rows of Z
        explained = (means @ np.linalg.pinv(shrunk, hermitian=True) * between).sum(1)
    return float((1 - share) * (counts / n * explained).sum())


def _shrinkage(asked: float | str, centred: np.ndarray, small: np.ndarray, scale: float) -> float:
    if isinstance(asked, str) and asked == "auto":
        n, d = centred.shape
        squared = (small**2).sum() / n**2  # of the covariance's entries
        spread = ((centred**2).sum(1) ** 2).sum() / n - squared  # of the samples' own x x' about their mean
        distance = squared - d * scale**2  # from a multiple of the identity
        return 1.0 if distance <= 0 else float(min(1.0, max(0.0, spread) / n / distance))
    if isinstance(asked, (bool, str)) or not 0 <= asked <= 1:
        raise InvalidParameterError(f"shrinkage={asked!r} must be 'auto' or a number from 0 to 1")
    return float(asked)
