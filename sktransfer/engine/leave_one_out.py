"""Closed-form leave-one-out errors of ridge regressions, and weights of layers and strengths of heads from them.

One eigendecomposition gives the errors for all strengths. Labels are one-hot encoded. No sample is held out, and no
backbone runs again.

Features are divided by one scale, so that the weighted mean of their squared length around their mean is 1. Strengths
are relative to this length. Weights of samples count relative to their mean. Samples of equal features are merged,
because one of them tells the label of the others. A whole weight is therefore the same as that many equal samples.
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
    "centre_present",
    "depth_prior",
    "is_better",
    "layer_errors",
    "layer_weights",
    "least_errors",
    "merge_equal",
    "ridge_errors",
    "scale_towers",
    "scaled_towers",
    "spaced_rows",
]

STRENGTHS = np.logspace(-4, 2, 13)
# Samples that decide: an eigendecomposition is cubic, and each layer takes one.
LAYER_SAMPLES, HEAD_SAMPLES = 500, 1000
LEAST_SHARE = 0.01
LAST_PRIOR, LAST_SHARE = 2.0, 0.05  # the last layer is made for use, and the trunk of a training ends with it


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


def centre_present(features: np.ndarray, sample_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return centred features as `centre` does, of a tower that has no sample in some rows.

    The features of these rows are zeros. They count in neither mean nor scale, and are the mean in the result.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features of one tower.
    sample_weight : ndarray of shape (n_samples,)
        Weight of each sample.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.engine.leave_one_out import centre_present
    >>> centred, mean, scale = centre_present(np.array([[1.0], [3.0], [0.0]]), np.ones(3))
    >>> centred.ravel().tolist(), mean.tolist(), scale
    ([-1.0, 1.0, 0.0], [2.0], 1.0)
    """
    present: np.ndarray = (features != 0).any(axis=1)  # (n_samples,)
    weight = sample_weight * present  # (n_samples,)
    if not weight.any():
        return np.zeros(features.shape), np.zeros(features.shape[1]), 1.0
    centred, mean, scale = centre(features, weight)
    return np.where(present[:, None], centred, 0.0), mean, scale


