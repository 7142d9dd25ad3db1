from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.h_score import h_score

SHAPES = [(60, 4), (60, 59), (20, 45)]


def sample(n, d, n_classes=3, seed=0, signal=1.0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % n_classes)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + signal * rng.normal(size=(n_classes, d))[y], y


def by_definition(Z, y, covariance, shrinkage):
    """The authors' words, a matrix for each: cov(Z)^-1 cov(E[Z | y]), with a mean for each sample."""
    means = np.stack([Z[y == label].mean(0) for label in y])
    return (1 - shrinkage) * np.trace(np.linalg.pinv(covariance) @ np.cov(means, rowvar=False, bias=True))


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_it_is_the_authors_definition_with_ledoit_and_wolfs_covariance(n, d):
    Z, y = sample(n, d)
    estimated = LedoitWolf().fit(Z)
    assert 0.001 < estimated.shrinkage_ < 1
    assert h_score(Z, y) == pytest.approx(by_definition(Z, y, estimated.covariance_, estimated.shrinkage_), rel=1e-8)


@pytest.mark.parametrize("shrinkage", [0.01, 0.5, 1])
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_shrinkage_may_be_given(n, d, shrinkage):
    Z, y = sample(n, d)
    plain = np.cov(Z, rowvar=False, bias=True)
    covariance = (1 - shrinkage) * plain + shrinkage * np.trace(plain) / d * np.eye(d)
    expected = by_definition(Z, y, covariance, shrinkage)
    assert h_score(Z, y, shrinkage=shrinkage) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_without_shrinkage_linear_maps_change_nothing_and_the_score_is_bounded():
    Z, y = sample(80, 5)
    turned = Z @ np.random.default_rng(1).normal(size=(5, 5)) + 7
    assert h_score(turned, y, shrinkage=0) == pytest.approx(h_score(Z, y, shrinkage=0))
    assert h_score(np.eye(3)[y], y, shrinkage=0) == pytest.approx(2)  # classes less one: nothing but the class
    wide, labels = sample(20, 45, signal=0)
    assert h_score(wide, labels, shrinkage=0) == pytest.approx(2)  # noise alone, which is what shrinkage is for
    assert h_score(wide, labels) < 1.2


def test_order_shift_scale_rotation_and_names_of_classes_do_not_matter():
    Z, y = sample(50, 6)
    score = h_score(Z, y)
    order = np.random.default_rng(1).permutation(50)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0]
    assert h_score(Z[order], y[order]) == pytest.approx(score)
    assert h_score(100 * Z + 3, y) == pytest.approx(score)
    assert h_score(Z @ rotation, y) == pytest.approx(score)
    assert h_score(Z, np.array(["c", "a", "b"])[y]) == pytest.approx(score)
    assert h_score(np.float32(Z), y) == pytest.approx(score, rel=1e-5)


def test_constant_features_tell_nothing_and_a_constant_one_beside_others_changes_little():
    Z, y = sample(50, 6)
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
def test_what_cannot_be_scored_is_an_error(Z, y, options, match):
    with pytest.raises(InvalidParameterError, match=match):
        h_score(Z, y, **options)
