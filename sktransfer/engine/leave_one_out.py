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

__all__ = [
    "STRENGTHS",
    "LayerWeights",
    "best_strength",
    "centre",
    "is_better",
    "layer_errors",
    "layer_weights",
    "logistic_strength",
    "ridge_errors",
]

STRENGTHS = np.logspace(-4, 2, 13)
# Samples that decide: an eigendecomposition is cubic, and each layer takes one.
LAYER_SAMPLES, HEAD_SAMPLES = 500, 1000
LEAST_SHARE = 0.01
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


def best_strength(errors: np.ndarray, sample_weight: np.ndarray) -> int:
    """Return the index of the strength with the least mean error, of equal ones the largest.

    Parameters
    ----------
    errors : ndarray of shape (n_strengths, n_samples)
        Result of `ridge_errors` for strengths in ascending order.
    sample_weight : ndarray of shape (n_samples,)
        Weight of each sample.
    """
    means = errors @ sample_weight / sample_weight.sum()  # (n_strengths,)
    return int(np.flatnonzero(means <= (1 + 1e-6) * means.min())[-1])


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
        Share of each layer in the mean squared length of the features, summing to one. 0 for a layer that is left out.
    layer_errors : ndarray of shape (n_layers,)
        Least mean squared leave-one-out error of each layer alone, relative to the variance of the targets.
    strength : float
        Strength of the ridge regression of least error on the weighted layers.
    errors : ndarray of shape (n_used,)
        Its squared leave-one-out error per sample that was used.
    shares : ndarray of shape (n_used,)
        Weights of these samples, summing to one.
    """

    weights: np.ndarray
    layer_errors: np.ndarray
    strength: float
    errors: np.ndarray
    shares: np.ndarray

    @property
    def error(self) -> float:
        """Mean squared leave-one-out error of the weighted layers, relative to the variance of the targets."""
        return float(self.errors @ self.shares)


def layer_errors(layers: Sequence[np.ndarray], targets: np.ndarray, sample_weight: np.ndarray) -> np.ndarray:
    """Return the squared leave-one-out errors of each layer alone at its best strength, (n_layers, n_used).

    At most 500 evenly spaced samples are used.

    Parameters
    ----------
    layers, targets, sample_weight
        As `layer_weights` takes them.
    """
    few = _some(len(targets), LAYER_SAMPLES)
    return np.stack([_of_rows([layer], [1.0], targets, sample_weight, few)[1] for layer in layers])


def layer_weights(
    layers: Sequence[np.ndarray],
    targets: np.ndarray,
    sample_weight: np.ndarray,
    depths: Sequence[int] | None = None,
    errors: np.ndarray | None = None,
) -> LayerWeights:
    """Weight layers by how well each of them alone predicts targets.

    The weight of a layer is depth * exp(-z), where z is the mean difference between its leave-one-out error and that of
    the best layer, in standard errors of that mean. Layers that the samples cannot tell from the best one all count,
    and higher layers count more. Layers of less than a hundredth of the sum are left out.

    Parameters
    ----------
    layers : sequence of ndarray of shape (n_samples, n_features)
        Features of each layer.
    targets : ndarray of shape (n_samples, n_outputs)
        One-hot labels, indicators, or numbers of similar variance.
    sample_weight : ndarray of shape (n_samples,)
        Positive weight of each sample.
    depths : sequence of int, default=None
        Number of each layer's stage, from 1. None for layers of successive stages.
    errors : ndarray of shape (n_layers, n_used), default=None
        Result of `layer_errors`; None to compute it.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.engine.leave_one_out import layer_weights
    >>> rng = np.random.default_rng(0)
    >>> noise, good = rng.normal(size=(2, 100, 3))
    >>> layer_weights([noise, good], good[:, :1] > 0, np.ones(100)).weights.tolist()
    [0.0, 1.0]
    """
    few = _some(len(targets), LAYER_SAMPLES)
    shares = sample_weight[few] / sample_weight[few].sum()  # (n_few,)
    alone = layer_errors(layers, targets, sample_weight) if errors is None else errors  # (n_layers, n_few)
    means = alone @ shares  # (n_layers,)
    z = np.array([_z(one, alone[means.argmin()], shares) for one in alone])  # (n_layers,)
    weights = np.arange(1, len(layers) + 1) * np.exp(-z) if depths is None else np.asarray(depths) * np.exp(-z)
    weights = np.where(weights < LEAST_SHARE * weights.sum(), 0.0, weights)
    weights = weights / weights.sum()
    rows = _some(len(targets), HEAD_SAMPLES)
    strength, errors = _of_rows(layers, weights, targets, sample_weight, rows)
    return LayerWeights(weights, means, strength, errors, sample_weight[rows] / sample_weight[rows].sum())


def _some(n_samples: int, n_wanted: int) -> np.ndarray:
    """Return evenly spaced rows."""
    return np.linspace(0, n_samples - 1, min(n_samples, n_wanted)).round().astype(int)


def _of_rows(
    layers: Sequence[np.ndarray],
    weights: Sequence[float] | np.ndarray,
    targets: np.ndarray,
    sample_weight: np.ndarray,
    rows: np.ndarray,
) -> tuple[float, np.ndarray]:
    """Return the strength of least error on weighted layers, and the errors of some rows (n_rows,)."""
    weight = sample_weight[rows]
    parts = [centre(layer[rows], weight)[0] * np.sqrt(w) for layer, w in zip(layers, weights, strict=True) if w]
    path = ridge_errors(np.concatenate(parts, axis=1), np.asarray(targets[rows], dtype=np.float64), weight)
    best = best_strength(path, weight)
    return float(STRENGTHS[best]), path[best]


def is_better(candidate: LayerWeights, reference: LayerWeights) -> bool:
    """Return whether a candidate's leave-one-out error is lower by more than the standard error of the difference.

    Parameters
    ----------
    candidate, reference : LayerWeights
        Two results for the same samples.
    """
    return _z(reference.errors, candidate.errors, candidate.shares) > 1


def _z(errors: np.ndarray, reference: np.ndarray, shares: np.ndarray) -> float:
    """Return the weighted mean of paired differences (n_samples,) in standard errors of that mean."""
    differences = errors - reference
    mean = float(differences @ shares)
    standard_error = float(np.sqrt((differences - mean) ** 2 @ shares**2))
    return mean / max(standard_error, 1e-6)  # equal layers differ by rounding
