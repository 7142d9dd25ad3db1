"""Formulas that judge predictions in a domain without labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import entr, log_softmax, softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = [
    "deep_embedded_validation",
    "density_ratio",
    "importance_weighted_accuracy",
    "information_maximization",
    "matrix_norm",
    "prediction_entropy",
    "soft_neighborhood_density",
]

_SIMILARITIES = 1 << 22  # similarities in memory at once
_STRENGTHS = tuple(10.0**power for power in range(-5, 2))  # C of the domain classifier
_LEAST = 1e-12  # probability that stands for 0, so that ratios are finite


def prediction_entropy(proba: np.ndarray) -> float:
    """Return the mean entropy of predicted probabilities. Lower means more confident.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities of target samples.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection.domain_scores import prediction_entropy
    >>> round(prediction_entropy(np.array([[0.5, 0.5], [1, 0]])), 4)  # half of log 2
    0.3466
    """
    return float(entr(proba).sum(axis=1).mean())


def information_maximization(proba: np.ndarray) -> float:
    """Return the entropy of the mean probabilities minus the mean entropy [1]_. Higher is better.

    This is the mutual information of sample and class. It is 0 if all samples have the same probabilities, so that a
    model is not rewarded for predicting one class only.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities of target samples.

    References
    ----------
    .. [1] K. Musgrave et al., "Benchmarking Validation Methods for Unsupervised Domain Adaptation",
       arXiv:2208.07360, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection.domain_scores import information_maximization
    >>> information_maximization(np.array([[1.0, 0.0], [1.0, 0.0]]))
    0.0
    >>> round(information_maximization(np.array([[1.0, 0.0], [0.0, 1.0]])), 4)  # log 2
    0.6931
    """
    return float(entr(proba.mean(axis=0)).sum()) - prediction_entropy(proba)


def soft_neighborhood_density(proba: np.ndarray, temperature: float = 0.05) -> float:
    """Return the mean entropy of the similarities of each sample to all others [1]_. Higher is better.

    Probabilities have length one here, and similarities are their products divided by the temperature, as a softmax
    over the other samples. The entropy is high if a sample has many neighbors with the same prediction.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities of at least two target samples.
    temperature : float, default=0.05
        Divisor of the similarities.

    References
    ----------
    .. [1] K. Saito et al., "Tune it the Right Way: Unsupervised Validation of Domain Adaptation via Soft Neighborhood
       Density", ICCV 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection.domain_scores import soft_neighborhood_density
    >>> round(soft_neighborhood_density(np.eye(3)), 4)  # two others, equally far: log 2
    0.6931
    """
    units = proba / np.linalg.norm(proba, axis=1, keepdims=True)  # (n_samples, n_classes)
    n_samples = len(units)
    n_rows = max(1, _SIMILARITIES // n_samples)
    total = 0.0
    for start in range(0, n_samples, n_rows):
        similarity = units[start : start + n_rows] @ units.T / temperature  # (n_rows, n_samples)
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -np.inf  # a sample is not its own neighbor
        total += entr(softmax(similarity, axis=1)).sum()
    return float(total / n_samples)


def matrix_norm(values: np.ndarray, p: float = 4, threshold: float = 5, *, are_logits: bool = True) -> float:
    """Return the norm of the normalized outputs of all samples, from 0 to 1 [1]_. Higher is better.

    Confident logits are normalized by a softmax. Others are replaced by the second-order Taylor polynomial of the
    exponential function, minus the smallest value of their row, and divided by their sum. Logits are confident if their
    cross-entropy to the uniform distribution is greater than the threshold. For two classes this polynomial gives 1 and
    0 for any logits, so that a softmax is always taken.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_classes)
        Logits of target samples, or their probabilities.
    p : float, default=4
        Order of the norm.
    threshold : float, default=5
        Cross-entropy above which a softmax is taken.
    are_logits : bool, default=True
        False for probabilities, which are not normalized again.

    References
    ----------
    .. [1] R. Xie et al., "MaNo: Exploiting Matrix Norm for Unsupervised Accuracy Estimation Under Distribution Shifts",
       NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection.domain_scores import matrix_norm
    >>> round(matrix_norm(np.array([[4.0, 1.0, -2.0]]), p=1), 4)  # rows sum to one: 1 / 3 classes
    0.3333
    >>> round(matrix_norm(np.eye(3), are_logits=False), 4)
    0.7598
    """
    if are_logits:
        is_confident = -log_softmax(values, axis=1).mean() > threshold
        values = softmax(values, axis=1) if is_confident or values.shape[1] == 2 else _taylor(values)
    return float(np.mean(values**p) ** (1 / p))


def _taylor(logits: np.ndarray) -> np.ndarray:
    """Return rows of the normalized Taylor polynomial (n_samples, n_classes). A row of equal logits is uniform."""
    powers = 1 + logits + logits**2 / 2  # (n_samples, n_classes)
    powers = powers - powers.min(axis=1, keepdims=True)
    sums = powers.sum(axis=1, keepdims=True)  # (n_samples, 1)
    normalized: np.ndarray = np.where(sums > 0, powers / np.where(sums > 0, sums, 1), 1 / logits.shape[1])
    return normalized


def density_ratio(source: np.ndarray, target: np.ndarray, classifier: Any = None, n_splits: int = 5) -> np.ndarray:
    """Return the ratio of the densities of target and source at each source sample, by a domain classifier [1]_.

    The ratio is the predicted odds of the target times the number of source samples per target sample. Each sample is
    predicted by a classifier that was not fitted on it. Otherwise, the classifier would know all samples in hundreds of
    dimensions, and the ratios would be 0.

    Parameters
    ----------
    source, target : ndarray of shape (n_samples, n_features)
        Features of both domains.
    classifier : classifier, default=None
        Classifier with `predict_proba` that tells the domains apart. None for a logistic regression on standardized
        features, whose C has the smallest cross-validated loss among seven values from 1e-5 to 10.
    n_splits : int, default=5
        Number of folds, at most the number of samples of the smaller domain.

    Returns
    -------
    ratio : ndarray of shape (n_source,)

    References
    ----------
    .. [1] S. Bickel et al., "Discriminative Learning for Differing Training and Test Distributions", ICML 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection.domain_scores import density_ratio
    >>> rng = np.random.default_rng(0)
    >>> source, target = rng.normal(0, 1, (500, 1)), rng.normal(1, 1, (500, 1))
    >>> ratio = density_ratio(source, target)
    >>> bool(np.corrcoef(np.log(ratio), source[:, 0] - 0.5)[0, 1] > 0.99)  # the log-ratio is x - 0.5
    True
    """
    features = np.concatenate([source, target])  # (n_source + n_target, n_features)
    is_target = np.repeat([0, 1], [len(source), len(target)])  # (n_source + n_target,)
    folds = StratifiedKFold(min(n_splits, len(source), len(target)), shuffle=True, random_state=0)
    if classifier is None:
        classifiers = [make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000)) for C in _STRENGTHS]
    else:
        classifiers = [clone(classifier)]
    predictions = [cross_val_predict(one, features, is_target, cv=folds, method="predict_proba") for one in classifiers]
    best = min(predictions, key=lambda proba: log_loss(is_target, proba))  # (n_source + n_target, 2)
    proba = np.clip(best[: len(source)], _LEAST, None)  # (n_source, 2)
    ratio: np.ndarray = len(source) / len(target) * proba[:, 1] / proba[:, 0]  # (n_source,)
    return ratio


def importance_weighted_accuracy(is_right: np.ndarray, ratio: np.ndarray) -> float:
    """Return the accuracy on source samples, weighted by density ratios [1]_. Higher is better.

    Parameters
    ----------
    is_right : ndarray of shape (n_samples,), bool
        Whether the prediction of a source sample is right.
    ratio : ndarray of shape (n_samples,)
        Ratio of the densities of target and source.

    References
    ----------
    .. [1] M. Sugiyama et al., "Covariate Shift Adaptation by Importance Weighted Cross Validation", JMLR 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection.domain_scores import importance_weighted_accuracy
    >>> importance_weighted_accuracy(np.array([True, False]), np.array([3.0, 1.0]))
    0.75
    """
    return float(np.average(is_right, weights=ratio))


def deep_embedded_validation(losses: np.ndarray, ratio: np.ndarray) -> float:
    """Return the loss on source samples, weighted by density ratios with a control variate [1]_. Lower is better.

    The mean ratio is 1 if the ratios are exact. Its deviation from 1 is subtracted as far as it explains the weighted
    losses, which reduces the variance.

    Parameters
    ----------
    losses : ndarray of shape (n_samples,)
        Loss of each source sample.
    ratio : ndarray of shape (n_samples,)
        Ratio of the densities of target and source.

    References
    ----------
    .. [1] K. You et al., "Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation", ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.selection.domain_scores import deep_embedded_validation
    >>> deep_embedded_validation(np.array([0.5, 0.5]), np.array([1.0, 5.0]))  # a constant loss, with any ratios
    0.5
    """
    weighted = ratio * losses  # (n_samples,)
    variance = np.var(ratio, ddof=1) if len(ratio) > 1 else 0.0
    slope = -np.cov(weighted, ratio, ddof=1)[0, 1] / variance if variance > 0 else 0.0
    return float(weighted.mean() + slope * ratio.mean() - slope)
