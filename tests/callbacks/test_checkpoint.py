"""Checkpoints: an interrupted fit resumes, and ends as an uninterrupted one."""

from __future__ import annotations

import os
import resource
import signal
from functools import partial

import numpy as np
import pytest
import torch
from peft import LoraConfig
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch.optim.lr_scheduler import StepLR

from sktransfer import (
    EMA,
    SWA,
    Checkpoint,
    ContrastiveFineTuner,
    FineTuneClassifier,
    FineTuneRegressor,
    MicroBatches,
    Mixup,
    WiSEFT,
)
from sktransfer.callbacks.checkpoint import FORMAT, Digest, params_of, set_state, state_of
from sktransfer.exceptions import CheckpointWarning, InvalidParameterError
from tests.finetuning.test_base import BERT, TEXTS
from tests.helpers.elsewhere import run_code
from tests.helpers.toys import image_backbone

BACKBONE = image_backbone()
IMAGES = np.random.default_rng(0).random((24, 8, 8, 3)).astype(np.float32)
LABELS = np.array(["a", "b"])[np.arange(24) % 2]
OPTIONS = {"freeze_depth": 1, "max_epochs": 5, "batch_size": 6, "lr": 1e-2, "random_state": 0}


class Steps(Callback):
    """Count the steps of all trainings, and end one of them in the middle of an epoch."""

    n = 0
    stop_at = None

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            Steps.n += 1
            if Steps.n == Steps.stop_at:
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def _steps():
    Steps.n, Steps.stop_at = 0, None


def classifier(folder, *callbacks, backbone=BACKBONE, **options):
    saved = [] if folder is None else [Checkpoint(folder)]
    return FineTuneClassifier(backbone, callbacks=[*saved, Steps(), *callbacks], **{**OPTIONS, **options})


def interrupted(clf, X, y, at):
    Steps.n, Steps.stop_at = 0, at
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    Steps.n, Steps.stop_at = 0, None


RECIPES = {
    "plain": {},
    "ema": {"callbacks": [EMA(0.8)]},
    "swa": {"callbacks": [SWA(0.2)], "lr_schedule": "constant"},
    "wise-ft": {"callbacks": [WiSEFT(0.5)]},
    "mixup": {"callbacks": [Mixup(0.4)]},
    "micro batches": {"callbacks": [MicroBatches(2)]},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.25, "head_init": "random"},
    "gradual": {"unfreezing": "gradual", "layer_lr_decay": 2.6, "lr_schedule": "slanted_triangular"},
    "one cycle": {"lr_schedule": "one_cycle", "l2_sp": 0.1, "label_smoothing": 0.1},
    "augment": {"augment": "light"},
    "sgd": {"optimizer": "sgd"},
    "float16": {"precision": "float16"},
    "nothing frozen": {"freeze_depth": 0, "cache": None},
}


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_checkpoint_resumes_to_the_bits_of_an_uninterrupted_fit(recipe, tmp_path):
    options = dict(RECIPES[recipe])
    callbacks = options.pop("callbacks", [])
    whole = classifier(None, *callbacks, **options).fit(IMAGES, LABELS)
    n_steps, clf = Steps.n, classifier(tmp_path, *callbacks, **options)
    n_an_epoch = n_steps // whole.n_iter_
    interrupted(clf, IMAGES, LABELS, n_an_epoch * (whole.n_iter_ - 1) - 1)
    clf.fit(IMAGES, LABELS)
    assert Steps.n == 2 * n_an_epoch  # the last epoch, and the one that was interrupted
    np.testing.assert_array_equal(clf.decision_function(IMAGES), whole.decision_function(IMAGES))
    times = ["seconds"]
    assert clf.history_.drop(columns=times).equals(whole.history_.drop(columns=times))
    assert clf.stages_.equals(whole.stages_)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{}, {"adapter": LoraConfig(target_modules=["query", "value"], lora_dropout=0.2)}])
def test_checkpoint_resumes_dropout_and_adapter(options, tmp_path):
    y = np.arange(len(TEXTS)) % 2
    whole = classifier(None, backbone=BERT, **options).fit(TEXTS, y)
    n_steps, clf = Steps.n, classifier(tmp_path, backbone=BERT, **options)
    interrupted(clf, TEXTS, y, n_steps - 1)
    clf.fit(TEXTS, y)
    assert Steps.n < n_steps / 2
    np.testing.assert_array_equal(clf.decision_function(TEXTS), whole.decision_function(TEXTS))


