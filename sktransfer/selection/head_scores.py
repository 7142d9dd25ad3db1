"""Transferability scores of a pretrained head, LEEP and NCE, from its probabilities for the samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.validation import check_features, encode_labels

__all__ = ["leep", "nce"]


def leep(probabilities: Any, y: Any) -> float:
    """Return the mean log-probability of the labels given the head's categories (LEEP) [1]_.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_categories)
        Probabilities of the head's categories.
    y : array-like of shape (n_samples,)
        Labels.

    Returns
    -------
    score : float
        At most 0, in nats. 0 means that each category occurs with one label only.

    Raises
    ------
    InvalidParameterError
        If the arrays differ in length, rows are not probabilities, or y holds fewer than two classes.

    References
    ----------
    .. [1] C. Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", ICML 2020.

    Examples
    --------
    >>> from sktransfer.selection.head_scores import leep
    >>> leep([[1, 0], [0, 1], [0, 1]], ["ant", "bee", "bee"])
    0.0
    """
    P, labels, n_classes = _check_arrays(probabilities, y)
    joint = np.eye(n_classes)[labels].T @ P / len(P)  # (n_classes, n_categories)
    marginal = joint.sum(0)  # (n_categories,)
    conditional = joint / np.where(marginal > 0, marginal, 1)  # P(label | category), (n_classes, n_categories)
    expected = (P * conditional[labels]).sum(1)  # (n_samples,)
    return float(np.log(np.maximum(expected, np.finfo(float).tiny)).mean()) + 0.0


def nce(probabilities: Any, y: Any) -> float:
    """Return the negative conditional entropy of the labels given the head's most probable category (NCE) [1]_.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_categories)
        Probabilities of the head's categories.
    y : array-like of shape (n_samples,)
        Labels.

    Returns
    -------
    score : float
        At most 0, in nats. 0 means that each category occurs with one label only.

    Raises
    ------
    InvalidParameterError
        If the arrays differ in length, rows are not probabilities, or y holds fewer than two classes.

    References
    ----------
    .. [1] A. Tran et al., "Transferability and Hardness of Supervised Classification Tasks", ICCV 2019.

    Examples
    --------
    >>> from sktransfer.selection.head_scores import nce
    >>> round(nce([[1, 0], [1, 0]], ["ant", "bee"]), 4)
    -0.6931
    """
    P, labels, n_classes = _check_arrays(probabilities, y)
    categories = P.argmax(1)  # (n_samples,)
    joint = np.zeros((n_classes, P.shape[1]))
    np.add.at(joint, (labels, categories), 1 / len(P))
    conditional = joint / np.maximum(joint.sum(0), np.finfo(float).tiny)  # (n_classes, n_categories)
    return float((joint * np.log(np.where(joint > 0, conditional, 1))).sum()) + 0.0


def _check_arrays(probabilities: Any, y: Any) -> tuple[np.ndarray, np.ndarray, int]:
    P = check_features(probabilities)
    if (P < 0).any() or not np.allclose(P.sum(1), 1, atol=1e-3):
        raise InvalidParameterError(
            "probabilities must be at least 0 and sum to 1 in each row: pass the output of predict_proba"
        )
    return P, *encode_labels(y, len(P))
