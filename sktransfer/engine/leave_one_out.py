"""Closed-form leave-one-out errors of ridge regressions, and weights of layers and strengths of heads from them.

One eigendecomposition gives the errors for all strengths. Labels are one-hot encoded. No sample is held out, and no
backbone runs again.

Features are divided by one scale, so that the weighted mean of their squared length around their mean is 1. Strengths
are relative to this length. Weights of samples count relative to their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["STRENGTHS", "LayerWeights", "best_strength", "centre", "layer_weights", "logistic_strength", "ridge_errors"]

STRENGTHS = np.logspace(-4, 2, 13)
MAX_SAMPLES = 2000  # that decide: more change neither weights nor strength, and an eigendecomposition is cubic
# A logistic loss is flatter at its optimum than at equal probabilities, where its curvature is known.
FLATTENING = 3.0
LEAST_C, LARGEST_C = 3.0, 1000.0


def centre(features: np.ndarray, sample_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return centred features of mean squared length 1, their mean, and the scale that divided them.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features.
    sample_weight : ndarray of shape (n_samples,)
        Weight of each sample.

    Returns
    -------
    centred : ndarray of shape (n_samples, n_features), float64
    mean : ndarray of shape (n_features,)
    scale : float
        1 if the features are constant.
    """
    features = np.asarray(features, dtype=np.float64)
    mean = np.average(features, axis=0, weights=sample_weight)  # (n_features,)
    centred = features - mean
    scale = float(np.sqrt(np.average((centred**2).sum(1), weights=sample_weight)))
    scale = scale if scale > np.finfo(np.float32).tiny else 1.0
    return centred / scale, mean, scale


def ridge_errors(
    features: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray, strengths: np.ndarray = STRENGTHS
) -> np.ndarray:
    """Return the squared leave-one-out errors of ridge regressions with intercept.

    With weights w, the regression minimises sum_i w_i |y_i - b - W z_i|² + strength |W|². The error of a sample left
    out is its residual divided by 1 - H_ii, where H is the matrix that maps targets to predictions [1]_.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features of weighted mean zero, as `centre` returns them.
    targets : ndarray of shape (n_samples, n_outputs)
        Targets.
    sample_weight : ndarray of shape (n_samples,)
        Positive weight of each sample.
    strengths : ndarray of shape (n_strengths,), default=STRENGTHS
        Strengths of the penalty, for weights of mean 1.

    Returns
    -------
    errors : ndarray of shape (n_strengths, n_samples)
        Sum over the outputs of the squared errors, relative to the weighted variance of the targets.

    References
    ----------
    .. [1] R. Rifkin and R. Lippert, "Notes on Regularized Least Squares", MIT-CSAIL-TR-2007-025.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.engine.leave_one_out import ridge_errors
    >>> z = np.linspace(-1, 1, 9)[:, None]
    >>> ridge_errors(z, 2 * z, np.ones(9), np.array([1e-9, 1.0])).mean(1).round(3).tolist()
    [0.0, 0.084]
    """
    weight = sample_weight / sample_weight.mean()  # (n_samples,)
    root = np.sqrt(weight)[:, None]
    centred = targets - np.average(targets, axis=0, weights=weight)  # (n_samples, n_outputs)
    total = float(np.average((centred**2).sum(1), weights=weight)) or 1.0
    values, vectors = _eigendecomposition(root * features)  # (k,), (n_samples, k)
    projected = vectors.T @ (root * centred)  # (k, n_outputs)
    leverage, share = vectors**2, weight / weight.sum()  # the share is the leverage of the intercept
    errors = np.empty((len(strengths), len(features)))
    for row, strength in zip(errors, strengths, strict=True):
        kept = values / (values + strength)  # (k,)
        residual = centred - vectors @ (kept[:, None] * projected) / root  # (n_samples, n_outputs)
        left = np.maximum(1 - leverage @ kept - share, 1e-9)  # (n_samples,)
        row[:] = (residual**2).sum(1) / left**2 / total
    return errors


