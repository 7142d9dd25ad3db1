"""Callbacks as they are given: with and without names, made and not yet made."""

from __future__ import annotations

import pytest
from sklearn.callback import ProgressBar
from sklearn.metrics import accuracy_score, make_scorer
from skorch.callbacks import BatchScoring, EarlyStopping, EpochScoring, LRScheduler, PassthroughScoring, PrintLog

from sktransfer import EMA, MCC, FineTuneClassifier, MaskedTokens
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.classification import Multiclass
from sktransfer.tasks.continuous import Continuous
from sktransfer.tasks.pairs import Pairs
from sktransfer.tasks.pixels import PixelClasses
from sktransfer.tasks.tags import Tags
from sktransfer.testing.samples import make_samples
from sktransfer.training.callback_list import check_callbacks, check_monitors, check_scoring, is_callback_type, unnamed

IMAGES, LABELS = make_samples("image", 24)
STEP = LRScheduler("StepLR", step_size=1)


def test_unnamed_and_is_callback_type_take_names_and_classes():
    average = EMA(0.5)
    assert unnamed([average, ("a", average), ["b", EMA], EMA]) == [average, average, EMA, EMA]
    assert unnamed(None) == []
    assert [is_callback_type(one, EMA) for one in (average, EMA, STEP, LRScheduler)] == [True, True, False, False]
    assert is_callback_type(STEP, EMA, LRScheduler)


@pytest.mark.parametrize("callbacks", [None, [], (EMA(),), [EMA, ("log", PrintLog), ["stop", EarlyStopping()]]])
def test_check_callbacks_accepts_what_skorch_accepts(callbacks):
    check_callbacks(callbacks)


@pytest.mark.parametrize(
    "wrong", ["EMA", EMA(0.9), {"ema": EMA()}, [1], [("a", EMA(), 2)], [(3, EMA())], [ProgressBar()]]
)
def test_check_callbacks_rejects_other_values(wrong):
    with pytest.raises(InvalidParameterError, match="callbacks"):
        check_callbacks(wrong)


TOPIC, STARS = Multiclass(), Continuous()
ONE, TWO = {"topic": TOPIC}, {"topic": TOPIC, "stars": STARS}


@pytest.mark.parametrize("monitor", ["train_loss_topic", "valid_loss_topic", "valid_acc_topic"])
def test_check_monitors_knows_columns_of_several_tasks(monitor):
    stop = [EarlyStopping(monitor)]
    check_monitors(stop, TWO, validates=True, remedy="pass X_val")
    with pytest.raises(InvalidParameterError, match="which no callback records"):
        check_monitors(stop, ONE, validates=True, remedy="pass X_val")
    if monitor.startswith("train"):
        check_monitors(stop, TWO, validates=False, remedy="pass X_val")
    else:
        with pytest.raises(InvalidParameterError, match=r"computed on validation data.*: pass X_val"):
            check_monitors(stop, TWO, validates=False, remedy="pass X_val")


@pytest.mark.parametrize(
    ("task", "score"),
    [(TOPIC, "acc"), (STARS, "r2"), (Tags(), "acc"), (PixelClasses(), "iou"), (Pairs(), None), (MaskedTokens(), None)],
)
def test_check_monitors_knows_the_score_of_a_single_task(task, score):
    for name in ("acc", "r2", "iou"):
        stop = [EarlyStopping(f"valid_{name}_best")]
        if name == score:
            check_monitors(stop, {"one": task}, validates=True, remedy="pass X_val")
        else:
            with pytest.raises(InvalidParameterError, match=rf"'valid_{name}_best', which no callback records"):
                check_monitors(stop, {"one": task}, validates=True, remedy="pass X_val")
    with pytest.raises(InvalidParameterError, match=r"which no callback records.*'valid_acc_topic'"):
        check_monitors([EarlyStopping("valid_acc")], TWO, validates=True, remedy="pass X_val")


def test_check_monitors_knows_that_tasks_of_weight_0_have_no_columns():
    check_monitors([EarlyStopping("valid_loss_topic")], TWO, validates=True, remedy="pass X_val", idle=["stars"])
    with pytest.raises(InvalidParameterError, match="which no callback records"):
        check_monitors([EarlyStopping("valid_loss_stars")], TWO, validates=True, remedy="pass X_val", idle=["stars"])


def test_check_monitors_knows_that_auxiliary_tasks_have_a_loss_of_the_training_alone():
    tasks = {"y": TOPIC, "mcc": MCC()}
    for name in ("train_loss_mcc", "valid_acc_y"):
        check_monitors([EarlyStopping(name)], tasks, validates=True, remedy="pass X_val")
    with pytest.raises(InvalidParameterError, match="which no callback records"):
        check_monitors([EarlyStopping("valid_loss_mcc")], tasks, validates=True, remedy="pass X_val")


def own_score(net, X, y):
    return 0.5


@pytest.mark.parametrize(
    "callback",
    [
        EpochScoring("accuracy"),
        EpochScoring(own_score),
        EpochScoring(accuracy_score, use_caching=False),
        EpochScoring(make_scorer(accuracy_score), use_caching=False),
        BatchScoring("accuracy"),
    ],
)
def test_check_scoring_refuses_scores_unless_a_sample_has_one_prediction(callback):
    check_scoring([callback], ONE)
    for tasks, reason in [
        (TWO, r"one task, and there are 2 tasks, .*'valid_acc_topic'"),
        ({"y": Tags()}, "there is one per word.*'valid_acc'"),
        ({"y": PixelClasses()}, "there is one per pixel.*'valid_iou'"),
        ({"y": Pairs()}, "makes none.*'valid_loss'"),
        ({"y": MaskedTokens()}, "makes none"),
    ]:
        with pytest.raises(InvalidParameterError, match=rf"callbacks\[1\]: .*Scoring scores .*{reason}"):
            check_scoring([EMA, ("score", callback)], tasks)


def test_check_scoring_allows_functions_that_read_no_predictions():
    callbacks = [EpochScoring(own_score, use_caching=False), BatchScoring(own_score), PassthroughScoring("train_loss")]
    check_scoring(callbacks, TWO)
    check_scoring(None, TWO)


@pytest.mark.parametrize("callbacks", [[STEP], [("s", STEP)], [["s", STEP]]])
def test_callbacks_may_hold_a_scheduler_in_any_form(callbacks):
    options = {"callbacks": callbacks, "freeze_depth": "all", "max_epochs": 2, "lr": 0.1, "random_state": 0}
    clf = FineTuneClassifier(**options).fit(IMAGES, LABELS)
    assert clf.history_["lr"].tolist() == pytest.approx([0.01, 0.001])  # of the user's scheduler alone
    with pytest.raises(InvalidParameterError, match="two schedules"):
        clf.set_params(lr_schedule="cosine").fit(IMAGES, LABELS)


def test_partial_fit_uses_the_scheduler_of_the_user():
    clf = FineTuneClassifier(callbacks=[STEP], freeze_depth="all", lr=0.1, random_state=0)
    for _ in range(2):
        clf.partial_fit(IMAGES, LABELS, classes=["bad", "good"])
    assert clf.history_["lr"].tolist() == pytest.approx([0.01, 0.01])  # it starts anew with each call
