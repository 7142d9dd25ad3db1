"""Scores of features: H-score, LogME and k nearest neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.metrics import r2_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection import feature_scores
from sktransfer.selection.feature_scores import h_score, knn, logme

H_SCORE_SHAPES = [(60, 4), (60, 59), (20, 45)]


def make_classes(n, d, n_classes=3, seed=0, signal=1.0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % n_classes)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + signal * rng.normal(size=(n_classes, d))[y], y


def h_score_by_definition(Z, y, covariance, shrinkage):
    """Compute the authors' formula, cov(Z)^-1 cov(E[Z | y]), with one class mean per sample."""
    means = np.stack([Z[y == label].mean(0) for label in y])
    return (1 - shrinkage) * np.trace(np.linalg.pinv(covariance) @ np.cov(means, rowvar=False, bias=True))


@pytest.mark.parametrize(("n", "d"), H_SCORE_SHAPES)
def test_h_score_equals_the_definition_with_the_ledoit_wolf_covariance(n, d):
    Z, y = make_classes(n, d)
    estimated = LedoitWolf().fit(Z)
    assert 0.001 < estimated.shrinkage_ < 1
    assert h_score(Z, y) == pytest.approx(
        h_score_by_definition(Z, y, estimated.covariance_, estimated.shrinkage_), rel=1e-8
    )


@pytest.mark.parametrize("shrinkage", [0.01, 0.5, 1])
@pytest.mark.parametrize(("n", "d"), H_SCORE_SHAPES)
def test_h_score_shrinkage_as_a_number(n, d, shrinkage):
    Z, y = make_classes(n, d)
    plain = np.cov(Z, rowvar=False, bias=True)
    covariance = (1 - shrinkage) * plain + shrinkage * np.trace(plain) / d * np.eye(d)
    expected = h_score_by_definition(Z, y, covariance, shrinkage)
    assert h_score(Z, y, shrinkage=shrinkage) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_h_score_without_shrinkage_is_bounded_and_invariant_to_linear_maps():
    Z, y = make_classes(80, 5)
    turned = Z @ np.random.default_rng(1).normal(size=(5, 5)) + 7
    assert h_score(turned, y, shrinkage=0) == pytest.approx(h_score(Z, y, shrinkage=0))
    assert h_score(np.eye(3)[y], y, shrinkage=0) == pytest.approx(2)  # n_classes - 1: features are the class alone
    wide, labels = make_classes(20, 45, signal=0)
    assert h_score(wide, labels, shrinkage=0) == pytest.approx(2)  # noise alone, the reason for shrinkage
    assert h_score(wide, labels) < 1.2


def test_h_score_ignores_order_shift_scale_rotation_and_class_names():
    Z, y = make_classes(50, 6)
    score = h_score(Z, y)
    order = np.random.default_rng(1).permutation(50)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0]
    assert h_score(Z[order], y[order]) == pytest.approx(score)
    assert h_score(100 * Z + 3, y) == pytest.approx(score)
    assert h_score(Z @ rotation, y) == pytest.approx(score)
    assert h_score(Z, np.array(["c", "a", "b"])[y]) == pytest.approx(score)
    assert h_score(np.float32(Z), y) == pytest.approx(score, rel=1e-5)


def test_h_score_of_constant_features_is_zero_and_one_constant_feature_is_allowed():
    Z, y = make_classes(50, 6)
    assert h_score(np.ones((50, 6)), y) == 0
    assert np.isfinite(h_score(np.c_[Z, np.ones(50)], y))


@pytest.mark.parametrize(
    ("Z", "y", "options", "match"),
    [
        (np.zeros(3), [0, 1, 0], {}, r"features of shape \(3,\) must be \(n_samples, n_features\)"),
        (np.full((3, 1), np.nan), [0, 1, 0], {}, "finite"),
        (np.zeros((3, 1)), [0, 1], {}, "one label for each of 3 samples"),
        (np.zeros((3, 1)), [1, 1, 1], {}, "one class only"),
        (np.arange(3.0)[:, None], [0, 1, 0], {"shrinkage": 2}, "shrinkage=2 must be"),
        (np.arange(3.0)[:, None], [0, 1, 0], {"shrinkage": "lw"}, "shrinkage='lw' must be"),
    ],
)
def test_h_score_checks_its_arguments(Z, y, options, match):
    with pytest.raises(InvalidParameterError, match=match):
        h_score(Z, y, **options)


LOGME_SHAPES = [(30, 3), (30, 29), (12, 40)]


def make_linear(n, d, seed=0, noise=0.5):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, d)) * rng.uniform(0.1, 2, d)
    return Z, Z @ rng.normal(size=d) / d**0.5 + noise * rng.normal(size=n)


def logme_by_definition(Z, y):
    """Maximise log p(y | Z) over alpha and beta from the density of y, with the weights integrated out."""
    n = len(y)

    def minus_log_density(logs):
        alpha, beta = np.exp(np.clip(logs, -30, 30))
        covariance = np.eye(n) / beta + Z @ Z.T / alpha
        return -multivariate_normal(np.zeros(n), covariance, allow_singular=False).logpdf(y)

    starts = [(a, b) for a in (-3, 2, 6) for b in (0, 3)]
    optima = [
        minimize(
            minus_log_density, start, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000}
        )
        for start in starts
    ]
    return -min(optimum.fun for optimum in optima) / n


@pytest.mark.parametrize(("n", "d"), LOGME_SHAPES)
def test_logme_of_numbers_is_the_maximum_of_the_evidence(n, d):
    Z, y = make_linear(n, d)
    assert logme(Z, y) == pytest.approx(logme_by_definition(Z, y), abs=1e-6)


