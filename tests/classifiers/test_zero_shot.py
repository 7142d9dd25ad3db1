"""Zero-shot classification of texts. Images are tested in plugins/clip, which has image backbones for it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import normalize

from sktransfer import TextFeaturizer, ZeroShotClassifier, clear_cache
from sktransfer.backbones import SharedSpace
from sktransfer.cache.resolve import cache_info
from sktransfer.exceptions import InvalidParameterError, TruncatedTextWarning
from sktransfer.testing import parametrize_with_transfer_checks
from tests.helpers.toys import image_backbone, text_backbone

TEXTS = ["The team scored twice and won the cup.", "Fry the onions in butter.", "A goal in the last minute!"]
LABELS = {"sports": "a football match and its goals", "food": ["a meal to cook", "a recipe of a dish"]}
KINDS = ["sports", "food", "sports"]


def test_decision_function_is_the_scaled_cosine_with_the_mean_description_per_class():
    features = TextFeaturizer("tiny/bert", normalize=True)
    sports = features.fit_transform([LABELS["sports"]])[0]
    food = normalize(features.fit_transform(LABELS["food"]).mean(0, keepdims=True))[0]
    expected = 20 * features.fit_transform(TEXTS) @ np.stack([food, sports]).T
    clf = ZeroShotClassifier("tiny/bert", LABELS)
    assert clf.classes_.tolist() == ["food", "sports"]
    np.testing.assert_allclose(clf.decision_function(TEXTS), expected[:, 1] - expected[:, 0], atol=1e-4)
    assert clf.predict(TEXTS).tolist() == KINDS
    assert clf.score(TEXTS, KINDS) == 1
    assert clf.score(TEXTS, ["food"] * 3, sample_weight=[1, 2, 1]) == 0.5


def test_labels_make_fit_and_y_optional():
    clf = ZeroShotClassifier(labels=LABELS)
    before = clf.predict_proba(TEXTS)
    np.testing.assert_array_equal(clf.fit(TEXTS).predict_proba(TEXTS), before)
    assert clone(clf).__sklearn_tags__().requires_fit is False


def test_fit_without_labels_takes_class_names_from_y():
    clf = ZeroShotClassifier(template="a text about {}")
    assert clf.__sklearn_tags__().requires_fit
    with pytest.raises(NotFittedError):
        clf.predict(TEXTS)
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None: labels=None"):
        clf.fit(TEXTS)
    learnt = clf.fit(TEXTS, KINDS).predict_proba(TEXTS)
    named = ZeroShotClassifier(labels=["sports", "food"], template="a text about {}").predict_proba(TEXTS)
    np.testing.assert_array_equal(learnt, named)
    assert cross_val_score(ZeroShotClassifier(), TEXTS * 2, KINDS * 2, cv=2).mean() > 0.5
    with pytest.raises(ValueError, match=r"one class only, \['food'\]"):
        clf.fit(TEXTS, ["food"] * 3)
    with pytest.raises(InvalidParameterError, match="template="):
        clf.set_params(template="none").fit(TEXTS, ["a", "b", "c"])
    assert clf.set_params(template="{}").classes_.tolist() == ["food", "sports"]  # as before the fits that failed


def test_fit_and_score_reject_unknown_labels():
    clf = ZeroShotClassifier(labels=LABELS)
    for call in (clf.fit, clf.score):
        with pytest.raises(InvalidParameterError, match=r"y holds 'sport'.*Did you mean 'sports'\?"):
            call(TEXTS, ["sport"] * 3)
    with pytest.raises(ValueError, match="inconsistent"):
        clf.fit(TEXTS, KINDS[:2])


def test_scale_auto_is_that_of_the_shared_space():
    def decision(scale, **changes):
        backbone = text_backbone()
        backbone.shared_space = changes.get("space")
        clf = ZeroShotClassifier(backbone, {"a": "bb ccc", "b": "dddd"}, scale=scale)
        return clf.decision_function(["a"])[0]

    assert decision("auto") == pytest.approx(20 * decision(1), rel=1e-5)
    assert decision("auto", space=SharedSpace("toy/words", 7.0)) == pytest.approx(7 * decision(1), rel=1e-5)
    for scale in ("much", 0):
        with pytest.raises(InvalidParameterError, match="scale="):
            ZeroShotClassifier(labels=LABELS, scale=scale).fit(TEXTS)


def test_text_backbone_must_share_the_space_of_images():
    images = [np.full((8, 8, 3), 0.5, np.float32)]
    with pytest.raises(InvalidParameterError, match=r"no text encoder in the same space.*pip install ./plugins/clip"):
        ZeroShotClassifier("tiny/cnn", LABELS).predict(images)
    with pytest.raises(
        InvalidParameterError, match=r"toy/maps gives 5 numbers per sample, and toy/words 4 per description"
    ):
        ZeroShotClassifier(image_backbone(), LABELS, text_backbone=text_backbone()).predict(images)
    with pytest.raises(InvalidParameterError, match="takes images; descriptions are texts"):
        ZeroShotClassifier(labels=LABELS, text_backbone="tiny/cnn").predict(TEXTS)


def test_text_backbone_may_differ_from_backbone():
    one, other = text_backbone(0), text_backbone(1)
    labels = {"a": "bb ccc", "b": "dddd e"}
    same = ZeroShotClassifier(one, labels).decision_function(["i jj"])
    assert ZeroShotClassifier(one, labels, text_backbone=other).decision_function(["i jj"]) != same
    assert ZeroShotClassifier(one, labels, text_backbone=one).decision_function(["i jj"]) == same


def test_pooling_and_max_length_change_features():
    with pytest.warns(TruncatedTextWarning):
        cut = ZeroShotClassifier(labels=["food", "sports"], max_length=4).decision_function(TEXTS)
    pooled = ZeroShotClassifier(labels=["food", "sports"], pooling="max").decision_function(TEXTS)
    plain = ZeroShotClassifier(labels=["food", "sports"]).decision_function(TEXTS)
    assert not np.allclose(cut, plain)
    assert not np.allclose(pooled, plain)


def test_cache_holds_features_of_samples_and_descriptions():
    clear_cache()
    clf = ZeroShotClassifier(labels=LABELS)
    clf.predict(TEXTS)
    assert cache_info().n_entries == 6  # three texts, three descriptions
    clf.predict_proba(TEXTS)
    assert cache_info().n_entries == 6
    clear_cache()
    clf.set_params(cache=None).predict(TEXTS)
    assert cache_info().n_entries == 0


def test_fit_sets_feature_names_in_and_verbose_shows_a_progress_bar(capsys):
    frame = pd.DataFrame({"text": TEXTS})
    clf = ZeroShotClassifier(labels=LABELS, verbose=1).fit(frame)
    assert clf.feature_names_in_.tolist() == ["text"]
    clf.predict(frame)
    assert "3/3" in capsys.readouterr().err
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(frame.rename(columns={"text": "other"}))


def known_failures(estimator):
    known = {"check_sample_weight": "fit trains nothing and takes no sample_weight"}
    if estimator.labels is not None:
        known["check_labels"] = "labels must be classes of `labels`"
    return known


@parametrize_with_transfer_checks(
    [ZeroShotClassifier(), ZeroShotClassifier(labels={"good": "a good film", "bad": "a bad film"})],
    expected_failed_checks=known_failures,
)
def test_transfer_checks(estimator, check):
    check(estimator)
