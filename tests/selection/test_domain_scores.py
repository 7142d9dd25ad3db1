"""Formulas that judge predictions without labels, against loops over samples and classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KernelDensity, KNeighborsClassifier

from sktransfer.selection.domain_scores import (
    deep_embedded_validation,
    density_ratio,
    importance_weighted_accuracy,
    information_maximization,
    matrix_norm,
    prediction_entropy,
    soft_neighborhood_density,
)

RNG = np.random.default_rng(0)
PROBA = RNG.dirichlet([0.4, 0.4, 0.4], size=7)
PROBA[0] = [1, 0, 0]  # 0 log 0 = 0
LOGITS = RNG.normal(0, 3, size=(7, 3))


def entropy_of(row):
    return -sum(p * math.log(p) for p in row if p > 0)


def test_prediction_entropy_is_the_mean_of_the_rows():
    assert prediction_entropy(PROBA) == pytest.approx(sum(entropy_of(row) for row in PROBA) / 7, rel=1e-12)


def test_information_maximization_is_the_mutual_information_of_sample_and_class():
    mean = [sum(row[label] for row in PROBA) / 7 for label in range(3)]
    expected = 0.0  # sum over samples and classes of p(x, c) log(p(x, c) / (p(x) p(c)))
    for row in PROBA:
        expected += sum(p / 7 * math.log((p / 7) / (1 / 7 * q)) for p, q in zip(row, mean) if p > 0)
    assert information_maximization(PROBA) == pytest.approx(expected, rel=1e-12)


def test_information_maximization_is_least_if_all_samples_are_predicted_alike_while_entropy_is_best():
    collapsed = np.tile([1.0, 0.0, 0.0], (5, 1))
    assert information_maximization(collapsed) == 0 < information_maximization(PROBA)
    assert prediction_entropy(collapsed) == 0 < prediction_entropy(PROBA)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_soft_neighborhood_density_is_the_entropy_over_the_other_samples(temperature, monkeypatch):
    expected = 0.0
    for i, one in enumerate(PROBA):
        weights = []
        for j, other in enumerate(PROBA):
            if i != j:
                cosine = sum(a * b for a, b in zip(one, other)) / math.sqrt(sum(one**2) * sum(other**2))
                weights.append(math.exp(cosine / temperature))
        expected += entropy_of([weight / sum(weights) for weight in weights]) / 7
    assert soft_neighborhood_density(PROBA, temperature) == pytest.approx(expected, rel=1e-10)
    monkeypatch.setattr("sktransfer.selection.domain_scores._SIMILARITIES", 15)  # two rows at a time
    assert soft_neighborhood_density(PROBA, temperature) == pytest.approx(expected, rel=1e-10)


def test_soft_neighborhood_density_rewards_groups_of_equal_predictions():
    groups = np.repeat(np.eye(2), 5, axis=0)
    assert soft_neighborhood_density(groups) == pytest.approx(math.log(4), rel=1e-6)
    assert soft_neighborhood_density(groups[4:6].repeat([1, 9], axis=0)) > math.log(4)  # collapse, its known weakness


@pytest.mark.parametrize("p", [1, 4])
@pytest.mark.parametrize("threshold", [0.0, 100.0], ids=["softmax", "taylor"])
def test_matrix_norm_of_logits(p, threshold):
    total = 0.0
    for row in LOGITS:
        if threshold:
            powers = [1 + z + z * z / 2 for z in row]
            powers = [one - min(powers) for one in powers]
        else:
            powers = [math.exp(z) for z in row]
        total += sum((one / sum(powers)) ** p for one in powers)
    assert matrix_norm(LOGITS, p, threshold) == pytest.approx((total / 21) ** (1 / p), rel=1e-12)


def test_matrix_norm_takes_the_softmax_above_the_threshold_of_the_cross_entropy():
    cross_entropy = 0.0  # to the uniform distribution
    for row in LOGITS:
        cross_entropy += sum(math.log(sum(math.exp(other) for other in row)) - z for z in row) / 21
    below, above = (matrix_norm(LOGITS, 4, cross_entropy + shift) for shift in (-1e-9, 1e-9))
    assert below == matrix_norm(LOGITS, 4, 0.0)
    assert above == matrix_norm(LOGITS, 4, 100.0)
    assert below != above


def test_matrix_norm_keeps_the_order_of_the_logits_and_does_not_change_them():
    logits = np.array([[4.0, 1.0, -2.0]])
    expected = np.array([12, 1.5, 0]) / 13.5  # powers 13, 2.5 and 1, minus 1
    assert matrix_norm(logits) == pytest.approx(np.mean(expected**4) ** 0.25, rel=1e-12)
    assert logits.tolist() == [[4.0, 1.0, -2.0]]


def test_matrix_norm_of_two_classes_and_of_equal_logits_and_of_probabilities():
    two = np.array([[2.0, 0.0], [0.0, 0.5]])
    proba = np.exp(two) / np.exp(two).sum(1, keepdims=True)
    assert matrix_norm(two) == pytest.approx(np.mean(proba**4) ** 0.25, rel=1e-12)
    assert matrix_norm(np.ones((2, 4))) == pytest.approx(0.25, rel=1e-12)
    assert matrix_norm(PROBA, are_logits=False) == pytest.approx(np.mean(PROBA**4) ** 0.25, rel=1e-12)


def test_density_ratio_is_that_of_two_normal_distributions():
    source, target = RNG.normal(0, 1, (3000, 1)), RNG.normal(0.5, 1, (1000, 1))
    ratio = density_ratio(source, target)
    exact = np.exp(-((source[:, 0] - 0.5) ** 2) / 2 + source[:, 0] ** 2 / 2)
    assert np.abs(np.log(ratio / exact)).max() < 0.4  # a slope of 0.5, known to about 0.05, at |x| up to 4
    assert ratio.mean() == pytest.approx(1, abs=0.05)  # whatever the sizes of the domains


def test_density_ratio_predicts_samples_that_its_classifier_was_not_fitted_on():
    source, target = RNG.normal(size=(60, 200)), RNG.normal(size=(60, 200))  # one distribution in many dimensions
    ratio = density_ratio(source, target)
    assert 0.8 < ratio.min() < ratio.max() < 1.25
    inside = LogisticRegression().fit(np.r_[source, target], np.repeat([0, 1], 60)).predict_proba(source)
    assert (inside[:, 1] / inside[:, 0]).max() < 0.1  # fitted on the same samples, it knows each of them
    log_densities = [KernelDensity().fit(one).score_samples(source) for one in (source, target)]
    assert np.exp(log_densities[1] - log_densities[0]).max() < 1e-6  # and so do densities of unit bandwidth


def test_density_ratio_with_another_domain_classifier_is_finite():
    source, target = RNG.normal(0, 1, (20, 2)), RNG.normal(9, 1, (20, 2))
    given = KNeighborsClassifier(3)
    ratio = density_ratio(source, target, given, 3)
    assert ratio.max() < 1e-9
    assert np.isfinite(ratio).all()
    assert not hasattr(given, "classes_")  # a clone is fitted


def test_density_ratio_of_small_domains_has_fewer_folds():
    assert density_ratio(RNG.normal(size=(2, 2)), RNG.normal(size=(9, 2))).shape == (2,)


def test_importance_weighted_accuracy():
    is_right, ratio = RNG.uniform(size=9) < 0.5, RNG.uniform(size=9)
    expected = sum(weight for right, weight in zip(is_right, ratio) if right) / sum(ratio)
    assert importance_weighted_accuracy(is_right, ratio) == pytest.approx(expected, rel=1e-12)


def test_deep_embedded_validation_subtracts_the_control_variate():
    losses, ratio = RNG.uniform(size=9), RNG.uniform(0, 3, size=9)
    weighted = [loss * weight for loss, weight in zip(losses, ratio)]
    mean_loss, mean_ratio = sum(weighted) / 9, sum(ratio) / 9
    covariance = sum((loss - mean_loss) * (weight - mean_ratio) for loss, weight in zip(weighted, ratio)) / 8
    variance = sum((weight - mean_ratio) ** 2 for weight in ratio) / 8
    expected = mean_loss - covariance / variance * (mean_ratio - 1)
    assert deep_embedded_validation(losses, ratio) == pytest.approx(expected, rel=1e-12)


def test_deep_embedded_validation_of_equal_ratios_is_the_mean_loss():
    losses = RNG.uniform(size=9)
    assert deep_embedded_validation(losses, np.ones(9)) == pytest.approx(losses.mean(), rel=1e-12)
    assert deep_embedded_validation(losses[:1], np.ones(1)) == losses[0]
