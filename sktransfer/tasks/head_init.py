"""Initialization of heads from the features of the pretrained network."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.engine.leave_one_out import scale_towers
from sktransfer.tasks.heads import FeatureHead
from sktransfer.tasks.validation import many_classes_allowed

__all__ = [
    "class_means",
    "linear_head",
    "linear_input",
    "logistic_probe",
    "of_different",
    "probe_strength",
    "ridge_probe",
    "standardize",
    "write_linear",
]


def standardize(
    head: FeatureHead, features: np.ndarray, sample_weight: np.ndarray, choice: LayerChoice | None = None
) -> None:
    """Write the mean of the features into a head, and their scale: one for all, or one per mixed layer or tower.

    Dividing each feature by its own deviation would amplify features that hardly vary, and with them the noise of
    dropout and of the first steps.

    Parameters
    ----------
    head : FeatureHead
        Head, changed in place.
    features : ndarray of shape (n_samples, n_features)
        Features before training.
    sample_weight : ndarray of shape (n_samples,)
        Weight of each sample.
    choice : LayerChoice, default=None
        Choice that the features come from. Its scales keep the weight of each layer.
    """
    if choice is not None:
        _write_scale(head, choice.mean, choice.divisors(choice.variance))
        return
    if head.blocks:
        _write_scale(head, *scale_towers(features, head.blocks, sample_weight))
        return
    mean = np.average(features, axis=0, weights=sample_weight)  # (n_features,)
    variance = np.average((features - mean) ** 2, axis=0, weights=sample_weight)  # (n_features,)
    n_layers = 1 if head.mix is None else len(head.mix.scores)
    scale = np.sqrt(variance.reshape(n_layers, -1).mean(1))  # (n_layers,)
    _write_scale(head, mean, np.repeat(np.where(scale > 0, scale, 1.0), len(mean) // n_layers))  # (n_features,)


def _write_scale(head: FeatureHead, mean: np.ndarray, scale: np.ndarray) -> None:
    with torch.no_grad():
        head.mean.copy_(torch.from_numpy(mean))
        head.scale.copy_(torch.from_numpy(scale))


def linear_input(head: FeatureHead, features: np.ndarray) -> np.ndarray:
    """Return what the linear layer of a standardized head reads, (n_samples, width), float64.

    Parameters
    ----------
    head : FeatureHead
        Head after `standardize`.
    features : ndarray of shape (n_samples, n_features)
        Features before training.
    """
    with torch.no_grad():
        read: np.ndarray = head.linear_input(torch.from_numpy(features)).double().numpy()  # (n_samples, width)
    return read


def write_linear(head: FeatureHead, weight: np.ndarray, bias: np.ndarray) -> None:
    """Write weights into the linear layer of a head.

    Parameters
    ----------
    head : FeatureHead
        Head, changed in place.
    weight : ndarray of shape (n_outputs, width)
        Weights.
    bias : ndarray of shape (n_outputs,)
        Intercepts.
    """
    with torch.no_grad():
        head.linear.weight.copy_(torch.from_numpy(weight))
        head.linear.bias.copy_(torch.from_numpy(bias))


def probe_strength(
    features: np.ndarray, targets: ChoiceTargets, sample_weight: np.ndarray, choice: LayerChoice | None = None
) -> tuple[HeadStrength, float]:
    """Return the strength of a probe, for features of total variance 1 and for the given ones.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        What the linear layer reads.
    targets : ChoiceTargets
        Targets.
    sample_weight : ndarray of shape (n_samples,)
        Weight of each sample.
    choice : LayerChoice, default=None
        Choice that the features come from, which has the strength. None to find it.
    """
    if choice is not None:
        return choice.head, choice.head.of_variance(choice.variance)
    mean = np.average(features, axis=0, weights=sample_weight)  # (n_features,)
    variance = float(np.average((features - mean) ** 2, axis=0, weights=sample_weight).sum())
    strength = HeadStrength.find(features, targets, sample_weight)
    return strength, strength.of_variance(variance or 1.0)


def linear_head(
    features: np.ndarray, y: np.ndarray, sample_weight: np.ndarray, n_classes: int, how: str, C: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (n_classes, n_features) and bias (n_classes,) of a linear classifier of features.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features of mean zero.
    y : ndarray of shape (n_samples,) of int
        Class indices. A class may have no samples, as in `partial_fit`.
    sample_weight : ndarray of shape (n_samples,)
        Weight of each sample.
    n_classes : int
        Number of classes.
    how : {"probe", "class_means"}
        Kind of classifier.
    C : float
        As `logistic_probe` takes it.
    """
    if how == "class_means":
        return class_means(features, y, sample_weight, n_classes)
    return logistic_probe(features, y, sample_weight, n_classes, C)


