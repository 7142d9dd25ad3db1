"""Alignment of two domains as a second task of one training."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, KFold
from skorch.callbacks import Callback, EpochScoring

from sktransfer import (
    DANN,
    MCC,
    DomainAdaptationClassifier,
    FineTuneClassifier,
    ImageFeaturizer,
    MicroBatches,
    MultiTaskKFold,
)
from sktransfer.domains.adversarial import reversal_strength
from sktransfer.domains.statistics import with_statistics
from sktransfer.engine.compute import Compute
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.exceptions import InvalidParameterError, TargetWarning
from sktransfer.samples.images import check_images
from sktransfer.testing.samples import make_samples
from tests.helpers.toys import image_backbone

BACKBONE = image_backbone()
RNG = np.random.default_rng(0)
N = 24
LABELS = np.array(["bright", "dark"], dtype=object)[np.arange(N) % 2]
DOMAIN = np.where(np.arange(N) < 14, 1, -1)
SOURCE, TARGET = DOMAIN > 0, DOMAIN < 0
IMAGES = RNG.random((N, 8, 8, 3)).astype(np.float32) * np.where(np.arange(N) % 2, 0.4, 1.0)[:, None, None, None]
IMAGES[TARGET] = 0.3 * IMAGES[TARGET] + 0.1
Y = np.where(SOURCE, LABELS, None)
OPTIONS = {"freeze_depth": 1, "layer": -1, "max_epochs": 2, "batch_size": 8, "lr": 1e-3, "random_state": 0}
LOSSES = ("coral", "mmd", "dann", "mcc")


def adapt(**params):
    return DomainAdaptationClassifier(BACKBONE, **{**OPTIONS, "alignment": "coral", **params})


def assert_equal_fits(one, other):
    first, second = (each.net_.module_.state_dict() for each in (one, other))
    assert first.keys() == second.keys()
    assert [name for name, value in first.items() if not torch.equal(value, second[name])] == []
    pd.testing.assert_frame_equal(*(each.history_.drop(columns="seconds") for each in (one, other)))
    np.testing.assert_array_equal(one.predict_proba(IMAGES), other.predict_proba(IMAGES))


RECIPES = {
    "plain": {},
    "auto": {"layer": "auto", "freeze_depth": -1},
    "random head": {"head_init": "random", "freeze_depth": 0},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3, "max_epochs": 4},
    "class weights": {"class_weight": "balanced", "label_smoothing": 0.1},
    "frozen": {"freeze_depth": "all"},
}


@pytest.mark.parametrize("no_alignment", [{"alignment": "none"}, {"alignment_weight": 0}], ids=["none", "weight 0"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_alignment_weight_0_equals_fine_tune_classifier_on_the_source(recipe, no_alignment):
    if recipe.get("freeze_depth") == "all" and "alignment" not in no_alignment:
        no_alignment = {"alignment": ["mcc", "dann"], **no_alignment}
    single = FineTuneClassifier(BACKBONE, **{**OPTIONS, **recipe}).fit(IMAGES[SOURCE], LABELS[SOURCE])
    assert_equal_fits(single, adapt(**recipe, **no_alignment).fit(IMAGES, Y))


@pytest.mark.parametrize(
    ("alignment", "weight", "part"), [("coral", 5.0, 0.9), ("mmd", 5.0, 0.9), ("mcc", 100.0, 0.985)]
)
def test_alignment_lowers_its_loss(alignment, weight, part):
    history = adapt(alignment=alignment, max_epochs=20, alignment_weight=weight).fit(IMAGES, Y).history_
    losses = history[f"train_loss_{alignment}"]
    assert losses.iloc[-1] < part * losses.iloc[0]
    np.testing.assert_allclose(history["train_loss"], history["train_loss_y"] + weight * losses, rtol=1e-4)


@pytest.mark.parametrize("alignment", [*LOSSES, "adabn", ["adabn", "coral", "mcc"]], ids=str)
def test_fit_twice_equals_fit_once(alignment):
    once = adapt(alignment=alignment).fit(IMAGES, Y)
    assert_equal_fits(once, clone(once).fit(IMAGES[::-1], Y[::-1]).fit(IMAGES, Y))


@pytest.mark.parametrize("alignment", [*LOSSES, "adabn"])
def test_cache_changes_no_bit(alignment):
    assert_equal_fits(*(adapt(alignment=alignment, cache=cache).fit(IMAGES, Y) for cache in ("memory", None)))


def test_fit_leaves_the_net_of_the_classes_alone():
    clf = adapt(alignment=["dann", "mcc"]).fit(IMAGES, Y)
    assert list(clf.net_.tasks) == list(clf.net_.module_.heads) == ["y"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict(IMAGES), clf.predict(IMAGES))
    assert clf.predict(IMAGES[TARGET]).tolist() == clf.predict(IMAGES)[TARGET].tolist()


def test_fit_keeps_frozen_stages_and_y():
    before, y = {name: one.clone() for name, one in BACKBONE.stages.state_dict().items()}, Y.copy()
    clf = adapt(alignment=["coral", "dann"]).fit(IMAGES, y)
    assert y.tolist() == Y.tolist()
    for name, value in BACKBONE.stages.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(torch.equal(a, b) for a, b in zip(clf.backbone_.stages[0].parameters(), BACKBONE.stages[0].parameters()))
    assert clf.stages_["trained"].tolist() == [False, True, True]


class Recorder(Callback):
    """Record of each training batch: domains, strength of the reversal, and rates by whether they are the own ones."""

    seen: list

    def on_train_begin(self, net, **kwargs):
        Recorder.seen = []

    def on_batch_end(self, net, batch, training, **kwargs):
        sign = batch[1]["dann"].sign().tolist()
        rates = {group["own_rate"]: group["lr"] for group in net.optimizer_.param_groups}
        Recorder.seen.append((sign.count(1), sign.count(-1), net.module_.heads["dann"].reversal.strength, rates))


def test_fit_draws_as_many_samples_of_both_domains_in_each_batch():
    adapt(alignment="dann", callbacks=[Recorder()]).fit(IMAGES, Y)
    assert {one[:2] for one in Recorder.seen} == {(4, 4)}


def test_dann_follows_its_schedule_and_its_rate():
    alignment = DANN(lr=0.02)
    adapt(alignment=alignment, lr_schedule="constant", callbacks=[Recorder()]).fit(IMAGES, Y)
    strengths = [one[2] for one in Recorder.seen]
    assert strengths == [reversal_strength(step / len(strengths)) for step in range(len(strengths))]
    assert len(strengths) == 6
    assert all(one[3] == {True: 0.02, False: 1e-3} for one in Recorder.seen)
    assert repr(alignment) == "DANN(lr=0.02, hidden=128)"


def test_shuffled_sample_domain_changes_the_result():
    right = adapt(alignment="coral").fit(IMAGES, Y, DOMAIN)
    other = np.where(np.arange(N) % 3 > 0, 1, -1)
    with pytest.warns(TargetWarning, match="labels in y, which are not used"):
        wrong = adapt(alignment="coral").fit(IMAGES, Y, other)
    assert not np.array_equal(right.predict_proba(IMAGES), wrong.predict_proba(IMAGES))


def test_sample_domain_equals_missing_labels():
    with pytest.warns(TargetWarning, match="10 samples of target domains have labels in y, which are not used"):
        given = adapt().fit(IMAGES, LABELS, sample_domain=3 * DOMAIN)
    assert given.domains_.tolist() == [-3, 3]
    assert_equal_fits(given, adapt().fit(IMAGES, Y))


@pytest.mark.parametrize(
    "y",
    [
        np.where(SOURCE, np.arange(N) % 2, np.nan),
        pd.Series(np.where(SOURCE, LABELS, None), dtype="category"),
        pd.Series(np.where(SOURCE, np.arange(N) % 2, None), dtype="Int64"),
    ],
    ids=["float", "category", "Int64"],
)
def test_fit_takes_labels_of_any_kind(y):
    clf = adapt(max_epochs=0).fit(IMAGES, y)
    assert set(clf.predict(IMAGES)) <= set(clf.classes_)
    assert clf.score(IMAGES, y) == np.mean(clf.predict(IMAGES[SOURCE]) == np.asarray(y[SOURCE]))


def test_fit_takes_indicators():
    y = pd.DataFrame({"dark": np.arange(N) % 2, "odd": np.arange(N) % 3 > 0}).astype(float)
    y[TARGET] = np.nan
    clf = adapt(alignment="mmd").fit(IMAGES, y)
    assert clf.label_names_.tolist() == ["dark", "odd"]
    assert clf.predict(IMAGES).shape == (N, 2)
    with pytest.raises(InvalidParameterError, match="alignment='mcc' takes one class per sample"):
        adapt(alignment="mcc").fit(IMAGES, y)


def test_sample_weight_of_0_equals_a_dropped_sample():
    keep = np.arange(N) % 5 > 0
    for alignment in ("coral", "adabn"):
        weighted = adapt(alignment=alignment).fit(IMAGES, Y, sample_weight=3.0 * keep)
        assert_equal_fits(weighted, adapt(alignment=alignment).fit(IMAGES[keep], Y[keep]))


def test_sample_weight_counts_within_the_target():
    weights = np.where(TARGET, np.arange(N), 1.0)
    equal, other = (adapt(alignment="mmd").fit(IMAGES, Y, sample_weight=one) for one in (None, weights))
    assert not np.array_equal(equal.predict_proba(IMAGES), other.predict_proba(IMAGES))


@pytest.mark.parametrize("alignment", ["coral", "adabn"])
def test_sample_weight_refuses_to_leave_one_sample_of_a_domain(alignment):
    with pytest.raises(ValueError, match="sample_weight leaves 1 samples of the target domain"):
        adapt(alignment=alignment).fit(IMAGES, Y, sample_weight=SOURCE + (np.arange(N) == N - 1))


def test_early_stopping_holds_out_samples_of_the_source():
    clf = adapt(early_stopping=True, validation_fraction=0.3).fit(IMAGES, Y)
    assert {"valid_loss", "valid_loss_y", "valid_acc_y"} <= set(clf.history_)
    assert "valid_loss_coral" not in clf.history_
    np.testing.assert_allclose(clf.history_["valid_loss"], clf.history_["valid_loss_y"], rtol=1e-6)


def test_x_val_takes_labelled_samples():
    clf = adapt().fit(IMAGES, Y, X_val=IMAGES[:6], y_val=LABELS[:6])
    assert clf.history_["valid_loss_y"].notna().all()


def test_warm_start_continues():
    first = adapt(alignment=["coral", "dann"], warm_start=True).fit(IMAGES, Y)
    before = first.history_["train_loss_y"].iloc[-1]
    assert first.fit(IMAGES, Y).history_["train_loss_y"].iloc[-1] < before


def test_adabn_takes_statistics_of_each_domain():
    clf = adapt(alignment="adabn", freeze_depth="all", max_epochs=0).fit(IMAGES, Y)
    assert clf.adapted_stages_ == ["stem"]
    source, target = (_with_statistics(BACKBONE, rows) for rows in (SOURCE, TARGET))
    single = FineTuneClassifier(source, **{**OPTIONS, "freeze_depth": "all", "max_epochs": 0})
    head = single.fit(IMAGES[SOURCE], LABELS[SOURCE]).head_
    logits = head(ImageFeaturizer(target, layer=-1).fit_transform(IMAGES))
    np.testing.assert_allclose(clf.decision_function(IMAGES), logits[:, 1] - logits[:, 0], atol=1e-4)


@pytest.mark.parametrize("freeze_depth", [0, 1])
def test_adabn_with_another_alignment_takes_statistics_of_each_domain(freeze_depth):
    options = {"freeze_depth": freeze_depth, "max_epochs": 0}
    alone, both = (adapt(alignment=one, **options).fit(IMAGES, Y) for one in ("adabn", ["adabn", "coral"]))
    np.testing.assert_allclose(both.decision_function(IMAGES), alone.decision_function(IMAGES), atol=1e-4)
    assert both.adapted_stages_ == ["stem"]
    source, target = (_with_statistics(BACKBONE, rows) for rows in (SOURCE, TARGET))
    seen = {}

    class Seen(Callback):
        def on_train_begin(self, net, X=None, **kwargs):
            arguments, targets = X.batch(range(N))
            coral = net.tasks["coral"]
            arguments, _ = coral.prepare(arguments, targets["coral"][0])
            net.module_.eval()
            with torch.no_grad():
                seen["features"] = net.module_(**arguments)[1]["features"].numpy()  # (n, n_features)
                seen["of target"] = net.module_(**arguments)[1]["features"].numpy()  # the domains are forgotten

    clf = adapt(alignment=["adabn", "coral"], freeze_depth=freeze_depth, callbacks=[Seen()]).fit(IMAGES, Y)
    expected = [ImageFeaturizer(one, layer=-1).fit_transform(IMAGES) for one in (source, target)]
    np.testing.assert_allclose(seen["features"][SOURCE], expected[0][SOURCE], atol=1e-4)
    np.testing.assert_allclose(seen["features"][TARGET], expected[1][TARGET], atol=1e-4)
    if freeze_depth == 0:
        np.testing.assert_allclose(seen["of target"], expected[1], atol=1e-4)
    assert not any("Domain" in type(one).__name__ for one in clf.net_.module_.modules())
    final = _with_statistics(clf.backbone_, TARGET)
    features = [ImageFeaturizer(one).fit_transform(IMAGES) for one in (clf.backbone_, final)]
    np.testing.assert_allclose(*features, atol=1e-4)
    assert not hasattr(both.set_params(alignment="coral").fit(IMAGES, Y), "adapted_stages_")


def test_adabn_with_another_alignment_is_no_worse_than_without_statistics_after_a_change_of_scale():
    X, y = load_digits(return_X_y=True)
    X = X[:300].reshape(-1, 8, 8) / 16
    X[100:] = 0.2 + 0.5 * X[100:]  # another scanner
    labels = np.where(np.arange(200) < 100, y[:200], np.nan)
    options = {**OPTIONS, "freeze_depth": -1, "max_epochs": 1, "lr": 1e-4}
    none, both = (
        DomainAdaptationClassifier("tiny/cnn", alignment=alignment, **options).fit(X[:200], labels)
        for alignment in ("none", ["adabn", "coral"])
    )
    assert both.score(X[200:], y[200:300]) > none.score(X[200:], y[200:300])


def test_alignment_auto_is_adabn_and_mcc_of_a_network_with_batch_norm():
    auto = adapt(alignment="auto").fit(IMAGES, Y)
    assert auto.alignment_ == ["adabn", "mcc"]
    assert_equal_fits(auto, adapt(alignment=["adabn", "mcc"]).fit(IMAGES, Y))
    assert not hasattr(auto.set_params(alignment="coral").fit(IMAGES, Y), "alignment_")
    assert DomainAdaptationClassifier().alignment == "auto"


def test_alignment_auto_is_mcc_of_a_network_without_batch_norm():
    X, y = make_samples("text", 12)
    y, options = np.where(np.arange(12) < 6, y.astype(object), None), {**OPTIONS, "max_epochs": 1}
    auto, mcc = (
        DomainAdaptationClassifier("tiny/bert", **{**options, "alignment": one}).fit(X, y) for one in ("auto", "mcc")
    )
    assert auto.alignment_ == "mcc"
    np.testing.assert_array_equal(auto.predict_proba(X), mcc.predict_proba(X))
    assert "train_loss_mcc" in auto.history_


def test_alignment_auto_is_coral_instead_of_mcc_for_an_indicator_matrix():
    labels = np.tile([[1.0, 0], [0, 1]], (len(IMAGES) // 2, 1))
    labels[len(IMAGES) // 2 :] = np.nan
    auto = adapt(alignment="auto").fit(IMAGES, labels)
    assert auto.alignment_ == ["adabn", "coral"]


def test_alignment_auto_is_mcc_with_warm_start_and_none_with_weight_0():
    assert_equal_fits(*(adapt(alignment=one, warm_start=True).fit(IMAGES, Y) for one in ("auto", "mcc")))
    assert_equal_fits(*(adapt(alignment=one, alignment_weight=0).fit(IMAGES, Y) for one in ("auto", "none")))


def _with_statistics(backbone, rows):
    samples = PreprocessedSamples(check_images(IMAGES[rows]), backbone.preprocess)
    return with_statistics(backbone, samples, Compute(torch.device("cpu")))


@pytest.mark.parametrize("y", [Y, np.where(SOURCE, np.arange(N) % 2, np.nan)], ids=["strings", "nan"])
@pytest.mark.parametrize("routing", [False, True], ids=["routing off", "routing on"])
def test_search_passes_sample_domain_and_keeps_both_domains_in_each_fold(y, routing):
    grid = {"alignment_weight": [0.0, 1.0]}
    with sklearn.config_context(enable_metadata_routing=routing):
        for folds in (MultiTaskKFold(2, random_state=0), KFold(2, shuffle=True, random_state=0)):
            search = GridSearchCV(adapt(max_epochs=1), grid, cv=folds, error_score="raise")
            found = search.fit(IMAGES, y, sample_domain=2 * DOMAIN)
            assert found.best_estimator_.domains_.tolist() == [-2, 2]
            assert np.isfinite(found.cv_results_["mean_test_score"]).all()


def test_set_fit_request_of_sample_domain():
    with sklearn.config_context(enable_metadata_routing=True):
        requests = adapt().set_fit_request(sample_domain=False).get_metadata_routing()
        assert requests.fit.requests["sample_domain"] is False
        assert adapt().get_metadata_routing().fit.requests["sample_domain"] is True


def test_score_leaves_out_samples_without_a_label_and_of_the_target():
    clf = adapt().fit(IMAGES, Y)
    right = clf.predict(IMAGES) == LABELS
    assert clf.score(IMAGES, Y) == right[SOURCE].mean()
    assert clf.score(IMAGES, LABELS, sample_domain=DOMAIN) == right[SOURCE].mean()
    assert clf.score(IMAGES[TARGET], LABELS[TARGET]) == right[TARGET].mean()
    weight = np.arange(N) + 1.0
    expected = np.average(right[SOURCE], weights=weight[SOURCE])
    assert clf.score(IMAGES, Y, sample_weight=weight) == pytest.approx(expected)
    with pytest.raises(ValueError, match="y has no known label"):
        clf.score(IMAGES[TARGET], Y[TARGET])
    with pytest.raises(ValueError, match="no known label of a source domain: to score the target, leave sample_domain"):
        clf.score(IMAGES[TARGET], LABELS[TARGET], sample_domain=DOMAIN[TARGET])
    with pytest.raises(ValueError, match="X has 24 samples, and y has 10 rows"):
        clf.score(IMAGES, LABELS[TARGET])


@pytest.mark.parametrize(
    ("params", "fit_params", "message"),
    [
        ({}, {"y": LABELS}, "the target domain has no sample of 24"),
        ({}, {"y": Y[:20]}, "X has 24 samples, and y has 20 rows"),
        ({}, {"sample_domain": DOMAIN[:20]}, "sample_domain has 20 values, and y has 24 rows"),
        ({}, {"sample_domain": DOMAIN * 0}, r"sample_domain\[0\] is 0, and 0 is ambiguous"),
        ({"freeze_depth": "all"}, {}, "freeze_depth='all' freezes all stages, so that alignment='coral' cannot change"),
        ({"batch_size": 3}, {}, "batch_size=3 leaves less than 2 samples of each domain in a batch"),
        ({"freeze_depth": "auto"}, {}, "freeze_depth='auto' compares losses of held-out labels"),
        ({"alignment": "adabn", "warm_start": True}, {}, "alignment='adabn' leaves the statistics of the target"),
        ({"alignment": "adabn", "backbone": "tiny/bert"}, {"X": ["a"] * N}, "tiny/bert has no BatchNorm"),
        ({"alignment": MCC(0)}, {}, "temperature=0 must be a number greater than 0"),
        (
            {"callbacks": [EpochScoring("accuracy", on_train=True)]},
            {},
            "EpochScoring scores the predictions of one task",
        ),
        ({"callbacks": [MicroBatches(2)]}, {}, "the loss here compares all samples of a batch"),
    ],
)
def test_fit_refuses(params, fit_params, message):
    with pytest.raises(ValueError, match=message):
        adapt().set_params(**params).fit(**{"X": IMAGES, "y": Y, **fit_params})


def test_alignment_of_frozen_stages_is_mcc_alone():
    clf = adapt(alignment="mcc", freeze_depth="all").fit(IMAGES, Y)
    assert not clf.stages_["trained"].any()
    plain = adapt(alignment="none", freeze_depth="all").fit(IMAGES, Y)
    assert not np.array_equal(clf.predict_proba(IMAGES), plain.predict_proba(IMAGES))


def test_make_samples_of_texts_are_aligned():
    texts, moods = make_samples("text", 12)
    y = [mood if row < 6 else None for row, mood in enumerate(moods)]
    clf = DomainAdaptationClassifier("tiny/bert", layer="mix", alignment="dann", **_TEXTS).fit(texts, y)
    assert clf.predict(texts[6:]).shape == (6,)
    assert clf.layer_weights_.sum() == pytest.approx(1)


_TEXTS = {"max_epochs": 1, "freeze_depth": 3, "random_state": 0}
