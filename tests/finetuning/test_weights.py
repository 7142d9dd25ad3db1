"""Weights of samples and classes: only their ratios matter, whatever else is in the objective."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import AdaBoostClassifier
from skorch.callbacks import GradientNormClipping

from sktransfer import FineTuneClassifier, FineTuneRegressor, NearestClassMean, find_lr

RNG = np.random.default_rng(0)
N = 40
IMAGES = RNG.uniform(size=(N, 8, 8)).astype(np.float32)
CLASSES = RNG.integers(0, 3, N)
WEIGHT = RNG.uniform(0.2, 3.0, N)
TARGETS = {
    "classes": CLASSES,
    "labels": np.stack([CLASSES == 0, CLASSES == 1, RNG.integers(0, 2, N)], 1).astype(int),
    "numbers": IMAGES.mean((1, 2)).astype(np.float64),
}
FACTORS = [1e-3, 1e3, 1 / N, 1e-30, 1e300]


def fitted(kind, weight=None, rows=slice(None), **parameters):
    estimator = FineTuneRegressor if kind == "numbers" else FineTuneClassifier
    options = {"layer": "block2", "freeze_depth": "all", "max_epochs": 0, "random_state": 0, **parameters}
    return estimator(**options).fit(IMAGES[rows], TARGETS[kind][rows], sample_weight=weight)


def outputs(kind, *args, **parameters):
    estimator = fitted(kind, *args, **parameters)
    return estimator.predict(IMAGES) if kind == "numbers" else estimator.predict_proba(IMAGES)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("kind", TARGETS)
def test_sample_weight_of_equal_values_is_none_to_the_bit(kind, factor):
    np.testing.assert_array_equal(outputs(kind, np.full(N, factor)), outputs(kind))


@pytest.mark.parametrize("kind", TARGETS)
def test_sample_weight_ratios_alone_decide_the_head_init(kind):
    expected = outputs(kind, WEIGHT)
    assert np.abs(expected - outputs(kind)).max() > 1e-3
    for factor in FACTORS:
        np.testing.assert_allclose(outputs(kind, factor * WEIGHT), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", TARGETS)
def test_sample_weight_ratios_alone_decide_the_training(kind):
    options = {
        "freeze_depth": "block1",
        "max_epochs": 3,
        "batch_size": 8,
        "lr": 1e-3,
        "weight_decay": 0.1,
        "l2_sp": 0.1,
        "early_stopping": True,
        "validation_fraction": 0.3,
        "callbacks": [GradientNormClipping(1.0)],
    }
    expected = fitted(kind, WEIGHT, **options)
    scaled = fitted(kind, 1e-3 * WEIGHT, **options)
    losses = ["train_loss", "valid_loss"]
    np.testing.assert_allclose(scaled.history_[losses], expected.history_[losses], rtol=1e-3)


@pytest.mark.parametrize("kind", TARGETS)
def test_sample_weight_of_zero_equals_a_dropped_row_to_the_bit(kind):
    kept = np.arange(N) % 4 > 0
    options = {"freeze_depth": "block1", "max_epochs": 1, "batch_size": 8, "weights": "random"}
    weighted = outputs(kind, np.where(kept, WEIGHT, 0.0), **options)
    np.testing.assert_array_equal(weighted, outputs(kind, WEIGHT[kept], kept, **options))


@pytest.mark.parametrize("head_init", ["probe", "class_means"])
def test_class_weight_ratios_alone_matter(head_init):
    weights = {0: 1.0, 1: 2.0, 2: 5.0}
    expected = outputs("classes", class_weight=weights, head_init=head_init)
    for factor in FACTORS:
        scaled = {label: factor * weight for label, weight in weights.items()}
        found = outputs("classes", class_weight=scaled, head_init=head_init)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_class_weight_of_zero_drops_the_rows_and_keeps_the_class():
    clf = fitted("classes", class_weight={0: 1.0, 1: 1.0, 2: 0.0})
    dropped = fitted("classes", rows=CLASSES != 2)
    assert clf.classes_.tolist() == [0, 1, 2]
    np.testing.assert_allclose(clf.predict_proba(IMAGES)[:, :2], dropped.predict_proba(IMAGES), atol=0.05)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_class_weight_rejects_values_that_are_no_weights(weight):
    with pytest.raises(ValueError, match="must hold finite numbers of at least 0"):
        fitted("classes", class_weight={0: 1.0, 1: weight, 2: 1.0})


def test_sample_weight_of_adaboost_is_as_good_as_its_estimator():
    boosted = AdaBoostClassifier(FineTuneClassifier(layer="block2", freeze_depth="all", max_epochs=0), n_estimators=1)
    alone = fitted("classes").score(IMAGES, CLASSES)
    assert boosted.fit(IMAGES.reshape(N, -1), CLASSES).score(IMAGES.reshape(N, -1), CLASSES) == alone


def test_sample_weight_ratios_alone_decide_the_rates_of_find_lr():
    clf = FineTuneClassifier(layer="block2", freeze_depth="block1", random_state=0)
    curves = [find_lr(clf, IMAGES, CLASSES, factor * WEIGHT, highest=0.1, n_steps=12).curve for factor in (1.0, 1e-3)]
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-3, atol=1e-5)


def test_sample_weight_ratios_alone_decide_the_means_of_nearest_class_mean():
    X = RNG.normal(size=(N, 5))
    expected = NearestClassMean().fit(X, CLASSES, sample_weight=WEIGHT).means_
    for factor in FACTORS:
        np.testing.assert_allclose(NearestClassMean().fit(X, CLASSES, factor * WEIGHT).means_, expected)


@pytest.mark.parametrize("layer", ["auto", "block2", "all"])
@pytest.mark.parametrize("kind", TARGETS)
def test_sample_weight_of_whole_numbers_is_repeated_rows(kind, layer):
    repeats = np.random.default_rng(1).integers(1, 4, N)
    rows = np.repeat(np.arange(N), repeats)
    weighted, repeated = fitted(kind, repeats, layer=layer), fitted(kind, rows=rows, layer=layer)
    assert repeated.strength_ == pytest.approx(weighted.strength_)
    outputs = "predict" if kind == "numbers" else "predict_proba"
    found, expected = (getattr(one, outputs)(IMAGES) for one in (repeated, weighted))
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
