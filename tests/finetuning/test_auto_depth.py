"""`freeze_depth="auto"`: trained stages if training helps samples that are held back, a frozen backbone if not."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

from sktransfer import (
    Checkpoint,
    ContrastiveFineTuner,
    FineTuneClassifier,
    FineTuneRegressor,
    MultiTaskFineTuner,
    load,
    save,
)
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from sktransfer.training.epochs.held_out import DepthTrial, hold_back
from tests.helpers.toys import image_backbone

X, Y = make_samples("image", 60)
NOISE = np.random.default_rng(0).permutation(Y)
BRIGHTNESS = np.array([np.asarray(image).mean() for image in X], dtype=np.float64)
SEVERAL = np.stack([Y == "good", np.arange(60) % 2 == 0], 1).astype(int)
BACKBONE = image_backbone()
HELPS = {"head_init": "class_means"}  # a start that training improves
HURTS = {"lr": 0.02, "lr_schedule": "constant"}


def quick(make=FineTuneClassifier, **parameters):
    options = {"layer": -1, "freeze_depth": "auto", "max_epochs": 3, "random_state": 0, **parameters}
    return make(BACKBONE, **options)


def outputs(estimator):
    return estimator.predict_proba(X) if hasattr(estimator, "predict_proba") else estimator.predict(X)


@pytest.mark.parametrize("unit", ["rows", "groups"])
def test_hold_back_takes_every_fifth_row_or_group(unit):
    y, groups = np.repeat([0, 1, 2], [60, 30, 10]), np.arange(100) // 4
    rows, held = hold_back(y, None if unit == "rows" else groups, 0)
    assert sorted([*rows, *held]) == list(range(100))
    if unit == "rows":
        assert np.bincount(y[held]).tolist() == [12, 6, 2]
        assert not np.array_equal(held, hold_back(y, None, 1)[1])
    else:
        assert not set(groups[rows]) & set(groups[held])
        assert len(held) == 20


def test_hold_back_spreads_numbers_and_takes_500_rows_at_most():
    y = np.random.default_rng(0).normal(size=10000)
    rows, held = hold_back(y, None, 0)
    assert (len(rows), len(held)) == (9500, 500)
    np.testing.assert_allclose(np.quantile(y[held], [0.1, 0.5, 0.9]), np.quantile(y, [0.1, 0.5, 0.9]), atol=0.02)


def test_depth_trial_compares_the_weighted_mean_with_its_error():
    before, after, weight = np.array([1.0, 2.0, 9.0]), np.array([0.5, 1.0, 9.5]), np.array([2.0, 2.0, 1e-12])
    trial = DepthTrial.of(before, after, weight)
    assert (trial.before, trial.after) == (pytest.approx(1.5), pytest.approx(0.75))
    assert trial.error == pytest.approx(0.25 / np.sqrt(2))
    assert trial.helps
    equal = DepthTrial.of(before, after, np.ones(3))  # a gain of 1/3 with an error of 0.36
    assert not equal.helps
    assert "did not clearly lower" in equal.report()


@pytest.mark.parametrize("make", [FineTuneClassifier, FineTuneRegressor])
def test_freeze_depth_auto_trains_to_the_bits_of_the_default_if_training_helps(make):
    y = Y if make is FineTuneClassifier else BRIGHTNESS
    start = HELPS
    if make is FineTuneRegressor:  # continue from a head that has learned the opposite
        start = {"head": quick(make, freeze_depth="all", max_epochs=0).fit(X, -BRIGHTNESS).head_, "lr": 1e-3}
    found = quick(make, **start).fit(X, y)
    plain = quick(make, freeze_depth=-1, **start).fit(X, y)
    assert found.freeze_depth_ == plain.freeze_depth_ == len(BACKBONE.stages) - 1
    assert found.n_iter_ == 3
    np.testing.assert_array_equal(outputs(found), outputs(plain))
    assert "top is trained, because training lowered the loss of 12 samples held back from" in found.report_


@pytest.mark.parametrize("layer", [-1, "auto"])
def test_freeze_depth_auto_is_the_probe_of_all_samples_if_training_hurts(layer):
    found = quick(layer=layer, **HURTS).fit(X, NOISE)
    probe = quick(layer=layer, freeze_depth="all", max_epochs=0).fit(X, NOISE)
    assert (found.freeze_depth_, found.n_iter_, len(found.history_)) == (probe.freeze_depth_, 0, 0)
    np.testing.assert_array_equal(outputs(found), outputs(probe))
    assert not found.stages_["trained"].any()
    last = found.report_.splitlines()[-1]
    assert last.startswith("all stages are frozen, because training did not clearly lower the loss of 12 samples")


def test_freeze_depth_auto_freezes_all_stages_if_samples_are_few():
    found = quick(**HELPS).fit(X[:40], Y[:40])
    assert found.freeze_depth_ == len(BACKBONE.stages)
    assert found.report_.endswith("all stages are frozen, because 40 samples are too few to tell")


def test_freeze_depth_auto_warns_if_the_trial_diverges():
    with pytest.warns(ConvergenceWarning, match=r"'auto' freezes all stages, because training diverges: .*lr=1e\+20"):
        found = quick(lr=1e20).fit(X, Y)
    assert np.isfinite(outputs(found)).all()


def test_freeze_depth_auto_leaves_the_decision_to_early_stopping():
    found = quick(early_stopping=True, lr=1.0, lr_schedule="constant").fit(X, NOISE)
    assert found.freeze_depth_ == len(BACKBONE.stages) - 1
    assert found.report_.endswith("top is trained, because early stopping decides on it")
    start = quick(early_stopping=True, freeze_depth=-1, max_epochs=0).fit(X, NOISE)
    np.testing.assert_array_equal(outputs(found), outputs(start))


def test_freeze_depth_auto_holds_groups_and_weights_back_together():
    seen = []

    class Spy(Callback):
        changes_step = True  # so that it takes part in the trial

        def on_train_begin(self, net, X=None, **kwargs):
            valid = net.get_split_datasets(X, None)[1]
            seen.append((X.rows, [] if valid is None else valid.rows))

    groups, weight = np.arange(60) // 4, np.linspace(0.1, 2, 60)
    callback = Spy()
    quick(callbacks=[callback], **HELPS).fit(X, Y, sample_weight=weight, groups=groups)
    (rows, held), (everything, none) = seen
    assert not set(groups[rows]) & set(groups[held])
    assert sorted([*rows, *held]) == everything == list(range(60))
    assert none == []


def test_freeze_depth_auto_hides_the_trial_from_callbacks(tmp_path):
    epochs = []

    class Count(Callback):
        def on_epoch_end(self, net, **kwargs):
            epochs.append(len(net.history))

    found = quick(callbacks=[Count(), Checkpoint(tmp_path)], **HELPS).fit(X, Y)
    assert epochs == [1, 2, 3]
    assert found.n_iter_ == 3


@pytest.mark.parametrize("y", [Y, NOISE], ids=["helps", "hurts"])
def test_freeze_depth_auto_is_kept_by_warm_start(y):
    options = HELPS if y is Y else HURTS
    found = quick(warm_start=True, **options).fit(X, y)
    depth = found.freeze_depth_
    assert found.fit(X, y).freeze_depth_ == depth
    assert found.n_iter_ == 3


def test_freeze_depth_auto_of_indicators_repeats_and_can_be_copied_and_saved(tmp_path):
    found = FineTuneClassifier("tiny/cnn", layer=-1, freeze_depth="auto", max_epochs=2, random_state=0, **HELPS).fit(
        X, SEVERAL
    )
    np.testing.assert_array_equal(outputs(clone(found).fit(X, SEVERAL)), outputs(found))
    save(found, tmp_path / "found.skt")
    for one in (load(tmp_path / "found.skt"), pickle.loads(pickle.dumps(found))):
        np.testing.assert_array_equal(outputs(one), outputs(found))
        assert (one.report_, one.freeze_depth_) == (found.report_, found.freeze_depth_)


@pytest.mark.parametrize("make", [FineTuneClassifier, ContrastiveFineTuner])
def test_freeze_depth_auto_needs_an_initial_head(make):
    options = {"head_init": "random"} if make is FineTuneClassifier else {}
    with pytest.raises(InvalidParameterError, match="freeze_depth='auto' keeps the initial head"):
        quick(make, **options).fit(X, Y)


def test_freeze_depth_auto_is_refused_by_partial_fit():
    with pytest.raises(InvalidParameterError, match="freeze_depth='auto' compares epochs with none"):
        quick().partial_fit(X, Y, classes=np.unique(Y))


def test_freeze_depth_auto_without_epochs_trains_nothing():
    auto, default = (quick(freeze_depth=depth, max_epochs=0).fit(X, Y) for depth in ("auto", -1))
    assert auto.report_.endswith("nothing is trained, because max_epochs is 0")
    assert auto.n_iter_ == 0
    assert auto.stages_.equals(default.stages_)


def test_layer_of_a_head_that_starts_as_a_probe_is_fixed():
    for options, reason in (
        ({}, "layer=-1 is fixed$"),
        ({"head_init": "random"}, "the head did not start as a probe$"),
    ):
        with pytest.raises(AttributeError, match=reason):
            _ = quick(freeze_depth=-1, max_epochs=1, **options).fit(X, Y).layer_


@pytest.mark.parametrize("layer", [-1, "auto"])
def test_report_of_another_freeze_depth_says_nothing_about_it(layer):
    assert "trained" not in quick(freeze_depth=-1, layer=layer).fit(X, Y).report_


@pytest.mark.filterwarnings("ignore:the training loss was:sklearn.exceptions.ConvergenceWarning")
def test_freeze_depth_auto_of_several_tasks_is_one_decision():
    targets = {"good": Y, "even": np.where(np.arange(60) % 2, "odd", "even")}
    found = quick(MultiTaskFineTuner, lr=0.01).fit(X, targets)
    assert found.freeze_depth_ == found.task("good").freeze_depth_ == len(BACKBONE.stages)
    assert "all stages are frozen" in found.task("even").report_