def _eigendecomposition(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positive eigenvalues of ZZ' and their vectors, from the smaller of ZZ' and Z'Z."""
    n, d = features.shape
    values, vectors = np.linalg.eigh(features @ features.T if n <= d else features.T @ features)
    positive = values > max(n, d) * np.finfo(np.float64).eps * max(values[-1], np.finfo(np.float64).tiny)
    values, vectors = values[positive], vectors[:, positive]
    return values, vectors if n <= d else features @ vectors / np.sqrt(values)


def best_strength(errors: np.ndarray, sample_weight: np.ndarray, strengths: np.ndarray = STRENGTHS) -> int:
    """Return the index of the strength with the least mean error.

    Parameters
    ----------
    errors : ndarray of shape (n_strengths, n_samples)
        Result of `ridge_errors`.
    sample_weight : ndarray of shape (n_samples,)
        Weight of each sample.
    strengths : ndarray of shape (n_strengths,), default=STRENGTHS
        Strengths of the errors, in ascending order. Of equal errors the largest strength counts.
    """
    means = errors @ sample_weight / sample_weight.sum()  # (n_strengths,)
    return len(strengths) - 1 - int(means[::-1].argmin())


def logistic_strength(strength: float, n_classes: int) -> float:
    """Return the C of a logistic regression that penalises as a ridge regression of one-hot labels does.

    At equal probabilities the logistic loss has (n_classes - 1) / n_classes² times the curvature of the squared loss,
    and a third of that at its optimum.

    Parameters
    ----------
    strength : float
        Strength of the ridge regression, for features of mean squared length 1.
    n_classes : int
        Number of classes, 2 for each label of an indicator matrix.

    Examples
    --------
    >>> from sktransfer.engine.leave_one_out import logistic_strength
    >>> logistic_strength(1.0, 2)
    12.0
    """
    curvature = (n_classes - 1) / n_classes**2
    return float(np.clip(FLATTENING / (strength * curvature), LEAST_C, LARGEST_C))


@dataclass(frozen=True)
class LayerWeights:
    """Weights of layers, and the strength of a head on the weighted layers.

    Parameters
    ----------
    weights : ndarray of shape (n_layers,)
        Share of each layer in the mean squared length of the features, summing to one.
    errors : ndarray of shape (n_layers,)
        Least mean squared leave-one-out error of each layer alone, relative to the variance of the targets.
    strength : float
        Strength of the ridge regression of least error on the weighted layers.
    error : float
        Its mean squared leave-one-out error.
    """

    weights: np.ndarray
    errors: np.ndarray
    strength: float
    error: float


def layer_weights(layers: Sequence[np.ndarray], targets: np.ndarray, sample_weight: np.ndarray) -> LayerWeights:
    """Weight layers by how well each of them alone predicts targets.

    The weight of layer l of L (from 1) is l exp(-z), where z is the mean difference between its leave-one-out error and
    that of the best layer, in standard errors of that mean. Layers that the samples cannot tell from the best one all
    count, and higher layers count more.

    Parameters
    ----------
    layers : sequence of ndarray of shape (n_samples, n_features)
        Features of each layer, from the lowest.
    targets : ndarray of shape (n_samples, n_outputs)
        One-hot labels, indicators, or numbers of similar variance.
    sample_weight : ndarray of shape (n_samples,)
        Positive weight of each sample.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.engine.leave_one_out import layer_weights
    >>> rng = np.random.default_rng(0)
    >>> noise, good = rng.normal(size=(2, 100, 3))
    >>> layer_weights([noise, good], good[:, :1] > 0, np.ones(100)).weights.round(3).tolist()
    [0.0, 1.0]
    """
    rows = np.linspace(0, len(targets) - 1, min(len(targets), MAX_SAMPLES)).round().astype(int)
    targets, weight = np.asarray(targets, dtype=np.float64)[rows], sample_weight[rows]
    share = weight / weight.sum()  # (n_samples,)
    parts = [centre(layer[rows], weight)[0] for layer in layers]
    errors = np.stack([_least(part, targets, weight) for part in parts])  # (n_layers, n_samples)
    means = errors @ share  # (n_layers,)
    differences = errors - errors[means.argmin()]
    deviations = differences - (means - means.min())[:, None]
    standard_errors = np.sqrt((deviations**2) @ share**2)  # (n_layers,)
    z = (means - means.min()) / np.maximum(standard_errors, 1e-6)  # equal layers differ by rounding
    weights = np.arange(1, len(parts) + 1) * np.exp(-z)  # (n_layers,)
    weights = weights / weights.sum()
    joined = np.concatenate([part * np.sqrt(w) for part, w in zip(parts, weights, strict=True)], axis=1)
    path = ridge_errors(joined, targets, weight)
    best = best_strength(path, weight)
    return LayerWeights(weights, means, float(STRENGTHS[best]), float(path[best] @ share))


def _least(features: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> np.ndarray:
    path = ridge_errors(features, targets, weight)
    return path[best_strength(path, weight)]  # (n_samples,)
