"""A rate that suits, found on a copy: by `find_lr`, or by `fit` itself."""

from __future__ import annotations

import pickle
import threading
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, GradientNormClipping
from torch.nn import functional

from sktransfer import (
    EMA,
    ContrastiveFineTuner,
    FineTuneClassifier,
    FineTuneRegressor,
    MicroBatches,
    Mixup,
    TextFeaturizer,
    find_lr,
    load,
    save,
)
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from sktransfer.training import lr_finder as finder
from sktransfer.training import trainer
from sktransfer.training.net import FineTuneNet
from tests.helpers.small_bert import small_bert
from tests.helpers.toys import image_backbone

IMAGES, LABELS = make_samples("image", 24)
TEXTS, MOODS = make_samples("text", 24)
BERT = "hf/" + small_bert()  # with dropout


def quick(**parameters):
    return FineTuneClassifier(**{"head_init": "random", "batch_size": 8, "random_state": 0, **parameters})


def test_find_lr_raises_lr_geometrically_and_smooths_changes():
    found = find_lr(quick(freeze_depth="all"), IMAGES, LABELS, lowest=1e-5, highest=1e-2, n_steps=13)
    assert found.curve["lr"].tolist() == pytest.approx(np.geomspace(1e-5, 1e-2, 13))
    assert (found.curve["loss"] > 0).all()
    smoothed = 0.0
    for step, (change, shown) in enumerate(zip(found.curve["change"], found.curve["smoothed"]), start=1):
        smoothed = 0.9 * smoothed + 0.1 * change
        assert shown == pytest.approx(smoothed / (1 - 0.9**step))
    enough = found.curve["smoothed"] <= 0.9 * found.curve["smoothed"].min()
    assert found.lr == found.curve["lr"][enough.idxmax()] / 5


def test_find_lr_does_not_depend_on_the_sign_of_a_criterion():
    def shifted(outputs, targets):
        return functional.cross_entropy(outputs, targets, reduction="none") - 5

    rates = [
        find_lr(quick(freeze_depth="all", criterion=one), IMAGES, LABELS, n_steps=30).lr for one in (None, shifted)
    ]
    assert rates[0] == rates[1]


@pytest.mark.parametrize("callbacks", [None, [Mixup(1.0), MicroBatches(3)]])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_find_lr_compares_each_batch_with_itself_under_equal_random_numbers(callbacks, precision):
    tuner = quick(backbone=BERT, freeze_depth=0, callbacks=callbacks, precision=precision)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        curve = find_lr(tuner, TEXTS, MOODS, lowest=1e-10, highest=2e-10, n_steps=6).curve
    # At rates that change nothing all that differs is noise: between batches, and there is none within a pair.
    assert curve["loss"].std() > 1e-3
    np.testing.assert_allclose(curve["change"], 0, atol=1e-5)
    assert curve["change"][0] == 0


def test_find_lr_with_a_probe_gives_similar_rates_for_all_seeds():
    rates = [find_lr(quick(head_init="probe", random_state=seed), IMAGES, LABELS).lr for seed in range(3)]
    assert min(rates) > 1e-5
    assert max(rates) < 1e-1
    assert max(rates) / min(rates) < 10


def test_find_lr_keeps_the_lr_of_layer_weights():
    tuner = quick(backbone=BERT, layer="mix", random_state=0)
    seen = []
    trained = FineTuneNet.train_step

    def watched(net, batch, **kwargs):
        mix = {id(parameter) for parameter in net.module_.heads["y"].mix.parameters()}
        groups = net.optimizer_.param_groups
        seen.append([group["lr"] for group in groups if mix & set(map(id, group["params"]))])
        return trained(net, batch, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FineTuneNet, "train_step", watched)
        find_lr(tuner, TEXTS, MOODS, n_steps=5)
    assert seen == [[0.01, 0.01]] * 5


def test_find_lr_ignores_steps_with_a_loss_that_is_not_finite():
    tuner = quick(backbone=image_backbone(), freeze_depth=0, precision="float32", batch_size=32)
    found = find_lr(tuner, IMAGES, LABELS, highest=1e34, n_steps=3)  # the second step overflows the loss
    assert not np.isfinite(found.curve["smoothed"].iloc[-1])
    finite = found.curve[np.isfinite(found.curve["smoothed"])]
    assert found.lr <= finite["lr"].max() / 5