def test_checkpoint_resumes_a_regressor(tmp_path):
    y = np.random.default_rng(0).normal(size=24)
    whole = FineTuneRegressor(BACKBONE, **OPTIONS).fit(IMAGES, y)
    reg = FineTuneRegressor(BACKBONE, callbacks=[Steps(), Checkpoint(tmp_path)], **OPTIONS)
    interrupted(reg, IMAGES, y, 9)
    reg.fit(IMAGES, y)
    assert Steps.n == 3 * 4
    np.testing.assert_array_equal(reg.predict(IMAGES), whole.predict(IMAGES))


def test_fit_raises_ctrl_c_and_leaves_the_estimator_unchanged(tmp_path):
    clf = classifier(tmp_path)
    interrupted(clf, IMAGES, LABELS, 6)
    with pytest.raises(ValueError, match="not fitted"):
        check_is_fitted(clf)
    before = clf.fit(IMAGES, LABELS).decision_function(IMAGES)
    interrupted(clf, IMAGES, LABELS[::-1], 6)
    np.testing.assert_array_equal(clf.decision_function(IMAGES), before)


def test_partial_fit_that_is_interrupted_keeps_the_optimizer_state():
    plain, clf = classifier(None), classifier(None)
    for one in (plain, clf):
        one.partial_fit(IMAGES, LABELS, classes=["a", "b"])
    Steps.n, Steps.stop_at = 0, 3
    with pytest.raises(KeyboardInterrupt):
        clf.partial_fit(IMAGES, LABELS)
    Steps.stop_at = None
    for one in (plain, clf):
        one.partial_fit(IMAGES, LABELS)
    np.testing.assert_array_equal(clf.decision_function(IMAGES), plain.decision_function(IMAGES))


class Stop(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


def test_checkpoint_is_deleted_if_a_callback_ends_training(tmp_path):
    clf = classifier(tmp_path, Stop()).fit(IMAGES, LABELS)
    assert clf.n_iter_ == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 1e-3},
        {"random_state": 1},
        {"max_epochs": 6},
        {"freeze_depth": 2},
        {"l2_sp": 0.1},
        {"precision": "bfloat16"},
    ],
    ids=str,
)
def test_checkpoint_of_other_parameters_is_kept_and_not_used(change, tmp_path):
    interrupted(classifier(tmp_path), IMAGES, LABELS, 18)
    clf = classifier(tmp_path, **change).fit(IMAGES, LABELS)
    assert Steps.n == clf.max_epochs * 4
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("changed", ["sample", "target", "weight", "callback"])
def test_checkpoint_of_other_data_or_callbacks_is_not_used(changed, tmp_path):
    interrupted(classifier(tmp_path), IMAGES, LABELS, 18)
    X, y, weight = IMAGES.copy(), LABELS.copy(), np.ones(24)
    X[3] = X[4] if changed == "sample" else X[3]
    y[3] = "a" if changed == "target" else y[3]
    weight[3] = 2 if changed == "weight" else 1
    callbacks = [EMA(0.5)] if changed == "callback" else []
    classifier(tmp_path, *callbacks).fit(X, y, sample_weight=weight)
    assert Steps.n == 20


def test_checkpoint_of_another_adapter_of_equal_shape_is_not_used(tmp_path):
    found = []
    for alpha in (4, 400):
        adapter = LoraConfig(r=2, lora_alpha=alpha, target_modules="all-linear")
        options = {"freeze_depth": 2, "adapter": adapter, "max_epochs": 1, "random_state": 0}
        callbacks = [Checkpoint(tmp_path, keep=True)]
        clf = FineTuneClassifier(BERT, callbacks=callbacks, **options).fit(TEXTS, LABELS[: len(TEXTS)])
        alone = FineTuneClassifier(BERT, **options).fit(TEXTS, LABELS[: len(TEXTS)])
        np.testing.assert_array_equal(clf.predict_proba(TEXTS), alone.predict_proba(TEXTS))
        found.append(clf)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("estimator", [ContrastiveFineTuner, partial(FineTuneClassifier, head_init="random")])
def test_checkpoint_of_another_pooling_is_not_used(estimator, tmp_path):
    for pooling in ("mean", "max"):
        options = {"freeze_depth": 2, "pooling": pooling, "max_epochs": 1, "random_state": 0}
        tuner = estimator(BERT, callbacks=[Checkpoint(tmp_path, keep=True)], **options)
        alone = estimator(BERT, **options)
        losses = [one.fit(TEXTS, LABELS[: len(TEXTS)]).history_["train_loss"].tolist() for one in (tuner, alone)]
        assert losses[0] == losses[1]
    assert len(list(tmp_path.iterdir())) == 2


