"""Labels, probabilities and weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sktransfer import FineTuneClassifier
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 12)


def quick(**parameters):
    return FineTuneClassifier(**{"max_epochs": 2, "random_state": 0, "freeze_depth": "all", **parameters})


TEXTS, MOODS = make_samples("text", 12)


@pytest.mark.parametrize(
    ("X", "name"),
    [
        (IMAGES, "tiny/cnn"),
        (np.zeros((12, 64)), "tiny/cnn"),
        (TEXTS, "tiny/bert"),
        (pd.DataFrame({"text": TEXTS}), "tiny/bert"),
    ],
    ids=["images", "flat rows", "texts", "column"],
)
def test_backbone_auto_is_that_of_the_samples(X, name):
    clf = quick().fit(X, MOODS)
    assert clf.backbone_.name == name
    np.testing.assert_array_equal(clf.predict_proba(X), quick(backbone=name).fit(X, MOODS).predict_proba(X))


def test_predict_of_three_string_classes():
    y = np.array(["a", "b", "c"])[np.arange(12) % 3]
    clf = quick().fit(IMAGES, y)
    assert list(clf.classes_) == ["a", "b", "c"]
    assert clf.decision_function(IMAGES).shape == clf.predict_proba(IMAGES).shape == (12, 3)
    np.testing.assert_array_equal(clf.classes_[clf.predict_proba(IMAGES).argmax(1)], clf.predict(IMAGES))


def test_decision_function_of_two_classes_is_one_column():
    clf = quick().fit(IMAGES, LABELS)
    decision = clf.decision_function(IMAGES)
    assert decision.shape == (12,)
    np.testing.assert_allclose(1 / (1 + np.exp(-decision)), clf.predict_proba(IMAGES)[:, 1], atol=1e-5)


def test_fit_takes_a_series_with_any_index_as_y():
    y = pd.Series(LABELS, index=range(100, 112))
    assert quick().fit(IMAGES, y).score(IMAGES, y) == 1


def noise():
    rng = np.random.default_rng(0)
    return list(rng.uniform(size=(30, 8, 8)).astype(np.float32)), np.array([0] * 27 + [1] * 3)


def test_class_weight_moves_predictions_to_the_rare_class():
    X, y = noise()
    weights = {"plain": None, "balanced": "balanced", "given": {0: 30 / 54, 1: 30 / 6}}
    fitted = [quick(layer="block1", max_epochs=0, class_weight=weight).fit(X, y) for weight in weights.values()]
    plain, balanced, given = (clf.predict_proba(X)[:, 1].mean() for clf in fitted)
    assert balanced > plain + 0.05
    assert given == pytest.approx(balanced, abs=1e-6)


def test_sample_weight_equals_repeated_rows():
    X, y = noise()
    weight = np.where(np.arange(30) % 3 == 0, 2.0, 1.0)
    repeated = np.repeat(np.arange(30), weight.astype(int))
    parameters = {"head_init": "random", "max_epochs": 5, "batch_size": 1000, "freeze_depth": 4, "lr": 1e-3}
    weighted = quick(**parameters).fit(X, y, sample_weight=weight)
    rows = quick(**parameters).fit([X[i] for i in repeated], y[repeated])
    np.testing.assert_allclose(weighted.predict_proba(X), rows.predict_proba(X), atol=1e-3)


def test_fit_names_the_class_if_there_is_only_one():
    with pytest.raises(ValueError, match="one class only, 'bad'"):
        quick().fit(IMAGES, ["bad"] * 12)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (None, "requires y"),
        (LABELS[:-1], "inconsistent numbers of samples"),
        (np.linspace(0, 1, 12), "Unknown label type: continuous.*FineTuneRegressor"),
        ([float("nan")] + [0.0] * 11, "NaN"),
    ],
)
def test_fit_rejects_invalid_y(y, match):
    with pytest.raises(ValueError, match=match):
        quick().fit(IMAGES, y)


def test_sample_weight_rejects_negative_and_all_zero_weights():
    with pytest.raises(ValueError, match="egative"):
        quick().fit(IMAGES, LABELS, sample_weight=[-1] + [1] * 11)
    with pytest.raises(ValueError, match="zero"):
        quick().fit(IMAGES, LABELS, sample_weight=[0] * 12)