def test_find_lr_stops_when_the_loss_diverges():
    found = find_lr(quick(freeze_depth=-1), IMAGES, LABELS, highest=1e4, n_steps=60)
    assert len(found.curve) < 60
    assert found.lr < found.curve["lr"].iloc[-1] / 5


def test_find_lr_warns_if_lowest_is_too_high():
    with pytest.warns(ConvergenceWarning, match="no learning rate from 100 to 1000 .* set lr to a number"):
        found = find_lr(quick(freeze_depth=-1, optimizer="sgd"), IMAGES, LABELS, lowest=100.0, highest=1000.0)
    assert found.lr == 20


def test_find_lr_is_reproducible_and_leaves_the_estimator_unchanged():
    state = np.random.RandomState(3)
    tuner = quick(random_state=state, unfreezing="gradual", early_stopping=True, warm_start=True).fit(IMAGES, LABELS)
    before, drawn = tuner.predict_proba(IMAGES), repr(state.get_state())
    parameters = {**tuner.get_params()}
    one, other = (find_lr(tuner, IMAGES, LABELS, n_steps=5) for _ in range(2))
    assert one.curve.equals(other.curve)
    np.testing.assert_array_equal(tuner.predict_proba(IMAGES), before)
    assert repr(state.get_state()) == drawn
    assert tuner.get_params() == parameters
    assert clone(tuner).lr == "auto"


def test_lr_find_equals_find_lr_and_training_with_its_result():
    options = {"backbone": BERT, "freeze_depth": 2, "max_epochs": 3, "layer_lr_decay": 2.0, "unfreezing": "gradual"}
    clf = quick(**options, lr="find").fit(TEXTS, MOODS)
    found = find_lr(quick(**options), TEXTS, MOODS)
    assert clf.lr_ == found.lr
    assert clf.lr_curve_.equals(found.curve)
    assert clf.stages_["lr"].tolist()[2:] == pytest.approx([clf.lr_ / 2, clf.lr_])
    assert clf.history_["lr"].max() == pytest.approx(10 * clf.lr_ * 2 / 3)  # of the head, at the end of an epoch
    given = quick(**options, lr=clf.lr_).fit(TEXTS, MOODS)
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), given.predict_proba(TEXTS))
    assert not hasattr(given, "lr_curve_")
    clf.set_params(lr=1e-3).fit(TEXTS, MOODS)
    assert clf.lr_ == 1e-3
    assert not hasattr(clf, "lr_curve_")


def test_lr_find_ignores_held_out_samples(monkeypatch):
    seen = []
    true = trainer.range_test

    def watched(net, dataset, scope):
        seen.append(len(dataset))
        return true(net, dataset, scope)

    monkeypatch.setattr(trainer, "range_test", watched)
    quick(lr="find", max_epochs=1, early_stopping=True, validation_fraction=0.25).fit(IMAGES, LABELS)
    assert seen == [18]


def test_step_callbacks_keeps_only_callbacks_that_change_steps():
    clip = GradientNormClipping(1.0)
    callbacks = [EMA(0.5), ("clip", clip), EpochScoring("accuracy", on_train=True), MicroBatches(2), Mixup(0.1)]
    kept = finder.step_callbacks(callbacks)
    assert [type(one) for one in kept] == [GradientNormClipping, MicroBatches, Mixup]
    assert kept[0] is not clip
    assert isinstance(*finder.step_callbacks([Mixup, EMA]), Mixup)
    clf = quick(lr="find", max_epochs=1, callbacks=callbacks).fit(IMAGES, LABELS)
    assert len(clf.history_) == 1


def test_lr_find_takes_callbacks_that_cannot_be_copied_or_need_epochs():
    class Log(Callback):
        def __init__(self, lock):
            self.lock = lock

    stop = EarlyStopping(monitor="train_loss", load_best=True)
    clf = quick(lr="find", max_epochs=1, callbacks=[Log(threading.Lock()), stop]).fit(IMAGES, LABELS)
    assert clf.lr_ > 0
    assert find_lr(quick(callbacks=[stop]), IMAGES, LABELS).lr == clf.lr_