def test_keep_avoids_training_a_second_time(tmp_path):
    options = {**OPTIONS, "callbacks": [Steps(), EMA(0.8), Checkpoint(tmp_path, keep=True)]}
    first = FineTuneClassifier(BACKBONE, **options).fit(IMAGES, LABELS)
    Steps.n = 0
    second = FineTuneClassifier(BACKBONE, **options).fit(IMAGES, LABELS)
    assert Steps.n == 0
    np.testing.assert_array_equal(second.decision_function(IMAGES), first.decision_function(IMAGES))


def test_keep_resumes_an_interrupted_grid_search(tmp_path):
    grid = {"freeze_depth": [1, 2], "lr": [1e-2, 1e-3]}
    clf = FineTuneClassifier(BACKBONE, **{**OPTIONS, "callbacks": [Steps(), Checkpoint(tmp_path, keep=True)]})
    search = GridSearchCV(clf, grid, cv=2)
    whole = GridSearchCV(classifier(None), grid, cv=2).fit(IMAGES, LABELS)
    n_steps = Steps.n
    interrupted(search, IMAGES, LABELS, n_steps // 2)
    search.fit(IMAGES, LABELS)
    assert n_steps == 100  # 9 fits; two steps an epoch of a fold's 12 samples, four in the refit
    assert Steps.n == 52  # the interrupted epoch again
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], whole.cv_results_["mean_test_score"])


@pytest.mark.parametrize("options", [{}, {"weights": "random", "freeze_depth": 0}, {"augment": "light"}], ids=str)
def test_checkpoint_resumes_without_random_state(options, tmp_path):
    options = {"backbone": "tiny/cnn", "max_epochs": 3, "lr": 1e-3, **options, "random_state": None}
    interrupted(classifier(tmp_path, **options), IMAGES, LABELS, 4 * 2 + 2)
    kept = sorted(path.suffix for path in tmp_path.iterdir())
    (seed,) = [int(path.read_text()) for path in tmp_path.glob("*.seed")]
    clf = classifier(tmp_path, **options).fit(IMAGES, LABELS)  # as in another run of the same script
    assert kept == [".pt", ".seed"]
    assert Steps.n == 4
    assert list(tmp_path.iterdir()) == []
    assert clf._seed == seed
    assert classifier(tmp_path, **options).fit(IMAGES, LABELS)._seed != seed


def test_checkpoint_without_random_state_resumes_a_grid_search(tmp_path):
    grid = {"freeze_depth": [1, 2], "lr": [1e-2, 1e-3]}
    options = {**OPTIONS, "callbacks": [Steps(), Checkpoint(tmp_path, keep=True)], "random_state": None}
    search = GridSearchCV(FineTuneClassifier(BACKBONE, **options), grid, cv=2)
    interrupted(search, IMAGES, LABELS, 50)
    assert len({path.read_text() for path in tmp_path.glob("*.seed")}) == 5  # a seed for each fit
    search.fit(IMAGES, LABELS)
    assert Steps.n == 52  # of 100, and the interrupted epoch again


@pytest.mark.parametrize("text", ["", "x"])
def test_checkpoint_draws_a_new_seed_if_the_kept_one_is_damaged(text, tmp_path):
    interrupted(classifier(tmp_path, random_state=None), IMAGES, LABELS, 18)
    (path,) = tmp_path.glob("*.seed")
    path.write_text(text)
    classifier(tmp_path, random_state=None).fit(IMAGES, LABELS)
    assert Steps.n == 20


KILLED = """
import os
from tests.callbacks.test_checkpoint import *
class Kill(Callback):
    def on_batch_end(self, net, training=False, **kwargs):
        if training and len(net.history) == 4:
            os._exit(9)
FineTuneClassifier(BACKBONE, callbacks=[Steps(), Checkpoint({folder!r}), Kill()], **OPTIONS).fit(IMAGES, LABELS)
"""


class Kill(Callback):
    pass


@pytest.mark.process
def test_checkpoint_of_a_killed_process_loses_only_the_last_epoch(tmp_path):
    assert run_code(KILLED.format(folder=str(tmp_path)), check=False).returncode == 9
    clf = FineTuneClassifier(BACKBONE, callbacks=[Steps(), Checkpoint(tmp_path), Kill()], **OPTIONS).fit(IMAGES, LABELS)
    assert Steps.n == 2 * 4
    whole = classifier(None).fit(IMAGES, LABELS)
    np.testing.assert_array_equal(clf.decision_function(IMAGES), whole.decision_function(IMAGES))


