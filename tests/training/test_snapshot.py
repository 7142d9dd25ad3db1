"""What scikit-learn's callbacks may score after each epoch."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from peft import LoraConfig
from sklearn.callback import ScoringMonitor
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV

from sktransfer import FineTuneClassifier, FineTuneRegressor
from sktransfer.testing.samples import make_samples
from tests.helpers.small_bert import small_bert

IMAGES, LABELS = make_samples("image", 12)
TEXTS, _ = make_samples("text", 12)
BERT = "hf/" + small_bert()
HARD = np.array(["bad", "good"])[np.arange(12) // 2 % 2]
WEIGHT = np.linspace(0.1, 2, 12)


def quick(**parameters):
    return FineTuneClassifier(**{"max_epochs": 3, "lr": 1e-3, "random_state": 0, "head_init": "random", **parameters})


class Keep:
    """Keeps what it is given after each task."""

    def __init__(self):
        self.kept = []

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context): ...
    def on_fit_task_end(self, estimator, context, *, fitted_estimator, X, y):
        self.kept.append((context.task_name, fitted_estimator, len(X), len(y)))


@pytest.mark.filterwarnings("ignore:the training loss was:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("options", "X"),
    [
        ({}, IMAGES),
        ({"freeze_depth": "all"}, IMAGES),
        ({"backbone": BERT, "freeze_depth": 2}, TEXTS),
        ({"backbone": BERT, "freeze_depth": 2, "adapter": LoraConfig(r=2, target_modules="all-linear")}, TEXTS),
    ],
    ids=["images", "frozen", "texts", "adapter"],
)
def test_snapshot_predicts_as_a_training_that_ends_at_its_epoch(options, X):
    keep = Keep()
    options = {**options, "lr_schedule": "constant"}
    clf = quick(**options).set_callbacks(keep).fit(X, HARD)
    names, copies, *lengths = zip(*keep.kept)
    assert names[:3] == ("epoch",) * 3
    assert lengths == [(12,) * 4] * 2
    for n_epochs, copied in enumerate(copies[:3], start=1):
        short = quick(**{**options, "max_epochs": n_epochs}).fit(X, HARD)
        np.testing.assert_allclose(copied.predict_proba(X), short.predict_proba(X), atol=1e-5)
        assert copied.n_iter_ == len(copied.history_) == n_epochs
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(copied)).predict(X), copied.predict(X))
    assert np.abs(copies[0].predict_proba(X) - clf.predict_proba(X)).max() > 1e-4
    plain = quick(**options).fit(X, HARD)
    np.testing.assert_array_equal(clf.predict_proba(X), plain.predict_proba(X))  # looking on changes nothing


def test_set_callbacks_scoring_monitor_logs_weighted_scores_per_epoch():
    monitor = ScoringMonitor(scoring="accuracy")
    clf = quick().set_callbacks(monitor).fit(IMAGES, HARD, sample_weight=WEIGHT)
    log = monitor.get_logs().data_as_pandas
    assert log["task_name"].tolist().count("epoch") == clf.n_iter_ == 3
    expected = accuracy_score(HARD, clf.predict(IMAGES), sample_weight=WEIGHT)
    assert log[log["task_name"] == "epoch"]["accuracy"].iloc[-1] == pytest.approx(expected)
    assert log[log["task_name"] != "epoch"]["accuracy"].tolist() == [pytest.approx(expected)]


def test_set_callbacks_scoring_monitor_of_a_regressor_in_a_grid_search():
    monitor = ScoringMonitor(scoring="r2")
    tuner = FineTuneRegressor(max_epochs=2, random_state=0).set_callbacks(monitor)
    GridSearchCV(tuner, {"lr": [1e-3]}, cv=2).fit(IMAGES, np.arange(12.0))
    logs = monitor.get_logs(select="all")
    assert all(np.isfinite(log.data_as_pandas["r2"]).all() for log in logs)