def test_lr_find_rejects_head_lr():
    with pytest.raises(InvalidParameterError, match=r"head_lr=0\.01.*lr='find'"):
        quick(lr="find", head_lr=0.01).fit(IMAGES, LABELS)
    with pytest.raises(InvalidParameterError, match=r"lr='best'.*'auto' or 'find'"):
        quick(lr="best").fit(IMAGES, LABELS)


def test_lr_find_with_partial_fit_keeps_the_rate_of_the_first_call():
    clf = quick(lr="find").partial_fit(IMAGES[:12], LABELS[:12], classes=np.unique(LABELS))
    found = clf.lr_
    assert hasattr(clf, "lr_curve_")
    assert clf.partial_fit(IMAGES[12:], LABELS[12:]).lr_ == found
    assert hasattr(clf, "lr_curve_")
    never = quick(lr="find", max_epochs=0).fit(IMAGES, LABELS)
    assert not hasattr(never, "lr_curve_")
    assert hasattr(never.partial_fit(IMAGES, LABELS), "lr_curve_")


def test_lr_find_does_nothing_with_max_epochs_0():
    clf = quick(lr="find", head_init="probe", max_epochs=0).fit(IMAGES, LABELS)
    assert not hasattr(clf, "lr_curve_")


@pytest.mark.process
@pytest.mark.loky
def test_lr_find_in_a_grid_search_pickle_and_save(tmp_path):
    tuner = quick(max_epochs=1, freeze_depth=-1)
    search = GridSearchCV(tuner, {"lr": ["find", 1e-4]}, cv=2, n_jobs=2, error_score="raise").fit(
        np.stack(IMAGES), LABELS
    )
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    clf = quick(max_epochs=1, lr="find").fit(IMAGES, LABELS)
    save(clf, tmp_path / "model.skt")
    for other in (pickle.loads(pickle.dumps(clf)), load(tmp_path / "model.skt")):
        assert other.lr_ == clf.lr_
        assert other.lr_curve_.equals(clf.lr_curve_)


@pytest.mark.parametrize(
    ("tuner", "y"),
    [
        (FineTuneRegressor(random_state=0), np.arange(24.0)),
        (ContrastiveFineTuner(random_state=0), LABELS),
        (FineTuneClassifier(random_state=0), np.stack([np.arange(24) % 2, np.arange(24) % 3 == 0], 1).astype(int)),
    ],
)
def test_lr_find_of_numbers_pairs_and_several_labels(tuner, y):
    fitted = clone(tuner).set_params(lr="find", max_epochs=1).fit(IMAGES, y)
    assert 1e-6 < fitted.lr_ < 0.1
    assert find_lr(tuner, IMAGES, y).lr == fitted.lr_


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lowest": 0}, "lowest=0"),
        ({"highest": np.inf}, "highest=inf"),
        ({"lowest": 1.0, "highest": 0.1}, "less than highest"),
        ({"n_steps": 1}, "n_steps=1"),
        ({"n_steps": True}, "n_steps=True"),
    ],
)
def test_find_lr_rejects_invalid_ranges(options, match):
    with pytest.raises(InvalidParameterError, match=match):
        find_lr(quick(), IMAGES, LABELS, **options)


@pytest.mark.parametrize(
    ("estimator", "hint"),
    [
        (TextFeaturizer(), "=TextFeaturizer must be an instance of an estimator that trains .* FineTuneClassifier"),
        (FineTuneClassifier, "=FineTuneClassifier must be an instance"),
        (make_pipeline("passthrough", FineTuneClassifier()), r"Of a pipeline pass the last step, estimator\[-1\]"),
        (GridSearchCV(FineTuneClassifier(), {}), "Of a search pass its estimator"),
    ],
)
def test_find_lr_names_what_to_pass_for_other_estimators(estimator, hint):
    with pytest.raises(InvalidParameterError, match=hint):
        find_lr(estimator, *make_samples("image", 4))
