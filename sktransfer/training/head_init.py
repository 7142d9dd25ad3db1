"""Start a head from a linear probe: the best linear model on the pretrained features, before anything is tuned."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from sktransfer.training.network import FineTuneNetwork

__all__ = ["class_means", "init_head", "standardise"]

# One scale for all features: dividing each by its own deviation would blow up those that hardly vary, and with them the
# noise of dropout and of the first steps.
C = 0.1  # a probe that is sure of every training sample leaves nothing to learn from
ALPHA = 10.0


def init_head(
    network: FineTuneNetwork,
    features: np.ndarray,
    y: np.ndarray,
    sample_weight: np.ndarray,
    *,
    init: str = "probe",
    labels: bool = False,
) -> None:
    """Write a linear model on the pretrained features into a network's head (LP-FT [1]_ where it is a probe).

    Parameters
    ----------
    network : FineTuneNetwork
        Gets the features' mean and scale, and the model's weights.
    features : ndarray of shape (n_samples, n_features)
        What the head sees before training.
    y : ndarray of shape (n_samples,) of int, or (n_samples, n_outputs) of float
        Class indices, or targets.
    sample_weight : ndarray of shape (n_samples,)
        How much each sample counts.
    init : {"probe", "class_means"}, default="probe"
        Which model.
    labels : bool, default=False
        Whether columns of y are labels that hold or do not, and not numbers.

    References
    ----------
    .. [1] A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
       ICLR 2022.
    """
    standardise(network, features, sample_weight)
    with torch.no_grad():
        seen = network.seen(torch.from_numpy(features)).double().numpy()  # (n_samples, n_seen)
    n_outputs = network.head.out_features
    if y.ndim == 1:
        weight, bias = _of_classes(seen, y, sample_weight, n_outputs, init)
    elif labels:
        columns = [_of_classes(seen, column.astype(np.int64), sample_weight, 2, init) for column in y.T]
        weight = np.stack([weight[1] - weight[0] for weight, _ in columns])  # (n_outputs, n_seen)
        bias = np.stack([bias[1] - bias[0] for _, bias in columns])  # (n_outputs,)
    else:
        ridge = Ridge(alpha=ALPHA).fit(seen, y, sample_weight=sample_weight)
        weight, bias = np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(weight))
        network.head.bias.copy_(torch.from_numpy(bias))


def standardise(network: FineTuneNetwork, features: np.ndarray, sample_weight: np.ndarray) -> None:
    """Write the features' mean into a network, and their scale: one for all, or one for each layer that is mixed.

    Parameters
    ----------
    network : FineTuneNetwork
        Gets them.
    features : ndarray of shape (n_samples, n_features)
        What the head sees before training.
    sample_weight : ndarray of shape (n_samples,)
        How much each sample counts.
    """
    mean = np.average(features, axis=0, weights=sample_weight)  # (n_features,)
    variance = np.average((features - mean) ** 2, axis=0, weights=sample_weight)  # (n_features,)
    n_layers = 1 if network.mix is None else len(network.mix.scores)
    scale = np.sqrt(variance.reshape(n_layers, -1).mean(1))  # (n_layers,)
    scale = np.repeat(np.where(scale > 0, scale, 1.0), len(mean) // n_layers)  # (n_features,)
    with torch.no_grad():
        network.mean.copy_(torch.from_numpy(mean))
        network.scale.copy_(torch.from_numpy(scale))


def _of_classes(
    features: np.ndarray, y: np.ndarray, sample_weight: np.ndarray, n_classes: int, init: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (n_classes, n_features) and bias (n_classes,); classes may lack samples, as in `partial_fit`."""
    if init == "class_means":
        return class_means(features, y, sample_weight, n_classes)
    present = np.unique(y)
    weight = np.zeros((n_classes, features.shape[1]))
    bias = np.full(n_classes, -np.log1p(len(y)))  # what was never seen is as likely as one of n + 2
    if len(present) == 1:
        bias[present] = 0.0
        return weight, bias
    with threadpool_limits(1, user_api="blas"):  # each step is so small that several threads wait for one another
        probe = LogisticRegression(C=C, max_iter=1000).fit(features, y, sample_weight=sample_weight)
    coef, intercept = probe.coef_, probe.intercept_
    if len(coef) == 1:  # two classes: one decision value stands for the difference of two logits
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    weight[present], bias[present] = coef, intercept
    return weight, bias


def class_means(
    features: np.ndarray, y: np.ndarray, sample_weight: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the linear head whose largest output is that of the nearest class mean.

    With means m the outputs are (x · m - |m|² / 2) / s, which order classes as the squared distances |x - m|² do [1]_;
    s, the mean of |m|² over the samples, makes them unsure enough to be learnt from [2]_.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Of mean zero.
    y : ndarray of shape (n_samples,) of int
        Class indices; a class without samples has the mean of all.
    sample_weight : ndarray of shape (n_samples,)
        How much each sample counts.
    n_classes : int
        How many classes there are.

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
    >>> from sktransfer.training.head_init import class_means
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
