"""Merged data sets in a joint training: scores, epochs of validation and `partial_fit`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from sktransfer import MultiTaskFineTuner, merge_tasks, task_scorer

RNG = np.random.RandomState(0)
DIGITS = RNG.randint(4, size=48).astype(str)
IMAGES = (DIGITS.astype(int) * 60 + RNG.randint(60, size=(8, 8, 48))).T.astype(np.uint8)  # brighter from digit to digit
REST = np.where(DIGITS[:12] < "2", DIGITS[:12], "rest")  # of the first data set, which names 0 and 1 only
X, Y = merge_tasks({"some": (list(IMAGES[:12]), REST), "all": (list(IMAGES[12:]), DIGITS[12:])}, task="digit")
KNOWN = {"some": ["0", "1", "rest"], "all": ["0", "1", "2", "3"]}


def tuner(**parameters):
    return MultiTaskFineTuner("tiny/cnn", freeze_depth="all", random_state=0, **{"max_epochs": 2} | parameters)


@pytest.fixture(scope="module")
def fitted():
    return tuner().fit(X, Y)


def limited(fitted, y=Y):
    """Return probabilities over the classes that the data set of each row knows."""
    known = np.array([np.isin(fitted.classes_[0], KNOWN[source]) for source, _ in y.index])
    probabilities = fitted.predict_proba(X)[0] * known
    return probabilities / probabilities.sum(1, keepdims=True)


def test_scores_are_among_the_classes_of_the_data_set(fitted):
    expected = fitted.classes_[0][limited(fitted).argmax(1)]
    assert set(expected[:12]) <= set(KNOWN["some"])
    assert fitted.scores(X, Y).digit == fitted.score(X, Y) == (expected == Y.digit).mean()
    assert set(fitted.predict(X).digit[:12]) - set(KNOWN["some"])  # predictions are among all classes
    assert fitted.score(X, Y) > fitted.score(X, Y.droplevel("merged_source"))


def test_scores_without_a_data_set_are_among_all_classes(fitted):
    plain = Y.reset_index(drop=True)
    assert fitted.score(X, plain) == (fitted.predict(X).digit == plain.digit).mean()
    assert fitted.score(X, Y.rename(index={"some": "new", "all": "other"}, level=0)) == fitted.score(X, plain)


def test_scores_count_a_class_that_the_data_set_lacks_as_a_mistake(fitted):
    y = Y.assign(digit=np.where(Y.digit == "rest", "2", Y.digit))
    kept = (Y.digit != "rest").to_numpy()
    expected = fitted.classes_[0][limited(fitted).argmax(1)]
    assert fitted.score(X, y) == ((expected == Y.digit) & kept).mean()


def test_task_scorer_is_among_the_classes_of_the_data_set(fitted):
    assert task_scorer("digit")(fitted, X, Y) == fitted.score(X, Y)
    assert task_scorer("digit", "accuracy")(fitted, X, Y) == fitted.score(X, Y)
    expected = -log_loss(Y.digit, limited(fitted), labels=fitted.classes_[0])
    assert task_scorer("digit", "neg_log_loss")(fitted, X, Y) == pytest.approx(expected)
    y = Y.copy()
    y.iloc[::3] = None
    assert task_scorer("digit")(fitted, X, y) == fitted.score(X, y)


@pytest.mark.parametrize("other", [{}, {"bright": IMAGES.mean((1, 2))}], ids=["one task", "two tasks"])
def test_history_scores_are_among_the_classes_of_the_data_set(other):
    y = Y.assign(**other)
    trained = tuner().fit(X, y, X_val=X, y_val=y)
    assert trained.history_["valid_acc_digit" if other else "valid_acc"].iloc[-1] == trained.scores(X, y).digit
    assert trained.scores(X, y).digit > trained.scores(X, y.droplevel("merged_source")).digit


def test_partial_fit_is_a_softmax_over_all_classes():
    def outputs(y):
        trained = tuner()
        for rows in (slice(0, 24), slice(24, 48)):
            trained.partial_fit(X[rows], y.iloc[rows], classes={"digit": sorted({*DIGITS, "rest"})})
        return trained.decision_function(X)[0]

    np.testing.assert_array_equal(outputs(Y), outputs(Y.droplevel("merged_source")))


def test_partial_fit_continues_the_classes_of_fit():
    trained = tuner().fit(X, Y)
    knows = trained._tasks["digit"].knows
    trained.partial_fit(X[:8], Y.iloc[:8])
    assert np.array_equal(trained._tasks["digit"].knows, knows)
    assert knows.tolist() == [[True] * 4 + [False], [True, True, False, False, True]]


def test_fit_with_another_level_is_fit_without():
    plain = Y.reset_index(drop=True)
    named = plain.set_index(pd.Index(["a", "b"] * 24, name="source"))
    assert np.array_equal(tuner().fit(X, named).predict_proba(X)[0], tuner().fit(X, plain).predict_proba(X)[0])