def logistic_probe(
    features: np.ndarray, y: np.ndarray, sample_weight: np.ndarray, n_classes: int, C: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return a logistic regression as a linear head: the start of LP-FT [1]_.

    Parameters
    ----------
    features, y, sample_weight, n_classes
        As `linear_head` takes them.
    C : float
        Inverse of the penalty, for weights with a mean of 1 over different samples.

    Returns
    -------
    weight : ndarray of shape (n_classes, n_features)
    bias : ndarray of shape (n_classes,)

    References
    ----------
    .. [1] A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
       ICLR 2022.
    """
    present = np.unique(y)
    weight = np.zeros((n_classes, features.shape[1]))
    bias = np.full(n_classes, -np.log1p(len(y)))  # a class without samples is as likely as 1 in n + 2
    if len(present) == 1:
        bias[present] = 0.0
        return weight, bias
    sample_weight, basis = of_different(features, sample_weight), None
    if features.shape[1] > len(features) and features.any():
        features, basis = _rotated(features)  # the same result in fewer variables
    with (
        many_classes_allowed(),
        threadpool_limits(1, user_api="blas"),
    ):  # the steps are so small that threads would wait for each other
        probe = LogisticRegression(C=C, tol=1e-5, max_iter=1000).fit(features, y, sample_weight=sample_weight)
    coef, intercept = probe.coef_ if basis is None else probe.coef_ @ basis, probe.intercept_
    if len(coef) == 1:  # two classes: one decision value is the difference of two logits
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    weight[present], bias[present] = coef, intercept
    return weight, bias


def of_different(features: np.ndarray, sample_weight: np.ndarray) -> np.ndarray:
    """Return weights (n_samples,) with a mean of 1 over different samples, so that copies add up to one sample.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features.
    sample_weight : ndarray of shape (n_samples,)
        Weight of each sample.
    """
    n_different = len({row.tobytes() for row in features})
    scaled: np.ndarray = sample_weight * (n_different / sample_weight.sum())
    return scaled


def _rotated(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates (n_samples, rank) of features in an orthonormal basis of their span (rank, n_features)."""
    values, vectors = np.linalg.eigh(features @ features.T)  # (n_samples,), (n_samples, n_samples)
    kept = values > 1e-12 * max(values[-1], np.finfo(np.float64).tiny)
    lengths, vectors = np.sqrt(values[kept]), vectors[:, kept]  # (rank,), (n_samples, rank)
    return vectors * lengths, (vectors / lengths).T @ features


def ridge_probe(
    features: np.ndarray, y: np.ndarray, sample_weight: np.ndarray, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return a ridge regression as a linear head.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features of mean zero.
    y : ndarray of shape (n_samples, n_outputs)
        Targets.
    sample_weight : ndarray of shape (n_samples,)
        Weight of each sample.
    alpha : float
        Penalty, for weights with a mean of 1 over different samples.

    Returns
    -------
    weight : ndarray of shape (n_outputs, n_features)
    bias : ndarray of shape (n_outputs,)
    """
    ridge = Ridge(alpha=alpha).fit(features, y, sample_weight=of_different(features, sample_weight))
    return np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)


def class_means(
    features: np.ndarray, y: np.ndarray, sample_weight: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the linear head that predicts the class with the nearest mean.

    With class means m the outputs are (x · m - |m|² / 2) / s, which order classes as the squared distances |x - m|² do
    [1]_. The scale s, the mean of |m|² over the samples, keeps the softmax soft enough to learn from [2]_.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features of mean zero.
    y : ndarray of shape (n_samples,) of int
        Class indices. A class without samples gets the mean of all samples.
    sample_weight : ndarray of shape (n_samples,)
        Weight of each sample.
    n_classes : int
        Number of classes.

    Returns
    -------
    weight : ndarray of shape (n_classes, n_features)
    bias : ndarray of shape (n_classes,)

    References
    ----------
    .. [1] J. Snell et al., "Prototypical Networks for Few-shot Learning", NeurIPS 2017, equation 8.
    .. [2] H. Qi et al., "Low-Shot Learning with Imprinted Weights", CVPR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.tasks.head_init import class_means
    >>> weight, bias = class_means(np.array([[2.0], [4.0], [-6.0]]), np.array([0, 0, 1]), np.ones(3), 2)
    >>> weight.ravel().tolist(), bias.tolist()
    ([0.16666666666666666, -0.3333333333333333], [-0.25, -1.0])
    """
    member = (y[:, None] == np.arange(n_classes)) * sample_weight[:, None]  # (n_samples, n_classes)
    total = member.sum(0)  # (n_classes,)
    means = (member.T @ features) / np.where(total > 0, total, 1.0)[:, None]  # (n_classes, n_features)
    squares = (means**2).sum(1)  # (n_classes,)
    size = float(total @ squares / total.sum()) or 1.0
    return means / size, -squares / 2 / size
