from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from sktransfer.selection.logme import logme

SHAPES = [(30, 3), (30, 29), (12, 40)]


def sample(n, d, seed=0, noise=0.5):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, d)) * rng.uniform(0.1, 2, d)
    return Z, Z @ rng.normal(size=d) / d**0.5 + noise * rng.normal(size=n)


def by_definition(Z, y):
    """max over alpha and beta of log p(y | Z), from the density of y itself: the weights are integrated out."""
    n = len(y)

    def minus_log_density(logs):
        alpha, beta = np.exp(np.clip(logs, -30, 30))
        covariance = np.eye(n) / beta + Z @ Z.T / alpha
        return -multivariate_normal(np.zeros(n), covariance, allow_singular=False).logpdf(y)

    starts = [(a, b) for a in (-3, 2, 6) for b in (0, 3)]
    found = [
        minimize(
            minus_log_density, start, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000}
        )
        for start in starts
    ]
    return -min(one.fun for one in found) / n


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_numbers_score_the_maximum_of_the_evidence_itself(n, d):
    Z, y = sample(n, d)
    assert logme(Z, y) == pytest.approx(by_definition(Z, y), abs=1e-6)


@pytest.mark.parametrize(("n", "d"), SHAPES[::2])
def test_labels_score_the_mean_over_one_column_a_class_and_multilabel_the_mean_over_columns(n, d):
    Z, y = sample(n, d)
    labels = np.digitize(y, np.quantile(y, [0.3, 0.6]))
    columns = [by_definition(Z, (labels == label).astype(float)) for label in range(3)]
    assert logme(Z, np.array(["x", "y", "z"])[labels]) == pytest.approx(np.mean(columns), abs=1e-6)
    several = np.stack([labels == 0, y > 0], axis=1).astype(int)
    expected = np.mean([by_definition(Z, column.astype(float)) for column in several.T])
    assert logme(Z, several) == pytest.approx(expected, abs=1e-6)


def authors_iteration(Z, y, rounds):
    """The published iteration, as METHODS of its paper has it, evaluated at what it ends with."""
    n = len(Z)
    U, s, _ = np.linalg.svd(Z, full_matrices=False)
    sigma, x = s**2, U.T @ y
    alpha = beta = 1.0
    for _ in range(rounds):
        t = alpha / beta
        gamma = (sigma / (sigma + t)).sum()
        m2 = (sigma * x**2 / (t + sigma) ** 2).sum()
        res2 = (x**2 / (1 + sigma / t) ** 2).sum() + (y @ y - x @ x)
        alpha, beta = gamma / m2, (n - gamma) / res2
    covariance = np.eye(n) / beta + Z @ Z.T / alpha
    return multivariate_normal(np.zeros(n), covariance).logpdf(y) / n


def test_the_published_iteration_runs_to_the_same_and_never_beyond():
    for seed in range(5):
        Z, y = sample(40, 6, seed)
        assert authors_iteration(Z, y, 500) == pytest.approx(logme(Z, y), abs=1e-6)
        assert authors_iteration(Z, y, 3) <= logme(Z, y) + 1e-9


def test_scale_rotation_order_and_idle_features_do_not_matter():
    Z, y = sample(40, 6)
    score = logme(Z, y)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0]
    order = np.random.default_rng(1).permutation(40)
    assert logme(1e4 * Z, y) == pytest.approx(score)
    assert logme(1e-4 * Z, y) == pytest.approx(score)
    assert logme(Z @ rotation, y) == pytest.approx(score)
    assert logme(Z[order], y[order]) == pytest.approx(score)
    assert logme(np.c_[Z, np.zeros((40, 3))], y) == pytest.approx(score)
    assert logme(Z, 1e-3 * y) == pytest.approx(score + np.log(1e3))  # a density, so scale is a constant


@pytest.mark.parametrize("d", [3, 60])
def test_noise_fit_and_constants_stay_finite_and_in_order(d):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(50, d))
    exact, noise = Z @ rng.normal(size=d), rng.normal(size=50)
    assert np.isfinite(logme(Z, exact))
    assert logme(Z, exact) > logme(Z, exact + noise) > logme(Z, 10 * noise)
    assert np.isfinite(logme(Z, np.zeros(50) + 0.5))
    assert np.isfinite(logme(np.zeros((50, d)), exact))


def test_signal_scores_above_noise_where_features_outnumber_samples():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    noise = rng.normal(size=(40, 300))
    assert logme(noise + 0.5 * y[:, None], y) > logme(noise, y)
