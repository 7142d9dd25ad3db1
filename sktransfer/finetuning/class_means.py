"""A head made of class means: a sample belongs to the class whose mean is nearest."""

from __future__ import annotations

import numpy as np

__all__ = ["class_means"]


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
    >>> from sktransfer.finetuning.class_means import class_means
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
