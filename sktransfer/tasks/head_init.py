"""Initialization of heads from the features of the pretrained network."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from sktransfer.engine.choose_layers import LayerChoice
from sktransfer.tasks.heads import FeatureHead

__all__ = ["class_means", "linear_head", "linear_input", "logistic_probe", "ridge_probe", "standardize", "write_linear"]

C = 0.1  # a probe that is certain of every training sample leaves no gradient to learn from
ALPHA = 10.0


def standardize(
    head: FeatureHead, features: np.ndarray, sample_weight: np.ndarray, choice: LayerChoice | None = None
) -> None:
    """Write the mean of the features into a head, and their scale: one for all, or one per mixed layer.

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
        Choice that the features come from. Its scales keep the weight of each layer; the mean variance is 1 as well.
    """
    if choice is not None:
        _write_scale(head, choice.mean, choice.divisors(features.shape[1]))
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


def linear_head(
    features: np.ndarray, y: np.ndarray, sample_weight: np.ndarray, n_classes: int, how: str, total: float | None = None
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
    total : float, default=None
        As `logistic_probe` takes it.
    """
    if how == "class_means":
        return class_means(features, y, sample_weight, n_classes)
    return logistic_probe(features, y, sample_weight, n_classes, total)


def logistic_probe(
    features: np.ndarray, y: np.ndarray, sample_weight: np.ndarray, n_classes: int, total: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return a logistic regression as a linear head: the start of LP-FT [1]_.

    Parameters
    ----------
    features, y, sample_weight, n_classes
        As `linear_head` takes them.
    total : float, default=None
        Total variance of the features at which C=1 is right, if their mean variance is 1. None for C=0.1.

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
    strength, tol, basis = C, 1e-4, None
    if total is not None:
        strength, tol = total / features.shape[1], 1e-5  # a weaker penalty takes more steps
        if features.shape[1] > len(features):
            features, basis = _rotated(features)  # the same result in fewer variables
    with threadpool_limits(1, user_api="blas"):  # the steps are so small that threads would wait for each other
        probe = LogisticRegression(C=strength, tol=tol, max_iter=1000).fit(features, y, sample_weight=sample_weight)
    coef, intercept = probe.coef_ if basis is None else probe.coef_ @ basis, probe.intercept_
    if len(coef) == 1:  # two classes: one decision value is the difference of two logits
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    weight[present], bias[present] = coef, intercept
    return weight, bias


def _rotated(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates (n_samples, rank) of features in an orthonormal basis of their span (rank, n_features)."""
    values, vectors = np.linalg.eigh(features @ features.T)  # (n_samples,), (n_samples, n_samples)
    kept = values > 1e-12 * max(values[-1], np.finfo(np.float64).tiny)
    lengths, vectors = np.sqrt(values[kept]), vectors[:, kept]  # (rank,), (n_samples, rank)
    return vectors * lengths, (vectors / lengths).T @ features


def ridge_probe(
    features: np.ndarray, y: np.ndarray, sample_weight: np.ndarray, total: float | None = None
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
    total : float, default=None
        Total variance of the features at which alpha=1 is right, if their mean variance is 1. None for alpha=10.

    Returns
    -------
    weight : ndarray of shape (n_outputs, n_features)
    bias : ndarray of shape (n_outputs,)
    """
    ridge = Ridge(alpha=ALPHA if total is None else features.shape[1] / total).fit(
        features, y, sample_weight=sample_weight
    )
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
