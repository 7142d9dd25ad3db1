"""LEEP and NCE: how well a pretrained head's categories tell the labels. They need a head, and no features."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.arrays import as_features, as_labels

__all__ = ["leep", "nce"]


def leep(probabilities: Any, y: Any) -> float:
    """Return the mean log-probability that the head's categories give to the labels (LEEP) [1]_.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_categories)
        Of the head's own categories.
    y : array-like of shape (n_samples,)
        Labels.

    Returns
    -------
    score : float
        At most 0, where each category goes with one label; in nats.

    Raises
    ------
    InvalidParameterError
        If the arrays do not belong together, or y holds one class only.

    References
    ----------
    .. [1] C. Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", ICML 2020.

    Examples
    --------
    >>> from sktransfer.selection.transferability import leep
    >>> leep([[1, 0], [0, 1], [0, 1]], ["ant", "bee", "bee"])
    0.0
    """
    P, labels, n_classes = _checked(probabilities, y)
    joint = np.eye(n_classes)[labels].T @ P / len(P)  # (n_classes, n_categories)
    marginal = joint.sum(0)
    given = joint / np.where(marginal > 0, marginal, 1)  # P(label | category)
    expected = (P * given[labels]).sum(1)  # (n_samples,)
    return float(np.log(np.maximum(expected, np.finfo(float).tiny)).mean()) + 0.0


def nce(probabilities: Any, y: Any) -> float:
    """Return minus the entropy of the labels where the head's most probable category is known (NCE) [1]_.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_categories)
        Of the head's own categories.
    y : array-like of shape (n_samples,)
        Labels.

    Returns
    -------
    score : float
        At most 0, where each category goes with one label; in nats.

    Raises
    ------
    InvalidParameterError
        If the arrays do not belong together, or y holds one class only.

    References
    ----------
    .. [1] A. Tran et al., "Transferability and Hardness of Supervised Classification Tasks", ICCV 2019.

    Examples
    --------
    >>> from sktransfer.selection.transferability import nce
    >>> round(nce([[1, 0], [1, 0]], ["ant", "bee"]), 4)
    -0.6931
    """
    P, labels, n_classes = _checked(probabilities, y)
    best = P.argmax(1)
    joint = np.zeros((n_classes, P.shape[1]))
    np.add.at(joint, (labels, best), 1 / len(P))
    given = joint / np.maximum(joint.sum(0), np.finfo(float).tiny)
    return float((joint * np.log(np.where(joint > 0, given, 1))).sum()) + 0.0


def _checked(probabilities: Any, y: Any) -> tuple[np.ndarray, np.ndarray, int]:
    P = as_features(probabilities)
    if (P < 0).any() or not np.allclose(P.sum(1), 1, atol=1e-3):
        raise InvalidParameterError("probabilities must be at least 0 and sum to 1 in each row: pass predict_proba's")
    return P, *as_labels(y, len(P))
