"""Callbacks as parameters: set and searched by name, and left as they are by `fit`."""

from __future__ import annotations

import copy
from collections import defaultdict

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, EpochScoring, EpochTimer, LoadInitState, LRScheduler

from sktransfer import EMA, FineTuneClassifier
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from sktransfer.training.callback_list import copied

IMAGES, LABELS = make_samples("image", 24)


def make(callbacks, **options):
    options = {"freeze_depth": "all", "lr": 1e-3, "max_epochs": 2, **options}
    return FineTuneClassifier("tiny/cnn", callbacks=callbacks, random_state=0, **options)


def test_get_params_lists_callbacks_by_name():
    stop, average = EarlyStopping("train_loss", patience=2), EMA(0.9)
    params = make([("es", stop), average, EpochTimer]).get_params()
    assert params["callbacks__es"] is stop
    assert params["callbacks__es__patience"] == 2
    assert params["callbacks__EMA__decay"] == 0.9
    assert params["callbacks__EpochTimer"] is EpochTimer
    assert not any("__" in name for name in make([("es", stop)]).get_params(deep=False))


@pytest.mark.parametrize("callbacks", [None, "EMA", [1], 3])
def test_get_params_of_other_values_has_no_callbacks(callbacks):
    assert not any(name.startswith("callbacks__") for name in make(callbacks).get_params())


def test_set_params_of_callbacks():
    stop = EarlyStopping("train_loss")
    clf = make([("es", stop), EpochTimer, ("lr", LRScheduler("StepLR", step_size=1))])
    given = clf.callbacks
    assert clf.set_params(callbacks__es__patience=7, callbacks__lr__step_size=3, lr=0.5) is clf
    assert (stop.patience, clf.callbacks[2][1].step_size, clf.lr) == (7, 3, 0.5)
    clf.set_params(callbacks__EpochTimer=None, callbacks__es__patience=8)
    assert clf.callbacks == [("es", stop), ("EpochTimer", None), given[2]]
    assert given[1] is EpochTimer  # the list of the user is as it was
    clf.set_params(callbacks=[("other", EMA)], callbacks__other__decay=0.5)
    assert clf.callbacks[0][1].decay == 0.5
    assert dict(clf.fit(IMAGES, LABELS).net_.callbacks_)["other"].decay == 0.5


def test_set_params_of_unknown_callbacks():
    clf = make([("es", EarlyStopping("train_loss")), ("off", None)])
    with pytest.raises(InvalidParameterError, match=r"there is no callback 'stop'.*known names are \['es', 'off'\]"):
        clf.set_params(callbacks__stop__patience=1)
    with pytest.raises(InvalidParameterError, match=r"callbacks__off is None, so it has no parameter 'patience'"):
        clf.set_params(callbacks__off__patience=1)
    with pytest.raises(ValueError, match="Invalid parameter 'patients'"):
        clf.set_params(callbacks__es__patients=1)
    with pytest.raises(ValueError, match="Invalid parameter 'learning_rate'"):
        clf.set_params(learning_rate=1)


def test_grid_over_callbacks_and_their_parameters():
    stop = EarlyStopping("train_loss", patience=1, threshold=0.99)  # no loss falls this fast, so patience decides
    clf = make([("es", stop)], max_epochs=5)
    n_epochs = {}
    for n in (1, 3):
        grid = GridSearchCV(clf, {"callbacks__es__patience": [n]}, cv=2).fit(IMAGES, LABELS)
        n_epochs[n] = grid.best_estimator_.n_iter_
    assert n_epochs[3] - n_epochs[1] == 2
    assert stop.patience == 1
    off = GridSearchCV(clf, {"callbacks__es": [None]}, cv=2).fit(IMAGES, LABELS)
    assert off.best_estimator_.n_iter_ == 5
    both = GridSearchCV(clf, {"callbacks__es__patience": [1, 3]}, cv=2, n_jobs=1).fit(IMAGES, LABELS)
    assert len(both.cv_results_["params"]) == 2


def test_clone_copies_callbacks():
    clf = make([("es", EarlyStopping("train_loss"))])
    cloned = clone(clf).set_params(callbacks__es__patience=2)
    assert clf.get_params()["callbacks__es__patience"] == 5
    assert cloned.get_params()["callbacks__es__patience"] == 2


class Log(Callback):
    """Callback that holds a lock, as those that write to a file do, and counts epochs."""

    def __init__(self, writer, rows):
        self.writer, self.rows = writer, rows

    def initialize(self):
        self.n_epochs_ = 0
        return self

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs_ += 1
        self.rows.append(self.n_epochs_)
        self.writer(self.n_epochs_)


def test_fit_leaves_callbacks_as_they_are(tmp_path):
    written = []
    log = Log(written.append, [0])
    given = [
        ("es", EarlyStopping("train_loss", load_best=True)),
        EpochScoring("accuracy", on_train=True, lower_is_better=False),
        EMA(0.5),
        log,
        LRScheduler("StepLR", step_size=1),
        Checkpoint("train_loss_best", dirname=tmp_path, f_optimizer=None, f_criterion=None),
    ]
    clf = make(given, lr_schedule="linear")
    before = copy.deepcopy([vars(item[1] if isinstance(item, tuple) else item) for item in given if item is not log])
    clf.fit(IMAGES, LABELS)
    assert clf.callbacks is given
    after = [vars(item[1] if isinstance(item, tuple) else item) for item in given if item is not log]
    assert list(map(repr, after)) == list(map(repr, before))
    assert (log.rows, hasattr(log, "n_epochs_")) == ([0], False)
    fitted = dict(clf.net_.callbacks_)
    assert fitted["Log"].rows == [0, 1, 2]
    assert fitted["Log"].writer is log.writer  # shared, and not copied
    assert written == [1, 2]
    assert fitted["es"].misses_ == 0
    assert np.isfinite(fitted["EpochScoring"].best_score_)


def test_fit_copies_callbacks_that_hold_each_other(tmp_path):
    saved = Checkpoint(dirname=tmp_path, monitor=None, f_criterion=None)
    make([saved]).fit(IMAGES, LABELS)
    clf = make([saved, LoadInitState(saved)], max_epochs=1).fit(IMAGES, LABELS)
    fitted = dict(clf.net_.callbacks_)
    assert fitted["LoadInitState"].checkpoint is fitted["Checkpoint"] is not saved
    assert len(clf.net_.history) == 3  # two epochs of the first training, which the second one continues


def test_copied_copies_containers_and_what_they_hold():
    stop, rows = EarlyStopping("train_loss"), [1]
    log = Log(print, {"rows": rows, "by_name": defaultdict(list, {"stop": (stop, rows)}), "seen": {1}})
    one, two = copied([log, stop])
    held = one.rows
    assert held["by_name"]["stop"] == (two, [1])
    assert held["by_name"]["stop"][0] is two is not stop
    assert held["by_name"]["stop"][1] is held["rows"] is not rows
    assert held["by_name"]["other"] == []
    held["seen"].add(2)
    assert log.rows["seen"] == {1}


def test_copied_leaves_out_those_that_are_none():
    assert copied([("a", None), EMA, None]) == [EMA]
    assert copied(None) == []
