"""`layer="auto"` of the fine-tuning estimators."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sktransfer import (
    Checkpoint,
    ContrastiveFineTuner,
    FineTuneClassifier,
    FineTuneRegressor,
    ImageFeaturizer,
    TextFeaturizer,
    clear_cache,
    find_lr,
    load,
    save,
)
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from sktransfer.training.epochs.held_out import hold_out
from tests.helpers import toys

IMAGES = np.random.default_rng(0).random((48, 8, 8, 3)).astype(np.float32)
LABELS = np.where(np.arange(48) % 2, "light", "dark")
IMAGES[LABELS == "dark"] *= 0.7
NUMBERS = IMAGES.mean((1, 2, 3))
INDICATORS = np.stack([LABELS == "dark", IMAGES[:, 0, 0, 0] > 0.4], axis=1).astype(int)
FROZEN = {"freeze_depth": "all", "max_epochs": 0}
TEXTS, MOODS = make_samples("text", 12)


def tuner(cls=FineTuneClassifier, **parameters):
    parameters = {"layer": "auto", "max_epochs": 1, "random_state": 0, **parameters}
    return cls(toys.image_backbone(), **parameters)


def featurizer():
    return ImageFeaturizer(toys.image_backbone(), layer="auto")


def test_frozen_classifier_is_the_pipeline():
    pipeline = make_pipeline(featurizer(), LogisticRegression(tol=1e-8)).fit(IMAGES, LABELS)
    clf = tuner(**FROZEN).fit(IMAGES, LABELS)
    pd.testing.assert_series_equal(clf.layer_, pipeline[0].layer_)
    assert clf.strength_ == pipeline[0].strength_
    np.testing.assert_allclose(clf.predict_proba(IMAGES), pipeline.predict_proba(IMAGES), atol=1e-3)


@pytest.mark.parametrize("y", [NUMBERS, np.stack([NUMBERS, IMAGES[:, 0, 0, 0]], axis=1)], ids=["one", "two"])
def test_frozen_regressor_is_the_pipeline(y):
    pipeline = make_pipeline(featurizer(), Ridge()).fit(IMAGES, y)
    regressor = tuner(FineTuneRegressor, **FROZEN).fit(IMAGES, y)
    pd.testing.assert_series_equal(regressor.layer_, pipeline[0].layer_, rtol=1e-4)
    assert regressor.strength_ == pipeline[0].strength_
    np.testing.assert_allclose(regressor.predict(IMAGES), pipeline.predict(IMAGES), rtol=1e-3, atol=1e-3)


def test_indicators():
    clf = tuner(**FROZEN).fit(IMAGES, INDICATORS)
    pd.testing.assert_series_equal(clf.layer_, featurizer().fit(IMAGES, INDICATORS).layer_, rtol=1e-4)
    assert clf.score(IMAGES, INDICATORS) > 0.5
    assert clf.report_.startswith(f"layers: {clf.layer_.index[0][0]}")


def test_constant_numbers_are_learnt():
    np.testing.assert_allclose(tuner(FineTuneRegressor, **FROZEN).fit(IMAGES, np.ones(48)).predict(IMAGES), 1)


def test_training_starts_at_the_probe_and_reads_trained_layers():
    start, trained = tuner(max_epochs=0).fit(IMAGES, LABELS), tuner(max_epochs=3, lr=1e-3).fit(IMAGES, LABELS)
    pd.testing.assert_series_equal(start.layer_, trained.layer_)
    assert not np.allclose(start.predict_proba(IMAGES), trained.predict_proba(IMAGES))
    assert trained.score(IMAGES, LABELS) > 0.9
    features = tuner(**FROZEN).fit(IMAGES, LABELS).predict_proba(IMAGES)
    np.testing.assert_allclose(start.predict_proba(IMAGES), features, atol=1e-4)


@pytest.mark.parametrize("depth", ["all", -1, -3, 0, 1, "stem", 0.5])
def test_freeze_depth_counts_all_stages(depth):
    auto, last = (tuner(layer=layer, freeze_depth=depth, max_epochs=0).fit(IMAGES, LABELS) for layer in ("auto", -1))
    assert "top" in auto.layer_.index.get_level_values("layer")
    assert auto.freeze_depth_ == last.freeze_depth_
    pd.testing.assert_frame_equal(auto.stages_, last.stages_)


@pytest.mark.parametrize("depth", ["bottom", 4, 1.5])
def test_freeze_depth_refuses(depth):
    with pytest.raises(InvalidParameterError, match="freeze_depth"):
        tuner(freeze_depth=depth).fit(IMAGES, LABELS)


def test_fit_runs_frozen_stages_once():
    backbone = toys.image_backbone(seed=7)
    seen = []
    hook = backbone.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    clear_cache()
    clf = FineTuneClassifier(backbone, layer="auto", max_epochs=2, random_state=0).fit(IMAGES, LABELS)
    FineTuneClassifier(backbone, layer="auto", max_epochs=2, lr=1e-3, random_state=0).fit(IMAGES, LABELS)
    hook.remove()
    assert clf.freeze_depth_ >= 1
    assert sum(seen) <= len(IMAGES) + 4  # the shapes of one sample


def test_fit_without_cache_takes_the_probe_from_the_same_pass():
    backbone = toys.image_backbone(seed=8)
    seen = []
    hook = backbone.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    FineTuneClassifier(backbone, layer="auto", cache=None, freeze_depth="all", max_epochs=0).fit(IMAGES, LABELS)
    hook.remove()
    assert sum(seen) == 2 * len(IMAGES) + 1  # as with another layer, the network that is trained has a pass of its own


def test_fit_twice_and_cache():
    one = tuner(cache=None).fit(IMAGES, LABELS)
    before = one.predict_proba(IMAGES)
    np.testing.assert_array_equal(one.fit(IMAGES, LABELS).predict_proba(IMAGES), before)
    np.testing.assert_array_equal(tuner().fit(IMAGES, LABELS).predict_proba(IMAGES), before)


def test_sample_weight():
    weight = np.where(np.arange(48) < 30, 3.0, 0.0)
    one = tuner(**FROZEN).fit(IMAGES, LABELS, sample_weight=weight)
    other = tuner(**FROZEN).fit(IMAGES[:30], LABELS[:30])
    pd.testing.assert_series_equal(one.layer_, other.layer_)
    np.testing.assert_array_equal(one.predict_proba(IMAGES), other.predict_proba(IMAGES))


def test_early_stopping_keeps_held_out_labels_out_of_the_choice():
    clf = tuner(early_stopping=True, validation_fraction=0.25).fit(IMAGES, LABELS)
    _, codes = np.unique(LABELS, return_inverse=True)
    rows, _ = hold_out(codes, None, 0.25, clf._seed, stratify=True, classes=clf.classes_)
    pd.testing.assert_series_equal(clf.layer_, featurizer().fit(IMAGES[np.sort(rows)], LABELS[np.sort(rows)]).layer_)


def test_partial_fit_and_warm_start_keep_the_first_choice():
    clf = tuner().partial_fit(IMAGES[:24], LABELS[:24], classes=["dark", "light"])
    first = clf.layer_
    pd.testing.assert_series_equal(clf.partial_fit(IMAGES[24:], LABELS[::-1][24:]).layer_, first)
    warm = tuner(warm_start=True).fit(IMAGES[:24], LABELS[:24])
    first = warm.layer_
    pd.testing.assert_series_equal(warm.fit(IMAGES[24:], LABELS[24:]).layer_, first)
    with pytest.raises(InvalidParameterError, match="the earlier fit was fitted with another layer"):
        tuner(layer=-1, warm_start=True).fit(IMAGES, LABELS).set_params(layer="auto").fit(IMAGES, LABELS)


def test_head_keeps_its_choice():
    source = tuner(max_epochs=2).fit(IMAGES, LABELS)
    other = FineTuneClassifier(source.backbone_, head=source.head_, layer="auto", max_epochs=0).fit(IMAGES, LABELS)
    pd.testing.assert_series_equal(other.layer_, source.layer_)
    np.testing.assert_allclose(other.predict_proba(IMAGES), source.predict_proba(IMAGES), atol=1e-5)
    plain = tuner(layer=-1).fit(IMAGES, LABELS)
    with pytest.raises(InvalidParameterError, match="fitted with another layer"):
        FineTuneClassifier(plain.backbone_, head=plain.head_, layer="auto").fit(IMAGES, LABELS)


def test_clone_pickle_save(tmp_path):
    clf = FineTuneClassifier(layer="auto", max_epochs=1, random_state=0).fit(IMAGES, LABELS)
    expected = clf.predict_proba(IMAGES)
    assert not hasattr(clone(clf), "layer_")
    save(clf, tmp_path / "clf")
    for other in (pickle.loads(pickle.dumps(clf)), load(tmp_path / "clf")):
        np.testing.assert_array_equal(other.predict_proba(IMAGES), expected)
        pd.testing.assert_series_equal(other.layer_, clf.layer_)
        assert other.head_.choice.layers == clf.head_.choice.layers


def test_checkpoint_and_find_lr(tmp_path):
    callbacks = [Checkpoint(tmp_path, keep=True)]
    one = tuner(callbacks=callbacks).fit(IMAGES, LABELS)
    other = tuner(callbacks=callbacks).fit(IMAGES, LABELS)
    np.testing.assert_array_equal(one.predict_proba(IMAGES), other.predict_proba(IMAGES))
    assert find_lr(tuner(), IMAGES, LABELS).lr > 0


def test_grid_search():
    grid = {"layer": [-1, "auto"], "freeze_depth": [-1, "all"]}
    search = GridSearchCV(tuner(), grid, cv=2).fit(IMAGES, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_texts():
    clf = FineTuneClassifier("tiny/bert", layer="auto", max_epochs=1, freeze_depth=-1, random_state=0)
    clf.fit(TEXTS, MOODS)
    assert set(clf.layer_.index.get_level_values("pooling")) == {"mean"}
    expected = TextFeaturizer(layer="auto").fit(TEXTS, MOODS)
    pd.testing.assert_series_equal(clf.layer_, expected.layer_)


def test_layer_only_with_auto():
    clf = tuner(layer=-1).fit(IMAGES, LABELS)
    assert not hasattr(clf, "layer_")
    assert clf.strength_ > 0


def test_contrastive_fine_tuner_refuses_auto():
    with pytest.raises(InvalidParameterError, match="ContrastiveFineTuner has none; set layer"):
        tuner(ContrastiveFineTuner).fit(IMAGES, LABELS)


@pytest.mark.parametrize(
    ("y", "match"),
    [(["a"] * 48, "one class"), (LABELS[:40], "inconsistent"), (None, "requires y"), ([None] * 48, "no label")],
)
def test_fit_refuses_y(y, match):
    with pytest.raises(ValueError, match=match):
        tuner().fit(IMAGES, y)
