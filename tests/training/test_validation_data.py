"""Validation data that the user passes to `fit`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler

from sktransfer import Checkpoint, ContrastiveFineTuner, FineTuneClassifier, FineTuneRegressor
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError, ValidationWarning
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 32)
IMAGES = np.stack([np.asarray(image) for image in IMAGES])
X, X_VAL = IMAGES[:20], IMAGES[20:]
Y, Y_VAL = LABELS[:20], LABELS[20:]
GROUPS = np.arange(20) // 2


@pytest.fixture
def _routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


class Spy(Callback):
    """Rows of the training and of the validation data."""

    seen: list = []  # noqa: RUF012

    def on_train_begin(self, net, X=None, **kwargs):
        valid = net.get_split_datasets(X, None)[1]
        self.seen.append((len(X), None if valid is None else valid.inputs.samples.key(0), valid and len(valid)))


def quick(**parameters):
    return FineTuneClassifier(**{"max_epochs": 2, "random_state": 0, **parameters})


def losses(clf, samples, y):
    return -np.log(clf.predict_proba(samples)[np.arange(len(y)), np.searchsorted(clf.classes_, y)])


def test_x_val_gives_valid_loss_in_the_encoding_of_the_training_and_changes_no_weight():
    weight = np.linspace(0, 1, len(Y_VAL))  # the first row is dropped
    clf = quick(batch_size=7).fit(X, Y, X_val=X_VAL, y_val=pd.Series(Y_VAL), sample_weight_val=weight)
    expected = np.average(losses(clf, X_VAL, Y_VAL), weights=weight)
    assert clf.history_["valid_loss"].iloc[-1] == pytest.approx(expected, rel=1e-3)
    of_one = np.flatnonzero(LABELS[20:] == LABELS[0])
    one_class = quick().fit(X, Y, X_val=X_VAL[of_one], y_val=Y_VAL[of_one])
    assert one_class.history_["valid_acc"].iloc[-1] == 1
    np.testing.assert_array_equal(quick(batch_size=7).fit(X, Y).predict_proba(X), clf.predict_proba(X))


def test_class_weight_weighs_validation_data_that_lack_a_class():
    rare, common = np.unique(Y)
    of_one = np.flatnonzero(LABELS[20:] == common)
    for class_weight in ({rare: 5.0}, {common: 5.0}, "balanced"):
        clf = quick(class_weight=class_weight).fit(X, Y, X_val=X_VAL[of_one], y_val=Y_VAL[of_one])
        expected = losses(clf, X_VAL[of_one], Y_VAL[of_one]).mean()
        assert clf.history_["valid_loss"].iloc[-1] == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="not in class_weight"):
        quick(class_weight={"typo": 2.0}).fit(X, Y)


def test_x_val_takes_the_place_of_the_split_of_early_stopping():
    Spy.seen.clear()
    wrong = np.where(LABELS[20:] == LABELS[0], LABELS[1], LABELS[0])  # each step makes the validation loss worse
    options = {"early_stopping": True, "patience": 2, "lr": 1e-2, "max_epochs": 30, "callbacks": [Spy]}
    clf = quick(lr_schedule="constant", **options).fit(X, Y, X_val=X_VAL, y_val=wrong)
    assert [(one, three) for one, _, three in Spy.seen] == [(20, 12)]
    assert clf.n_iter_ < 30
    start = quick(max_epochs=0).fit(X, Y)
    assert losses(start, X_VAL, wrong).mean() < clf.history_["valid_loss"].min()
    np.testing.assert_array_equal(clf.predict_proba(X_VAL), start.predict_proba(X_VAL))


def test_x_val_of_a_regressor_is_scored_in_r2():
    y = np.linspace(-5, 90, 32)
    reg = FineTuneRegressor(max_epochs=2, random_state=0).fit(X, y[:20], X_val=X_VAL, y_val=y[20:])
    assert reg.history_["valid_r2"].iloc[-1] == pytest.approx(reg.score(X_VAL, y[20:]), abs=1e-4)


def test_x_val_of_indicators():
    y = np.stack([np.arange(32) % 2, np.arange(32) % 3 == 0], 1).astype(int)
    clf = quick().fit(X, y[:20], X_val=X_VAL, y_val=y[20:])
    assert clf.history_["valid_acc"].iloc[-1] == pytest.approx(clf.score(X_VAL, y[20:]))
    with pytest.raises(ValueError, match=r"\(X_val, y_val, sample_weight_val\): y has 3 columns"):
        quick().fit(X, y[:20], X_val=X_VAL, y_val=np.zeros((12, 3), int))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"X_val": X_VAL}, "X_val is given, and y_val is not"),
        ({"y_val": Y_VAL}, "validation data are incomplete"),
        (
            {"X_val": X_VAL, "y_val": Y_VAL[1:]},
            r"\(X_val, y_val, sample_weight_val\): Found input variables with inconsistent",
        ),
        ({"X_val": X_VAL, "y_val": ["rare", *Y_VAL[1:]]}, r"holds \['rare'\], which are not among the classes"),
        ({"X_val": X_VAL, "y_val": [None, *Y_VAL[1:]]}, r"\(X_val, y_val, sample_weight_val\): y\[0\] is None"),
        (
            {"X_val": X_VAL, "y_val": Y_VAL, "sample_weight_val": np.zeros(12)},
            "sample_weight_val\\): Sample weights must contain",
        ),
    ],
)
def test_x_val_and_y_val_that_cannot_be_used(given, match):
    with pytest.raises(ValueError, match=match):
        quick().fit(X, Y, **given)


def test_error_of_columns_names_x_val():
    frame = pd.DataFrame(IMAGES[:, :2, :2, 0].reshape(32, 4), columns=list("abcd"))
    with pytest.raises(ValueError, match=r"validation data .*feature names should match"):
        quick().fit(frame[:20], Y, X_val=frame.iloc[20:, ::-1], y_val=Y_VAL)


def test_error_of_a_sample_names_x_val():
    with pytest.raises(InvalidSampleError, match="row 1: of X_val: "):
        quick().fit(X, Y, X_val=[X_VAL[0], "no such file.jpg"], y_val=Y_VAL[:2])


def test_checkpoint_tells_validation_data_and_their_order_apart(tmp_path):
    orders = [np.arange(12), np.arange(12)[::-1], np.arange(12), None]
    for order in orders:
        given = {} if order is None else {"X_val": X_VAL[order], "y_val": Y_VAL[order]}
        quick(callbacks=[Checkpoint(tmp_path, keep=True)]).fit(X, Y, **given)
    files = list(tmp_path.iterdir())
    assert len(files) == 3
    callbacks = [torch.load(file, weights_only=True)["parts"]["callbacks"] for file in files]
    assert [one["valid_score"]["y_preds_"] for one in callbacks if "valid_score" in one] == [[], []]


@pytest.mark.usefixtures("_routing")
def test_x_val_is_routed_through_pipeline_and_search_and_transformed():
    Spy.seen.clear()
    tuner = quick(max_epochs=1, callbacks=[Spy]).set_fit_request(X_val=True, y_val=True)
    pipeline = make_pipeline(FunctionTransformer(np.flip), tuner, transform_input=["X_val"])
    search = GridSearchCV(pipeline, {"finetuneclassifier__freeze_depth": [-1, "all"]}, cv=2)
    search.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    sizes, keys, n_valid = map(set, zip(*Spy.seen))
    assert (sizes, n_valid, len(keys)) == ({10, 20}, {12}, 1)
    quick(max_epochs=1, callbacks=[Spy]).fit(X, Y, X_val=np.flip(X_VAL), y_val=Y_VAL)
    assert Spy.seen[-1][1] in keys


def test_x_val_in_a_search_without_metadata_routing():
    search = GridSearchCV(quick(max_epochs=1), {"freeze_depth": [-1]}, cv=2).fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    assert "valid_loss" in search.best_estimator_.history_


@pytest.mark.usefixtures("_routing")
@pytest.mark.parametrize("early_stopping", [False, True])
def test_groups_of_a_search_need_no_request(early_stopping):
    tuner = quick(max_epochs=1, early_stopping=early_stopping)
    search = GridSearchCV(make_pipeline(tuner), {"finetuneclassifier__freeze_depth": [-1]}, cv=GroupKFold(2))
    assert np.isfinite(search.fit(X, Y, groups=GROUPS).cv_results_["mean_test_score"]).all()
    assert np.isfinite(cross_val_score(tuner, X, Y, params={"groups": GROUPS}, cv=GroupKFold(2))).all()
    reg = FineTuneRegressor(max_epochs=1, early_stopping=early_stopping)
    assert np.isfinite(cross_val_score(reg, X, np.arange(20.0), params={"groups": GROUPS}, cv=GroupKFold(2))).all()


PLATEAU = LRScheduler("ReduceLROnPlateau", monitor="valid_loss")


@pytest.mark.parametrize(
    ("callbacks", "match"),
    [
        ([EarlyStopping], r"callbacks\[0\]: EarlyStopping monitors 'valid_loss', which is computed on validation data"),
        ([("slower", PLATEAU)], r"callbacks\[0\]: LRScheduler monitors 'valid_loss'.*pass X_val and y_val to fit"),
        (
            [EarlyStopping("accuracy")],
            r"no callback records; recorded are .*EpochScoring\('accuracy', on_train=True\) before it",
        ),
        ([EarlyStopping("f1"), EpochScoring("f1", on_train=True)], "'f1', which a later callback records"),
    ],
)
def test_callbacks_that_monitor_what_is_not_recorded_raise_before_the_training(callbacks, match):
    with pytest.raises(InvalidParameterError, match=match):
        quick(callbacks=callbacks).fit(X, Y)


@pytest.mark.parametrize("method", ["on_epoch_begin", "on_batch_begin", "on_batch_end"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_callback_may_end_the_training_at_any_point(method, epoch):
    def stop(self, net, *args, **kwargs):
        if len(net.history) == epoch:
            raise KeyboardInterrupt

    callback = type("Stop", (Callback,), {method: stop})()
    clf = quick(max_epochs=3, callbacks=[callback]).fit(X, Y)
    assert clf.n_iter_ == epoch
    assert np.isfinite(clf.predict_proba(X)).all()


def test_one_validation_sample_has_an_accuracy_and_no_r2():
    stop = EarlyStopping("valid_acc", lower_is_better=False)
    clf = quick(callbacks=[stop]).fit(X, Y, X_val=X[:1], y_val=Y[:1])
    assert clf.history_["valid_acc"].isin([0.0, 1.0]).all()
    reg = FineTuneRegressor(max_epochs=1).fit(X, np.arange(20.0), X_val=X[:1], y_val=[3.0])
    assert reg.history_["valid_r2"].isna().all()


def test_callbacks_that_score_missing_validation_data_warn():
    scoring = EpochScoring("accuracy", lower_is_better=False)
    with pytest.warns(ValidationWarning, match="EpochScoring records 'accuracy' of validation data.*on_train=True"):
        quick(callbacks=[scoring]).fit(X, Y)
    with (
        pytest.warns(ValidationWarning),
        pytest.raises(InvalidParameterError, match="'accuracy', which is computed on validation data"),
    ):
        quick(callbacks=[scoring, EarlyStopping("accuracy", lower_is_better=False)]).fit(X, Y)
    with pytest.raises(InvalidParameterError, match="partial_fit takes none, so call fit"):
        quick(callbacks=[EarlyStopping()]).partial_fit(X, Y, classes=np.unique(Y))
    with pytest.raises(InvalidParameterError, match="ContrastiveFineTuner takes none, or set monitor='train_loss'"):
        ContrastiveFineTuner(callbacks=[EarlyStopping()]).fit(X, Y)


@pytest.mark.parametrize("given", [{"X_val": X_VAL, "y_val": Y_VAL}, {}])
def test_callbacks_that_monitor_validation_data_work_with_them(given, recwarn):
    stop = EarlyStopping("accuracy", lower_is_better=False)
    scoring = EpochScoring("accuracy", lower_is_better=False)
    clf = quick(callbacks=[scoring, stop, PLATEAU], early_stopping=not given).fit(X, Y, **given)
    assert {"accuracy", "valid_loss", "event_lr"} <= set(clf.history_)
    assert not recwarn.list


def test_callbacks_of_ones_own_may_record_what_others_monitor():
    class Record(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("mine", len(net.history))

    clf = quick(callbacks=[Record(), EarlyStopping("mine", lower_is_better=False)]).fit(X, Y)
    assert clf.history_["mine"].tolist() == [1, 2]
