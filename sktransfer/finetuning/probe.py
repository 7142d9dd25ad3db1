"""Start a head from a linear probe: the best linear model on the pretrained features, before anything is tuned."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from sktransfer.finetuning.network import FineTuneNetwork

__all__ = ["init_head"]

# One scale for all features: dividing each by its own deviation would blow up those that hardly vary, and with them the
# noise of dropout and of the first steps.
C = 0.1  # a probe that is sure of every training sample leaves nothing to learn from
ALPHA = 10.0


def init_head(network: FineTuneNetwork, features: np.ndarray, y: np.ndarray, sample_weight: np.ndarray) -> None:
    """Write a linear probe into a network's head (LP-FT, Kumar et al., 2022).

    Parameters
    ----------
    network : FineTuneNetwork
        Gets the features' mean and scale, and the probe's weights.
    features : ndarray of shape (n_samples, n_features)
        What the head sees before training.
    y : ndarray of shape (n_samples,) of int, or (n_samples, n_outputs) of float
        Class indices, or targets.
    sample_weight : ndarray of shape (n_samples,)
        How much each sample counts.

    References
    ----------
    .. [1] A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
       ICLR 2022.
    """
    mean = np.average(features, axis=0, weights=sample_weight)
    variance = np.average((features - mean) ** 2, axis=0, weights=sample_weight)
    scale = float(np.sqrt(variance.mean())) or 1.0
    standard = (features - mean) / scale
    if y.ndim == 1:
        with threadpool_limits(1, user_api="blas"):  # each step is so small that several threads wait for one another
            probe = LogisticRegression(C=C, max_iter=1000).fit(standard, y, sample_weight=sample_weight)
        weight, bias = probe.coef_, probe.intercept_
        if len(weight) == 1:  # two classes: one decision value stands for the difference of two logits
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    else:
        probe = Ridge(alpha=ALPHA).fit(standard, y, sample_weight=sample_weight)
        weight, bias = np.atleast_2d(probe.coef_), np.atleast_1d(probe.intercept_)
    with torch.no_grad():
        network.mean.copy_(torch.from_numpy(mean))
        network.scale.fill_(scale)
        network.head.weight.copy_(torch.from_numpy(weight))
        network.head.bias.copy_(torch.from_numpy(bias))