def scale_towers(
    features: np.ndarray, widths: Sequence[int], sample_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale of the features of several towers, so that all towers have the same variance.

    The mean variance of a feature is then 1.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features of all towers, concatenated.
    widths : sequence of int
        Number of features of each tower.
    sample_weight : ndarray of shape (n_samples,)
        Weight of each sample.

    Returns
    -------
    mean, scale : ndarray of shape (n_features,)

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.engine.leave_one_out import scale_towers
    >>> mean, scale = scale_towers(np.array([[10.0, 1.0, 1.0], [30.0, 2.0, 2.0]]), [1, 2], np.ones(2))
    >>> mean.tolist(), scale.round(2).tolist()
    ([20.0, 1.5, 1.5], [8.16, 0.58, 0.58])
    """
    parts = np.split(features, np.cumsum(widths)[:-1], axis=1)
    found = [centre_present(part, sample_weight)[1:] for part in parts]
    share = np.sqrt(sum(widths) / len(widths))  # root of the variance of each tower
    return (
        np.concatenate([mean for mean, _ in found]),
        np.concatenate([np.full(width, scale / share) for (_, scale), width in zip(found, widths, strict=True)]),
    )


def scaled_towers(features: np.ndarray, widths: Sequence[int], scaling: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return centred and divided features of several towers, with zeros where a tower has no sample.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features), float32
        Features of all towers, concatenated. Those of a tower without a sample are zeros.
    widths : sequence of int
        Number of features of each tower.
    scaling : (ndarray of shape (n_features,), ndarray of shape (n_features,))
        Mean and scale, as `scale_towers` returns them.
    """
    mean, scale = scaling
    scaled: np.ndarray = ((features - mean) / scale).astype(np.float32)  # (n_samples, n_features)
    stops = np.cumsum(widths)
    for start, stop in zip(stops - widths, stops, strict=True):
        scaled[~features[:, start:stop].any(1), start:stop] = 0.0
    return scaled


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


def merge_equal(
    layers: Sequence[np.ndarray], targets: np.ndarray, sample_weight: np.ndarray
) -> tuple[Sequence[np.ndarray], np.ndarray, np.ndarray]:
    """Merge samples of equal features into one, with the mean of their targets and the sum of their weights.

    Parameters
    ----------
    layers : sequence of ndarray of shape (n_samples, n_features)
        Features. Samples are equal if they are in all layers.
    targets : ndarray of shape (n_samples, n_outputs)
        Targets.
    sample_weight : ndarray of shape (n_samples,)
        Positive weight of each sample.

    Returns
    -------
    layers : sequence of ndarray of shape (n_different, n_features)
    targets : ndarray of shape (n_different, n_outputs)
    sample_weight : ndarray of shape (n_different,)

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.engine.leave_one_out import merge_equal
    >>> features, targets = np.array([[1.0], [2.0], [1.0]]), np.array([[0.0], [5.0], [3.0]])
    >>> merged = merge_equal([features], targets, np.array([1.0, 1.0, 2.0]))
    >>> merged[0][0].ravel().tolist(), merged[1].ravel().tolist(), merged[2].tolist()
    ([1.0, 2.0], [2.0, 5.0], [3.0, 1.0])
    """
    numbers: dict[bytes, int] = {}
    number = np.array(
        [
            numbers.setdefault(b"".join(part.tobytes() for part in row), len(numbers))
            for row in zip(*layers, strict=True)
        ],
        dtype=int,
    )  # (n_samples,)
    if len(numbers) == len(number):
        return layers, targets, sample_weight
    first = np.unique(number, return_index=True)[1]  # (n_different,)
    weight = np.bincount(number, sample_weight)  # (n_different,)
    mean = np.stack([np.bincount(number, sample_weight * column) / weight for column in targets.T], axis=1)
    return [layer[first] for layer in layers], mean, weight  # the mean is (n_different, n_outputs)


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
    few = spaced_rows(len(targets), LAYER_SAMPLES)
    return np.stack([least_errors([layer], [1.0], targets, sample_weight, few)[1] for layer in layers])


def depth_prior(depths: Sequence[int]) -> np.ndarray:
    """Return the weight that layers have before any target is seen: their depth, and twice that of the last stage.

    Parameters
    ----------
    depths : sequence of int
        Number of each layer's stage, from 1.

    Examples
    --------
    >>> from sktransfer.engine.leave_one_out import depth_prior
    >>> depth_prior([1, 2, 3]).tolist()
    [1.0, 2.0, 6.0]
    """
    depth = np.asarray(depths, dtype=np.float64)  # (n_layers,)
    return np.where(depth == depth.max(), LAST_PRIOR, 1.0) * depth


def layer_weights(
    layers: Sequence[np.ndarray],
    targets: np.ndarray,
    sample_weight: np.ndarray,
    depths: Sequence[int] | None = None,
    errors: np.ndarray | None = None,
) -> LayerWeights:
    """Weight layers by how well each of them alone predicts targets.

    The weight of a layer is prior * exp(-z), where z is the mean difference between its leave-one-out error and that of
    the best layer, in standard errors of that mean. The prior is the depth, and twice the depth for the last stage,
    which is made for use. Layers that the samples cannot tell from the best one all count. Layers of less than a
    hundredth of the sum are left out. The last stage has at least a twentieth of the sum.

    Parameters
    ----------
    layers : sequence of ndarray of shape (n_samples, n_features)
        Features of each layer. The last stage is the highest depth, and its first layer the one that always counts.
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
    >>> layer_weights([good, noise], good[:, :1] > 0, np.ones(100)).weights.round(2).tolist()
    [0.95, 0.05]
    """
    few = spaced_rows(len(targets), LAYER_SAMPLES)
    shares = sample_weight[few] / sample_weight[few].sum()  # (n_few,)
    alone = layer_errors(layers, targets, sample_weight) if errors is None else errors  # (n_layers, n_few)
    means = alone @ shares  # (n_layers,)
    z = np.array([_z(one, alone[means.argmin()], shares) for one in alone])  # (n_layers,)
    depths = range(1, len(layers) + 1) if depths is None else depths
    is_last = np.asarray(depths) == max(depths)  # (n_layers,)
    weights = depth_prior(depths) * np.exp(-z)
    weights = np.where(weights < LEAST_SHARE * weights.sum(), 0.0, weights)
    weights = weights / weights.sum()
    missing = max(0.0, LAST_SHARE - float(weights[is_last].sum()))
    if missing:
        weights = weights * (1 - LAST_SHARE) / (1 - LAST_SHARE + missing)
        weights[is_last.argmax()] += 1 - weights.sum()
    rows = spaced_rows(len(targets), HEAD_SAMPLES)
    strength, errors = least_errors(layers, weights, targets, sample_weight, rows)
    return LayerWeights(weights, means, strength, errors, sample_weight[rows] / sample_weight[rows].sum())


def spaced_rows(n_samples: int, n_wanted: int) -> np.ndarray:
    """Return evenly spaced rows, all of them if there are no more than wanted.

    Parameters
    ----------
    n_samples, n_wanted : int
        Number of rows that there are, and that are wanted.
    """
    return np.linspace(0, n_samples - 1, min(n_samples, n_wanted)).round().astype(int)


def least_errors(
    layers: Sequence[np.ndarray],
    weights: Sequence[float] | np.ndarray,
    targets: np.ndarray,
    sample_weight: np.ndarray,
    rows: np.ndarray,
) -> tuple[float, np.ndarray]:
    """Return the strength of least error on weighted layers, and the errors of some rows (n_rows,).

    Parameters
    ----------
    layers, targets, sample_weight
        As `layer_weights` takes them.
    weights : sequence of float
        Share of each layer in the squared length of the features.
    rows : ndarray of int
        Rows to use.
    """
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