@pytest.mark.parametrize("damage", ["empty", "half", "last byte", "flipped", "text"])
def test_checkpoint_warns_of_a_damaged_file_and_starts_from_the_beginning(damage, tmp_path):
    whole = classifier(None).fit(IMAGES, LABELS).decision_function(IMAGES)
    interrupted(classifier(tmp_path), IMAGES, LABELS, 18)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    flipped, weight = bytearray(data), torch.load(path)["parts"]["module"]["heads.y.linear.weight"]
    flipped[data.index(weight.numpy().tobytes()) + 1] ^= 1
    damaged = {"empty": b"", "half": data[: len(data) // 2], "last byte": data[:-1], "flipped": flipped, "text": b"hi"}
    path.write_bytes(damaged[damage])
    with pytest.warns(CheckpointWarning, match="cannot be read .*: the training starts from the beginning"):
        clf = classifier(tmp_path).fit(IMAGES, LABELS)
    assert Steps.n == 20
    np.testing.assert_array_equal(clf.decision_function(IMAGES), whole)


@pytest.mark.parametrize("suffix", [".pt", ".2.pt", ".4.pt"])
def test_checkpoint_warns_of_files_of_another_format_and_leaves_them(suffix, tmp_path):
    interrupted(classifier(tmp_path), IMAGES, LABELS, 6)
    (path,) = tmp_path.iterdir()
    assert path.name.endswith(f".{FORMAT}.pt")
    other = path.rename(tmp_path / path.name.replace(f".{FORMAT}.pt", suffix))
    with pytest.warns(
        CheckpointWarning, match=f"has 1 checkpoints of another version .* as {other.name}, which are not"
    ):
        classifier(tmp_path).fit(IMAGES, LABELS)
    assert Steps.n == 20
    assert list(tmp_path.iterdir()) == [other]


def test_checkpoint_stops_writing_but_not_training_on_a_full_disk(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.warns(CheckpointWarning, match="cannot be written") as told:
            classifier(tmp_path).fit(IMAGES, LABELS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(told) == 1
    assert Steps.n == 20
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_writable_is_an_error_before_training(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InvalidParameterError, match=r"folder=.*cannot be written to"):
        classifier(tmp_path / "file").fit(IMAGES, LABELS)
    assert Steps.n == 0


class Some:
    def __init__(self, **attributes):
        vars(self).update(attributes)


def test_state_of_holds_plain_attributes_that_end_in_an_underscore():
    some = Some(n_=3, best_=np.float32(0.5), weights_={"w": torch.ones(2)}, none_=None, parameter=1, _own=2, f_=print)
    state = state_of(some)
    assert list(state) == ["n_", "best_", "weights_", "none_"]
    assert type(state["best_"]) is float


def test_set_state_loads_state_dicts_into_existing_objects():
    one, other = Some(layer_=torch.nn.Linear(2, 2), n_=1), Some(layer_=torch.nn.Linear(2, 2), n_=0)
    held = other.layer_
    set_state(other, state_of(one))
    assert other.layer_ is held
    assert torch.equal(one.layer_.weight, other.layer_.weight)
    assert other.n_ == 1


def test_params_of_is_equal_in_all_processes():
    assert params_of(LRScheduler(StepLR, step_size=2)) == {
        **{"policy": "StepLR", "monitor": "train_loss", "event_name": "event_lr"},
        **{"step_every": "epoch", "step_size": 2},
    }
    assert params_of(EarlyStopping(sink=print))["sink"] == "print"


TENSOR = torch.arange(4.0)


@pytest.mark.parametrize(
    "other",
    [
        [TENSOR.double()],
        [TENSOR[:3]],
        [TENSOR + 1],
        [[TENSOR]],
        [TENSOR, None],
        [TENSOR.reshape(2, 2).numpy()],
        [{"a": TENSOR}],
    ],
    ids=str,
)
def test_digest_differs_for_different_values(other):
    assert Digest().add(*other).hex() != Digest().add(TENSOR).hex()
    assert Digest().add(*other).hex() == Digest().add(*other).hex()


def test_digest_separates_parts():
    digests = {Digest().add(*parts).hex() for parts in (["ab", "c"], ["a", "bc"], ["abc"], [["ab"], "c"], [b"ab", "c"])}
    assert len(digests) == 5


def test_clone_of_a_fitted_estimator_with_a_checkpoint(tmp_path):
    clf = classifier(tmp_path).fit(IMAGES, LABELS)
    again = clone(clf).fit(IMAGES, LABELS)
    np.testing.assert_array_equal(again.decision_function(IMAGES), clf.decision_function(IMAGES))
