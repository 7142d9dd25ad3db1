"""Callbacks of skorch: its scoring ones by the names of metrics, and all the others that need no other package."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import get_scorer
from skorch import callbacks as skorch_callbacks

from sktransfer import ContrastiveFineTuner, FineTuneClassifier, FineTuneRegressor
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 24)
INDICATORS = np.stack([np.arange(24) % 2, np.arange(24) % 3 == 0], 1).astype(int)
TASKS = {
    "strings": (FineTuneClassifier, LABELS),
    "three classes": (FineTuneClassifier, np.arange(24) % 3),
    "two labels at once": (FineTuneClassifier, INDICATORS),
    "one number": (FineTuneRegressor, np.arange(24.0)),
    "two numbers": (FineTuneRegressor, np.stack([np.arange(24.0), -(np.arange(24.0) ** 2)], 1)),
}
METRICS = {
    "strings": ["accuracy", "roc_auc", "neg_log_loss", "f1"],
    "three classes": ["accuracy", "roc_auc_ovr", "f1_macro"],
    "two labels at once": ["accuracy", "roc_auc", "f1_micro", "average_precision"],
    "one number": ["r2", "neg_mean_absolute_error"],
    "two numbers": ["r2"],
}


class Asked(skorch_callbacks.Callback):
    """Scores of a net on the samples that were set aside, computed anew."""

    def __init__(self, names):
        self.names = names

    def on_train_begin(self, net, **kwargs):
        self.scores_ = []

    def on_epoch_end(self, net, dataset_valid=None, **kwargs):
        y = dataset_valid.targets["y"].numpy()
        self.scores_.append([get_scorer(name)(net, dataset_valid, y) for name in self.names])


def fitted(task, callbacks, **options):
    estimator, y = TASKS[task]
    options = {"max_epochs": 2, "batch_size": 8, "random_state": 0, **options}
    return estimator("tiny/cnn", callbacks=callbacks, **options).fit(IMAGES, y)


@pytest.mark.parametrize("task", TASKS)
def test_epoch_scoring_by_name_scores_held_out_samples(task):
    asked = Asked(METRICS[task])
    scorings = [skorch_callbacks.EpochScoring(name, lower_is_better=False) for name in METRICS[task]]
    clf = fitted(task, [*scorings, asked], early_stopping=True, validation_fraction=0.4)
    np.testing.assert_allclose(clf.history_[METRICS[task]], dict(clf.net_.callbacks_)["Asked"].scores_, rtol=1e-5)
    assert np.isfinite(clf.history_[METRICS[task]]).all(axis=None)


@pytest.mark.parametrize("task", TASKS)
def test_epoch_scoring_and_batch_scoring_on_train(task):
    scoring = skorch_callbacks.EpochScoring(None, on_train=True, lower_is_better=False, name="whole")
    parts = skorch_callbacks.BatchScoring(None, on_train=True, lower_is_better=False, name="parts")
    clf = fitted(task, [scoring, parts], freeze_depth="all", max_epochs=12, lr=1e-3)
    assert clf.history_["whole"].iloc[-1] > (0.3 if "number" in task else 0.6)
    if "number" not in task:
        np.testing.assert_allclose(clf.history_["whole"], clf.history_["parts"], atol=1e-6)


def test_epoch_scoring_lets_early_stopping_monitor_a_metric():
    scoring = skorch_callbacks.EpochScoring("accuracy", on_train=True, lower_is_better=False)
    stop = skorch_callbacks.EarlyStopping("accuracy", lower_is_better=False, patience=2)
    clf = fitted("strings", [scoring, stop], freeze_depth="all", max_epochs=30)
    assert clf.n_iter_ < 30
    assert clf.history_["accuracy"].iloc[-1] == 1


def test_predict_of_a_net_without_a_head_returns_features():
    seen = []

    class Listen(skorch_callbacks.Callback):
        def on_epoch_end(self, net, dataset_train=None, **kwargs):
            seen.append((hasattr(net, "classes_"), net.predict(dataset_train)))

        def on_batch_end(self, net, batch=None, **kwargs):
            assert isinstance(batch[1], torch.Tensor)

    tuner = ContrastiveFineTuner(max_epochs=1, callbacks=[Listen()], normalize=False, random_state=0)
    tuner.fit(IMAGES, LABELS)
    assert not seen[0][0]
    np.testing.assert_allclose(seen[0][1], tuner.transform(IMAGES), rtol=1e-4, atol=1e-5)


OTHERS = {
    "BatchScoring": {"scoring": "accuracy", "on_train": True},
    "Checkpoint": {"monitor": "train_loss_best", "load_best": True},
    "EarlyStopping": {"monitor": "train_loss"},
    "EpochScoring": {"scoring": "accuracy", "on_train": True},
    "EpochTimer": {},
    "Freezer": {"patterns": "stages.*"},
    "GradientNormClipping": {"gradient_clip_value": 1.0},
    "Initializer": {"patterns": "heads.y.linear.weight", "fn": torch.nn.init.zeros_},
    "LRScheduler": {"policy": "ReduceLROnPlateau", "monitor": "train_loss"},
    "ParamMapper": {"patterns": "heads.y.linear.bias", "fn": torch.nn.init.zeros_, "at": 2},
    "PassthroughScoring": {"name": "train_loss", "on_train": True},
    "PrintLog": {"sink": [].append},
    "ProgressBar": {},
    "TrainEndCheckpoint": {},
    "Unfreezer": {"patterns": "stages.*", "at": 2},
}
ELSEWHERE = {"InputShapeSetter", "LoadInitState", "MlflowLogger", "NeptuneLogger", "SacredLogger", "TensorBoard"}
ELSEWHERE |= {"Callback", "WandbLogger", "WarmRestartLR"}


def test_callbacks_of_skorch_are_all_listed_here():
    assert set(skorch_callbacks.__all__) == set(OTHERS) | ELSEWHERE


@pytest.mark.parametrize("name", OTHERS)
def test_callbacks_of_skorch_work(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write where they are
    callback = getattr(skorch_callbacks, name)(**OTHERS[name])
    clf = fitted("strings", [callback], max_epochs=3)
    assert clf.n_iter_ == 3
    assert clf.predict_proba(IMAGES).shape == (24, 2)


def test_load_init_state_reads_a_checkpoint_of_skorch(tmp_path):
    written = skorch_callbacks.Checkpoint(monitor=None, dirname=str(tmp_path))
    first = fitted("strings", [written], max_epochs=1)
    loaded = fitted("strings", [skorch_callbacks.LoadInitState(written)], max_epochs=0)
    np.testing.assert_allclose(loaded.predict_proba(IMAGES), first.predict_proba(IMAGES), atol=1e-6)


def test_epoch_scoring_rejects_a_metric_of_another_task():
    with pytest.raises((ValueError, InvalidParameterError)):
        fitted("one number", [skorch_callbacks.EpochScoring("accuracy", on_train=True)])


@pytest.mark.parametrize("task", TASKS)
def test_epoch_scoring_without_caching_scores_targets(task):
    given = []

    def metric(net, X, y):
        given.append(np.array(y))
        return net.score(X, y)

    options = {"lower_is_better": False, "use_caching": False}
    asked = [skorch_callbacks.EpochScoring(name, name=f"{name}_again", **options) for name in METRICS[task]]
    cached = [skorch_callbacks.EpochScoring(name, lower_is_better=False) for name in METRICS[task]]
    own = skorch_callbacks.EpochScoring(metric, on_train=True, **options)
    clf = fitted(task, [*cached, *asked, own], early_stopping=True, validation_fraction=0.4, lr=1e-3)
    again = clf.history_[[f"{name}_again" for name in METRICS[task]]]
    np.testing.assert_allclose(again, clf.history_[METRICS[task]], rtol=1e-5)
    assert len(given) == clf.n_iter_
    assert len(given[0]) > 24 // 2
    assert np.isfinite(given[0]).all()


@pytest.mark.parametrize("method", ["predict", "predict_proba", "forward", "fit", "partial_fit"])
def test_net_refuses_samples(method):
    clf = fitted("strings", None, freeze_depth="all", max_epochs=0)
    with pytest.raises(TypeError, match=r"and not from samples \(given: list\); call fit, predict or predict_proba of"):
        getattr(clf.net_, method)(list(IMAGES))
    with pytest.raises(TypeError, match="not from samples"):
        clf.net_.score(list(IMAGES), LABELS)


def test_net_keeps_its_history_if_fit_refuses_samples():
    clf = fitted("strings", None, freeze_depth="all", max_epochs=1)
    before, optimizer = clf.history_, clf.net_.optimizer_
    with pytest.raises(TypeError, match="not from samples"):
        clf.net_.fit(list(IMAGES), LABELS)
    assert clf.net_.history[:, "train_loss"] == before["train_loss"].tolist()
    assert clf.net_.optimizer_ is optimizer


@pytest.mark.parametrize("freeze_depth", [0, "all"])
def test_save_params_writes_safetensors_that_load_params_reads(freeze_depth, tmp_path):
    clf = fitted("strings", None, freeze_depth=freeze_depth, lr=1e-3)
    before = clf.predict_proba(IMAGES)
    clf.net_.save_params(f_params=tmp_path / "net.safetensors", use_safetensors=True)
    state = {name: value.clone() for name, value in clf.net_.module_.state_dict().items()}
    with torch.no_grad():
        for parameter in clf.net_.module_.parameters():
            parameter.mul_(-1)
    assert not np.allclose(clf.predict_proba(IMAGES), before)
    clf.net_.load_params(f_params=tmp_path / "net.safetensors", use_safetensors=True)
    for name, value in clf.net_.module_.state_dict().items():
        assert torch.equal(value, state[name])
        assert value.stride() == state[name].stride()  # convolutions stay in channels_last
    np.testing.assert_array_equal(clf.predict_proba(IMAGES), before)


@pytest.mark.parametrize("use_safetensors", [True, False])
@pytest.mark.parametrize(
    ("task", "freeze_depth", "message"),
    [
        ("strings", "all", r"such as stages\.0\.\S+ \(.+\), .* in place of stages\.0\.\S+ missing, "),
        ("three classes", -1, r"such as heads\.y\.linear\.weight \(2, .* in place of heads\.y\.linear\.weight \(3, "),
    ],
)
def test_load_params_of_another_network_changes_nothing(task, freeze_depth, message, use_safetensors, tmp_path):
    options = {"callbacks": None, "layer": -1, "lr": 1e-3}
    other = fitted("strings", freeze_depth=-1, **options)
    other.net_.save_params(f_params=tmp_path / "net", use_safetensors=use_safetensors)
    clf = fitted(task, freeze_depth=freeze_depth, **options)
    before = clf.predict_proba(IMAGES)
    with pytest.raises(RuntimeError, match=rf"nothing was loaded.*{message}"):
        clf.net_.load_params(f_params=tmp_path / "net", use_safetensors=use_safetensors)
    np.testing.assert_array_equal(clf.predict_proba(IMAGES), before)


def test_save_params_writes_shared_weights_in_safetensors(tmp_path):
    net = fitted("strings", None, freeze_depth="all", max_epochs=0).net_
    net.module_.heads.add_module("again", net.module_.heads["y"])
    net.save_params(f_params=tmp_path / "net.safetensors", use_safetensors=True)
    net.load_params(f_params=tmp_path / "net.safetensors", use_safetensors=True)


def test_checkpoint_of_skorch_writes_safetensors(tmp_path):
    options = {"f_optimizer": None, "f_criterion": None, "use_safetensors": True, "f_params": "net.safetensors"}
    checkpoint = skorch_callbacks.Checkpoint("train_loss_best", dirname=tmp_path, load_best=True, **options)
    clf = fitted("strings", [checkpoint], freeze_depth=0, lr=1e-3)
    fitted_one = dict(clf.net_.callbacks_)["Checkpoint"]
    before = clf.predict_proba(IMAGES)
    clf.net_.load_params(checkpoint=fitted_one, use_safetensors=True)
    np.testing.assert_array_equal(clf.predict_proba(IMAGES), before)
    assert (tmp_path / "net.safetensors").stat().st_size > 100_000
