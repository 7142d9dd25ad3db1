"""Closed-form leave-one-out errors against explicit ones, weights of layers, strengths of heads."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from sktransfer.engine.leave_one_out import (
    STRENGTHS,
    best_strength,
    centre,
    is_better,
    layer_weights,
    merge_equal,
    ridge_errors,
)


def explicit(features, targets, weight, strength):
    """Squared errors of one fit per sample left out, relative to the variance of the targets."""
    weight = weight / weight.mean()
    errors = []
    for row in range(len(targets)):
        rest = np.arange(len(targets)) != row
        ridge = Ridge(alpha=strength, solver="svd").fit(features[rest], targets[rest], sample_weight=weight[rest])
        errors.append(((ridge.predict(features[[row]]) - targets[[row]]) ** 2).sum())
    mean = np.average(targets, axis=0, weights=weight)
    return np.array(errors) / np.average(((targets - mean) ** 2).sum(1), weights=weight)


def some(n, d, n_outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    features, weight = rng.normal(size=(n, d)) + 5, rng.uniform(0.5, 3, n)
    targets = features[:, :n_outputs] + rng.normal(size=(n, n_outputs))
    return centre(features, weight)[0], targets, weight


@pytest.mark.parametrize("shape", [(30, 4), (12, 40)], ids=["n > d", "n < d"])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_ridge_errors_explicit(shape, n_outputs):
    features, targets, weight = some(*shape, n_outputs)
    strengths = np.array([0.01, 0.3, 10.0])
    errors = ridge_errors(features, targets, weight, strengths)
    for row, strength in zip(errors, strengths, strict=True):
        np.testing.assert_allclose(row, explicit(features, targets, weight, strength), rtol=1e-7)


def test_ridge_errors_scale_free():
    features, targets, weight = some(30, 4)
    errors = ridge_errors(features, targets, weight)
    np.testing.assert_allclose(ridge_errors(features, targets, 100 * weight), errors, rtol=1e-9)
    np.testing.assert_allclose(ridge_errors(features, 7 * targets - 3, weight), errors, rtol=1e-9)


def test_ridge_errors_weight_is_repetition_for_the_others():
    features, targets, _ = some(20, 3)
    weight = np.ones(20)
    weight[0] = 2
    centred, _, _ = centre(features, weight)
    strength = np.array([0.5])
    once = ridge_errors(centred, targets, weight, strength / weight.mean())[0]
    repeated = np.r_[0, np.arange(20)]
    twice = ridge_errors(centred[repeated], targets[repeated], np.ones(21), strength)[0]
    np.testing.assert_allclose(once[1:] / once[1], twice[2:] / twice[2], rtol=1e-9)


def test_ridge_errors_constant_features():
    targets = np.arange(4.0)[:, None]
    errors = ridge_errors(np.zeros((4, 3)), targets, np.ones(4))
    np.testing.assert_allclose(errors[0], ((targets[:, 0] - 1.5) * 4 / 3) ** 2 / 1.25)
    assert best_strength(errors, np.ones(4)) == len(STRENGTHS) - 1


def test_centre():
    features, weight = np.array([[0.0, 0.0], [2.0, 0.0], [9.0, 9.0]]), np.array([1.0, 1.0, 0.0])
    centred, mean, scale = centre(features, weight)
    assert (mean.tolist(), scale) == ([1.0, 0.0], 1.0)
    np.testing.assert_allclose(np.average((centred**2).sum(1), weights=weight), 1.0)


def test_centre_constant_features():
    centred, mean, scale = centre(np.full((3, 2), 4.0), np.ones(3))
    assert (centred.any(), mean.tolist(), scale) == (False, [4.0, 4.0], 1.0)


def test_layer_weights_prefer_the_predictive_layer():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=200)
    good = np.eye(3)[labels] + 0.5 * rng.normal(size=(200, 3))
    noise = rng.normal(size=(200, 50))
    result = layer_weights([noise, 1000 * good, noise], np.eye(3)[labels], np.ones(200))
    np.testing.assert_allclose(result.weights, [0, 0.95, 0.05])
    assert result.layer_errors.argmin() == 1
    assert result.error == pytest.approx(result.layer_errors[1], rel=0.1)


def test_layer_weights_of_equal_layers_grow_with_depth_and_the_last_one_counts_twice():
    features, targets, weight = some(30, 4)
    result = layer_weights([features, 3 * features, features + 1], targets, weight)
    np.testing.assert_allclose(result.weights, np.array([1, 2, 2 * 3]) / 9, rtol=1e-6)


def test_layer_weights_depths():
    features, targets, weight = some(30, 4)
    layers = [features, 3 * features, features + 1, features]
    result = layer_weights(layers, targets, weight, depths=[1, 2, 1, 2])
    np.testing.assert_allclose(result.weights, np.array([1, 4, 1, 4]) / 10, rtol=1e-6)


@pytest.mark.parametrize("n_poolings", [1, 2])
def test_layer_weights_keep_a_twentieth_for_the_last_stage(n_poolings):
    rng = np.random.default_rng(0)
    good, noise = rng.normal(size=(100, 3)), rng.normal(size=(3, 100, 2))
    layers = n_poolings * [good, *noise]
    weights = layer_weights(layers, good[:, :1], np.ones(100), depths=n_poolings * [1, 2, 3, 4]).weights
    assert weights.sum() == pytest.approx(1)
    assert weights[3] == pytest.approx(0.05)
    assert np.flatnonzero(weights).tolist() == [0, 3, 4][: n_poolings + 1]


def test_layer_weights_of_weighted_samples_are_scale_free():
    features, targets, weight = some(30, 4)
    layers = [features[:, :1], features[:, 1:3]]
    one, other = layer_weights(layers, targets, weight), layer_weights(layers, targets, 50 * weight)
    np.testing.assert_allclose(one.weights, other.weights)
    assert (one.strength, one.error) == (other.strength, pytest.approx(other.error))


def test_is_better():
    features, targets, weight = some(60, 4)
    noise = np.random.default_rng(5).normal(size=(60, 4))
    good, bad = (layer_weights([layer], targets, weight) for layer in (features, noise))
    assert is_better(good, bad)
    assert not is_better(bad, good)
    assert not is_better(good, good)


def test_best_strength_of_two_samples_is_the_largest():
    features, targets, weight = centre(np.array([[0.0], [1.0]]), np.ones(2))[0], np.eye(2), np.ones(2)
    assert best_strength(ridge_errors(features, targets, weight), weight) == len(STRENGTHS) - 1


def test_merge_equal():
    features, targets, weight = some(5, 3)
    rows = np.array([0, 1, 2, 1, 3, 4, 1])
    merged, means, total = merge_equal([features[rows], np.zeros((7, 2))], np.arange(14.0).reshape(7, 2), np.ones(7))
    np.testing.assert_array_equal(merged[0], features)
    np.testing.assert_array_equal(total, [1, 3, 1, 1, 1])
    np.testing.assert_array_equal(means[1], np.mean([[2, 3], [6, 7], [12, 13]], axis=0))
    layers, same, _ = merge_equal([features, np.zeros((5, 2))], targets, weight)  # equal in one layer only
    assert layers[1].shape == (5, 2)
    assert same is targets
