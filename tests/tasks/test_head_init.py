"""Initialization of a head: linear probe, ridge and class means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestCentroid

from sktransfer import FineTuneClassifier, FineTuneRegressor, ImageFeaturizer
from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.base import Targets
from sktransfer.tasks.classification import Multiclass
from sktransfer.tasks.continuous import Continuous
from sktransfer.tasks.head_init import class_means, logistic_probe, probe_strength, ridge_probe, standardize
from sktransfer.tasks.heads import FeatureHead
from sktransfer.testing.samples import make_samples

RNG = np.random.default_rng(0)
FEATURES = (RNG.normal(size=(60, 5)) * [1, 10, 100, 1e-3, 0] + 3).astype(np.float32)


def one_scale(weight):
    centred = FEATURES - np.average(FEATURES, axis=0, weights=weight)
    return centred / np.sqrt(np.average(centred**2, axis=0, weights=weight).mean())


@pytest.mark.parametrize("n_classes", [2, 4])
def test_init_head_probe_equals_logistic_regression(n_classes):
    y = np.arange(60) % n_classes
    weight = RNG.uniform(0.5, 2, 60)
    task = Multiclass(classes=np.arange(n_classes))
    head = task.make_head(5)
    found = task.init_head(head, FEATURES, Targets(y, weight), "probe")
    scaled = one_scale(weight)
    probe = LogisticRegression(C=found.value / 5, tol=1e-6, max_iter=1000)  # 5 features of mean variance 1
    expected = probe.fit(scaled, y, sample_weight=weight / weight.mean()).predict_proba(scaled)
    with torch.no_grad():
        found = head(torch.from_numpy(FEATURES)).softmax(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_init_head_probe_equals_ridge_for_numbers():
    y = RNG.normal(size=(60, 2))
    head = FeatureHead(5, 2)
    strength = Continuous().init_head(head, FEATURES, Targets(y, np.ones(60)), "probe")
    scaled = one_scale(np.ones(60))
    with torch.no_grad():
        found = head(torch.from_numpy(FEATURES)).numpy()
    assert len(np.unique(head.scale)) == 1  # a feature that hardly varies is not blown up
    np.testing.assert_allclose(found, Ridge(alpha=5 * strength.value).fit(scaled, y).predict(scaled), atol=1e-4)


IMAGES, _ = make_samples("image", 18)
LABELS = np.arange(18) % 3


def test_class_means_gives_the_nearest_mean_the_largest_output():
    rng = np.random.default_rng(0)
    X, y, weight = rng.normal(size=(60, 4)), rng.integers(0, 3, 60), rng.integers(1, 4, 60)
    X -= np.average(X, axis=0, weights=weight)
    W, b = class_means(X, y, weight.astype(float), 3)
    nearest = NearestCentroid().fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_array_equal((X @ W.T + b).argmax(1), nearest.predict(X))
    doubled = class_means(10 * X, y, weight.astype(float), 3)
    np.testing.assert_allclose(10 * X @ doubled[0].T + doubled[1], X @ W.T + b)  # whatever the features' scale


def test_class_means_gives_a_class_without_samples_output_zero():
    W, b = class_means(np.array([[1.0], [-1.0]]), np.array([0, 2]), np.ones(2), 3)
    assert (W[1], b[1]) == (0, 0)
    assert np.isfinite(class_means(np.zeros((2, 1)), np.array([0, 1]), np.ones(2), 2)[0]).all()


def test_head_init_class_means_predicts_the_nearest_mean():
    clf = FineTuneClassifier(layer=-1, head_init="class_means", max_epochs=0).fit(IMAGES, LABELS)
    features = ImageFeaturizer(layer=-1).fit_transform(IMAGES)
    means = np.stack([features[label == LABELS].mean(0) for label in range(3)])  # (3, n_features)
    nearest = ((features[:, None] - means) ** 2).sum(2).argmin(1)
    np.testing.assert_array_equal(clf.predict(IMAGES), nearest)
    with pytest.raises(InvalidParameterError, match="needs classes"):
        FineTuneRegressor(head_init="class_means").fit(IMAGES, LABELS)


@pytest.mark.parametrize("n_features", [5, 90], ids=["n > d", "n < d"])
def test_logistic_probe_C(n_features):
    rng = np.random.default_rng(0)
    features, y = rng.normal(size=(40, n_features)), np.arange(40) % 3
    features[np.arange(40), y] += 1
    weight, bias = logistic_probe(features, y, np.ones(40), 3, 7.0 / n_features)
    one = features * np.sqrt(7.0 / n_features)  # total variance 7, on which C=1 is right
    expected = LogisticRegression(tol=1e-8, max_iter=1000).fit(one, y)
    np.testing.assert_allclose(features @ weight.T + bias, expected.decision_function(one), atol=1e-2)


@pytest.mark.parametrize("n_features", [5, 90])
def test_ridge_probe_alpha(n_features):
    rng = np.random.default_rng(0)
    features, y = rng.normal(size=(40, n_features)), rng.normal(size=(40, 2))
    weight, bias = ridge_probe(features, y, np.ones(40), n_features / 7.0)
    one = features * np.sqrt(7.0 / n_features)
    np.testing.assert_allclose(features @ weight.T + bias, Ridge().fit(one, y).predict(one), rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_probes_of_whole_weights_are_those_of_repeated_rows(scale):
    rng = np.random.default_rng(0)
    features, y, repeats = rng.normal(size=(40, 6)), np.arange(40) % 3, rng.integers(1, 4, 40)
    numbers, rows = rng.normal(size=(40, 1)), np.repeat(np.arange(40), repeats)
    ones = np.ones(len(rows))
    weighted = logistic_probe(features, y, scale * repeats, 3, 2.0)
    for one, other in zip(weighted, logistic_probe(features[rows], y[rows], ones, 3, 2.0), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    weighted = ridge_probe(features, numbers, scale * repeats, 2.0)
    for one, other in zip(weighted, ridge_probe(features[rows], numbers[rows], ones, 2.0), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_logistic_probe_of_constant_features_predicts_the_shares_of_the_classes():
    weight, bias = logistic_probe(np.zeros((8, 20)), np.arange(8) % 4 // 3, np.ones(8), 2, 5.0)
    assert not weight.any()
    assert bias[1] - bias[0] == pytest.approx(np.log(2 / 6), abs=1e-4)


def test_probe_strength_of_a_choice_is_its_own():
    targets = ChoiceTargets.of_classes(np.arange(60) % 2)
    choice = LayerChoice((LayerOutput(1, "mean"),), (5,), np.ones(1), np.zeros(5), np.ones(1), HeadStrength(9.0, False))
    assert probe_strength(FEATURES, targets, np.ones(60), choice) == (choice.head, 9.0 / 5)
    found, C = probe_strength(FEATURES, targets, np.ones(60))
    assert pytest.approx(found.value / FEATURES.astype(np.float64).var(0).sum()) == C


def test_standardize_choice_keeps_the_weights_of_layers():
    layers = (LayerOutput(1, "mean"), LayerOutput(2, "mean"))
    mean, scales = np.arange(6.0), np.array([2.0, 5.0])
    choice = LayerChoice(layers, (2, 4), np.array([0.25, 0.75]), mean, scales, HeadStrength(9.0, False))
    head = FeatureHead(6, 3)
    standardize(head, np.zeros((4, 6), np.float32), np.ones(4), choice)
    np.testing.assert_allclose(head.mean.numpy(), mean)
    total = 4**2 / 6  # a step moves outputs as much as with the 4 features of the last layer at a mean variance of 1
    expected = np.repeat(scales / np.sqrt([0.25 * total, 0.75 * total]), [2, 4])
    np.testing.assert_allclose(head.scale.numpy(), expected, rtol=1e-6)
