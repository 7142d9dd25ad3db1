"""Ctrl-C raises KeyboardInterrupt; a callback that raises it only ends the training, as in skorch."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback, EpochScoring

from sktransfer import Checkpoint, FineTuneClassifier
from tests.helpers.toys import image_backbone

BACKBONE = image_backbone()
IMAGES = np.random.default_rng(0).random((24, 8, 8, 3)).astype(np.float32)
LABELS = np.array(["a", "b"])[np.arange(24) % 2]


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def ctrl_c_from_another_thread():
    """Interrupt a wait, as a user does who presses Ctrl-C."""
    threading.Timer(0.05, ctrl_c).start()
    time.sleep(10)


def raise_in_a_function():
    raise KeyboardInterrupt


class Interrupt(Callback):
    """Call `action` in a method of the second epoch, or in one that has no epoch."""

    def __init__(self, method, action=ctrl_c):
        self.method = method
        self.action = action

    def _reach(self, method, net):
        if method == self.method and (method.startswith("on_train") or len(net.history) == 2):
            self.action()

    def on_train_begin(self, net, **kwargs):
        self._reach("on_train_begin", net)

    def on_batch_begin(self, net, **kwargs):
        self._reach("on_batch_begin", net)

    def on_grad_computed(self, net, **kwargs):
        self._reach("on_grad_computed", net)

    def on_batch_end(self, net, **kwargs):
        self._reach("on_batch_end", net)

    def on_epoch_end(self, net, **kwargs):
        self._reach("on_epoch_end", net)

    def on_train_end(self, net, **kwargs):
        self._reach("on_train_end", net)


class CountFits(Callback):
    n = 0

    def on_train_begin(self, net, **kwargs):
        CountFits.n += 1


def classifier(*callbacks, **parameters):
    options = {"freeze_depth": 1, "max_epochs": 4, "batch_size": 6, "lr": 1e-2, "random_state": 0, **parameters}
    return FineTuneClassifier(BACKBONE, callbacks=list(callbacks), **options)


def scoring_that_is_interrupted():
    """Return a callback of skorch that is interrupted while it computes a score, in the second epoch."""

    def score(net, X, y=None):
        if len(net.history) == 2:
            ctrl_c()
        return 1.0

    return EpochScoring(score, on_train=True, name="score")


METHODS = ["on_train_begin", "on_batch_begin", "on_grad_computed", "on_batch_end", "on_epoch_end", "on_train_end"]
CTRL_C = {
    **{method: lambda method=method: Interrupt(method) for method in METHODS},
    "waiting on_batch_end": lambda: Interrupt("on_batch_end", ctrl_c_from_another_thread),
    "waiting on_epoch_end": lambda: Interrupt("on_epoch_end", ctrl_c_from_another_thread),
    "EpochScoring": scoring_that_is_interrupted,
}


@pytest.mark.parametrize("place", CTRL_C)
def test_fit_raises_ctrl_c_and_is_rolled_back(place):
    clf = classifier(CTRL_C[place]())
    with pytest.raises(KeyboardInterrupt):
        clf.fit(IMAGES, LABELS)
    with pytest.raises(ValueError, match="not fitted"):
        check_is_fitted(clf)
    before = clf.set_params(callbacks=None).fit(IMAGES, LABELS).decision_function(IMAGES)
    fitted = dict(vars(clf))
    with pytest.raises(KeyboardInterrupt):
        clf.set_params(callbacks=[CTRL_C[place]()]).fit(IMAGES, LABELS[::-1])
    assert {**vars(clf), "callbacks": None} == fitted
    np.testing.assert_array_equal(clf.decision_function(IMAGES), before)


@pytest.mark.parametrize("place", ["on_batch_end", "on_epoch_end", "EpochScoring"])
def test_fit_of_grid_search_raises_ctrl_c_and_fits_no_other_candidate(place):
    CountFits.n = 0
    search = GridSearchCV(classifier(CountFits(), CTRL_C[place]()), {"lr": [1e-2, 1e-3]}, cv=2)
    with pytest.raises(KeyboardInterrupt):
        search.fit(IMAGES, LABELS)
    assert CountFits.n == 1
    assert not hasattr(search, "best_estimator_")


@pytest.mark.parametrize("place", ["on_batch_end", "on_epoch_end", "EpochScoring"])
def test_checkpoint_keeps_its_file_after_ctrl_c(place, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        classifier(Checkpoint(tmp_path), CTRL_C[place]()).fit(IMAGES, LABELS)
    assert len(list(tmp_path.iterdir())) == 1  # the state after the first epoch


@pytest.mark.parametrize("action", [raise_in_a_function, "in the method"], ids=["function", "method"])
@pytest.mark.parametrize("method", ["on_batch_end", "on_epoch_end"])
def test_fit_ends_if_a_callback_raises_keyboard_interrupt(action, method, tmp_path):
    class Stop(Interrupt):
        def _reach(self, method, net):
            if method == self.method and len(net.history) == 2:
                raise KeyboardInterrupt

    stop = Stop(method) if action == "in the method" else Interrupt(method, action)
    clf = classifier(Checkpoint(tmp_path), stop).fit(IMAGES, LABELS)
    assert clf.n_iter_ == 2
    assert list(tmp_path.iterdir()) == []  # the training is complete


def test_fit_of_grid_search_continues_if_a_callback_ends_training():
    CountFits.n = 0
    callbacks = [CountFits(), Interrupt("on_epoch_end", raise_in_a_function)]
    search = GridSearchCV(classifier(*callbacks), {"lr": [1e-3, 1e-4]}, cv=2).fit(IMAGES, LABELS)
    assert CountFits.n == 5  # two candidates on two folds, and the refit
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_fit_raises_ctrl_c_that_a_callback_catches_and_raises_again():
    def tidy_up():
        try:
            ctrl_c()
        except KeyboardInterrupt as error:
            raise error

    with pytest.raises(KeyboardInterrupt):
        classifier(Interrupt("on_epoch_end", tidy_up)).fit(IMAGES, LABELS)


def test_fit_calls_and_keeps_the_sigint_handler_of_the_user():
    received = []
    before = signal.signal(signal.SIGINT, lambda *args: received.append(args))
    try:
        clf = classifier(Interrupt("on_epoch_end")).fit(IMAGES, LABELS)
        assert clf.n_iter_ == 4  # the handler raises nothing
        assert len(received) == 1
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert classifier(Interrupt("on_epoch_end")).fit(IMAGES, LABELS).n_iter_ == 4
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_fit_raises_keyboard_interrupt_of_the_sigint_handler_of_the_user():
    def handler(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    try:
        for method in ("on_batch_end", "on_epoch_end"):
            with pytest.raises(KeyboardInterrupt):
                classifier(Interrupt(method)).fit(IMAGES, LABELS)
    finally:
        signal.signal(signal.SIGINT, before)


def fit_in_a_thread(clf):
    """Fit in another thread, and return whether KeyboardInterrupt was raised in this one."""
    thread = threading.Thread(target=clf.fit, args=(IMAGES, LABELS))
    thread.start()
    try:
        while thread.is_alive():
            time.sleep(0.01)
    except KeyboardInterrupt:
        thread.join()
        return True
    return False


def test_fit_in_another_thread_is_not_ended_by_ctrl_c():
    clf = classifier(Interrupt("on_epoch_end"))
    assert fit_in_a_thread(clf)  # Python raises it in the main thread
    assert clf.n_iter_ == 4


def test_fit_in_another_thread_ends_if_a_callback_raises_keyboard_interrupt():
    clf = classifier(Interrupt("on_epoch_end", raise_in_a_function))
    assert not fit_in_a_thread(clf)
    assert clf.n_iter_ == 2
