"""Targets, loss and predictions of the continuous task."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from sktransfer.exceptions import LoadError
from sktransfer.tasks.continuous import Continuous

RNG = np.random.default_rng(0)
WEIGHT = RNG.uniform(0.5, 2, 12)


@pytest.mark.parametrize("shape", [(12,), (12, 1), (12, 3)])
def test_decode_inverts_encode_in_the_shape_of_y(shape):
    y = RNG.normal(size=shape) * 50 + 7
    task = Continuous()
    targets = task.encode(task.check(y), WEIGHT)
    assert targets.values.shape == (12, shape[1] if len(shape) > 1 else 1)
    np.testing.assert_allclose(np.average(targets.values, axis=0, weights=WEIGHT), 0, atol=1e-6)
    np.testing.assert_allclose(np.average(targets.values**2, axis=0, weights=WEIGHT), 1, rtol=1e-5)
    np.testing.assert_allclose(task.decode(targets.values), y, rtol=1e-5)


def test_encode_keeps_the_scale_of_the_first_call():
    task = Continuous()
    task.encode(task.check([0.0, 2.0]), np.ones(2))
    np.testing.assert_allclose(task.encode(task.check([3.0, 5.0]), np.ones(2)).values, [[2.0], [4.0]])
    with pytest.raises(ValueError, match=r"y has shape \(2, 2\), and the first call's had 1 outputs"):
        task.encode(np.zeros((2, 2)), np.ones(2))


def test_encode_constant_y_has_no_division_by_zero():
    targets = Continuous().encode(np.full(4, 3.0), np.ones(4))
    np.testing.assert_array_equal(targets.values, np.zeros((4, 1)))


def test_encode_known_gives_missing_targets_zero_weight():
    known = np.array([True, False, True, True])
    task = Continuous()
    targets = task.encode_known(np.array([1.0, 2.0, 3.0]), known, np.arange(1.0, 5.0))
    np.testing.assert_array_equal(targets.weight, [1, 0, 3, 4])
    alone = Continuous().encode(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 4.0]))
    np.testing.assert_array_equal(targets.values[known], alone.values)


def test_check_refuses_three_dimensions_and_nan():
    with pytest.raises(ValueError, match="dim 3"):
        Continuous().check(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="NaN"):
        Continuous().check([1.0, np.nan])


def test_loss_is_the_mean_squared_error_per_row():
    outputs, targets = torch.randn(5, 3), torch.randn(5, 3)
    expected = ((outputs - targets) ** 2).mean(1)
    torch.testing.assert_close(Continuous().loss(outputs, targets, outputs), expected)


def test_init_head_is_a_ridge_regression_on_features_of_one_scale():
    features = (RNG.normal(size=(12, 4)) * [1, 5, 0.1, 1] + 2).astype(np.float32)
    y = RNG.normal(size=(12, 2))
    task = Continuous()
    targets = task.encode(task.check(y), WEIGHT)
    head = task.make_head(4)
    strength = task.init_head(head, features, targets, "probe")
    centred = features - np.average(features, axis=0, weights=WEIGHT)
    scaled = centred / np.sqrt(np.average(centred**2, axis=0, weights=WEIGHT).mean())
    ridge = Ridge(alpha=4 * strength.value).fit(scaled, targets.values, sample_weight=WEIGHT / WEIGHT.mean())
    with torch.no_grad():
        np.testing.assert_allclose(head(torch.from_numpy(features)), ridge.predict(scaled), atol=1e-4)


def test_score_is_r2():
    y, predicted = RNG.normal(size=12), RNG.normal(size=12)
    assert Continuous().score(y, predicted, WEIGHT) == r2_score(y, predicted, sample_weight=WEIGHT)


def test_from_state_inverts_to_state_and_refuses_methods():
    task = Continuous()
    task.encode(task.check([1.0, 3.0]), np.ones(2))
    again = Continuous.from_state(task.to_state())
    assert again.decode(np.ones((1, 1))) == task.decode(np.ones((1, 1)))
    for name in ("loss", "__class__", "not a name"):
        with pytest.raises(LoadError, match="cannot have an attribute"):
            Continuous.from_state({name: 1})