@pytest.mark.parametrize(("n", "d"), LOGME_SHAPES[::2])
def test_logme_of_labels_is_the_mean_over_one_hot_columns_and_multilabel_over_columns(n, d):
    Z, y = make_linear(n, d)
    labels = np.digitize(y, np.quantile(y, [0.3, 0.6]))
    columns = [logme_by_definition(Z, (labels == label).astype(float)) for label in range(3)]
    assert logme(Z, np.array(["x", "y", "z"])[labels]) == pytest.approx(np.mean(columns), abs=1e-6)
    several = np.stack([labels == 0, y > 0], axis=1).astype(int)
    expected = np.mean([logme_by_definition(Z, column.astype(float)) for column in several.T])
    assert logme(Z, several) == pytest.approx(expected, abs=1e-6)


def authors_iteration(Z, y, rounds):
    """Return the evidence after some rounds of the published iteration."""
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


def test_logme_is_the_limit_of_the_published_iteration_and_never_below_it():
    for seed in range(5):
        Z, y = make_linear(40, 6, seed)
        assert authors_iteration(Z, y, 500) == pytest.approx(logme(Z, y), abs=1e-6)
        assert authors_iteration(Z, y, 3) <= logme(Z, y) + 1e-9


def test_logme_ignores_scale_rotation_order_and_constant_zero_features():
    Z, y = make_linear(40, 6)
    score = logme(Z, y)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0]
    order = np.random.default_rng(1).permutation(40)
    assert logme(1e4 * Z, y) == pytest.approx(score)
    assert logme(1e-4 * Z, y) == pytest.approx(score)
    assert logme(Z @ rotation, y) == pytest.approx(score)
    assert logme(Z[order], y[order]) == pytest.approx(score)
    assert logme(np.c_[Z, np.zeros((40, 3))], y) == pytest.approx(score)
    assert logme(Z, 1e-3 * y) == pytest.approx(score + np.log(1e3))  # a density: the scale of y adds a constant


@pytest.mark.parametrize("d", [3, 60])
def test_logme_is_finite_for_exact_and_constant_targets_and_falls_with_noise(d):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(50, d))
    exact, noise = Z @ rng.normal(size=d), rng.normal(size=50)
    assert np.isfinite(logme(Z, exact))
    assert logme(Z, exact) > logme(Z, exact + noise) > logme(Z, 10 * noise)
    assert np.isfinite(logme(Z, np.zeros(50) + 0.5))
    assert np.isfinite(logme(np.zeros((50, d)), exact))


def test_logme_with_more_features_than_samples_scores_signal_above_noise():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    noise = rng.normal(size=(40, 300))
    assert logme(noise + 0.5 * y[:, None], y) > logme(noise, y)


def make_shifted(n=61, d=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 2)
    return rng.normal(size=(n, d)) + 1.0 * y[:, None], y


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 5])
def test_knn_equals_leave_one_out_of_scikit_learn(distance, k, monkeypatch):
    monkeypatch.setattr(feature_scores, "_BLOCK", 17)  # blocks that do not divide the samples
    Z, y = make_shifted()
    predicted = cross_val_predict(KNeighborsClassifier(k, metric=distance), Z, y, cv=LeaveOneOut())
    assert knn(Z, y, k=k, distance=distance) == pytest.approx(np.mean(predicted == y))
    target = Z @ np.arange(4.0) + 0.1 * y
    predicted = cross_val_predict(KNeighborsRegressor(k, metric=distance), Z, target, cv=LeaveOneOut())
    assert knn(Z, target, k=k, distance=distance) == pytest.approx(r2_score(target, predicted))


def test_knn_of_several_labels_is_the_mean_of_their_accuracies():
    Z, y = make_shifted()
    both = np.stack([y, (Z[:, 0] > 1).astype(int)], axis=1)
    assert knn(Z, both) == pytest.approx((knn(Z, both[:, 0]) + knn(Z, both[:, 1])) / 2)


def test_knn_shares_tied_votes_for_any_class_names():
    Z = np.array([[1.0], [1.1], [0.9]])
    assert knn(Z, [0, 1, 2], k=2, distance="euclidean") == 0
    assert knn(Z, [0, 0, 1], k=2, distance="euclidean") == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert knn(Z, [1, 1, 0], k=2, distance="euclidean") == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_knn_distance_cosine_ignores_length_and_euclidean_ignores_shift():
    Z, y = make_shifted()
    lengths = np.random.default_rng(1).uniform(0.1, 10, (61, 1))
    assert knn(Z * lengths, y) == knn(Z, y)
    assert knn(Z + 1e6, y, distance="euclidean") == knn(Z, y, distance="euclidean")
    assert 0 <= knn(np.zeros((6, 2)), [0, 1, 0, 1, 0, 1]) <= 1  # zero vectors have no direction


@pytest.mark.parametrize(("options", "match"), [({"k": 0}, "k=0"), ({"k": True}, "k=True"), ({"distance": "l1"}, "l1")])
def test_knn_checks_k_and_distance(options, match):
    with pytest.raises(InvalidParameterError, match=match):
        knn(*make_shifted(), **options)
    with pytest.raises(InvalidParameterError, match="one sample has no neighbours"):
        knn([[1.0]], ["a"])


def test_knn_k_larger_than_the_number_of_others_uses_all_others():
    assert knn([[1, 0], [0, 1], [1, 1]], ["a", "b", "b"], k=50) == pytest.approx((0 + 0.5 + 0.5) / 3)


def test_knn_never_counts_a_sample_as_its_own_neighbour():
    assert knn([[1, 0], [-1, 0], [-1, 0.1]], ["a", "b", "b"], k=2) == pytest.approx((0 + 0.5 + 0.5) / 3)
