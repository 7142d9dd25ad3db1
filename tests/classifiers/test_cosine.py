"""Decisions and probabilities from scaled cosines."""

from __future__ import annotations

import numpy as np
import pytest

from sktransfer.classifiers.cosine import CosineClassifier, check_scale, mean_direction
from sktransfer.exceptions import InvalidParameterError


class Scored(CosineClassifier):
    """Scores are X itself."""

    def __init__(self, classes):
        self.classes_ = np.array(classes)

    def _scores(self, X):
        return np.asarray(X, dtype=float)


def test_predict_proba_is_the_softmax_of_scores_and_agrees_with_predict():
    scores = [[1.0, 2.0, 0.0], [5.0, -1.0, 4.0]]
    clf = Scored(["a", "b", "c"])
    assert clf.predict(scores).tolist() == ["b", "a"]
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(clf.predict_proba(scores), expected)
    np.testing.assert_array_equal(clf.decision_function(scores), scores)
    assert clf.score(scores, ["b", "c"]) == 0.5


def test_decision_function_of_two_classes_is_positive_for_the_second():
    clf = Scored([7, 9])
    decisions = clf.decision_function([[1.0, 3.0], [2.0, 0.5]])
    assert decisions.tolist() == [2.0, -1.5]
    np.testing.assert_allclose(clf.predict_proba([[1.0, 3.0]])[:, 1], 1 / (1 + np.exp(-2.0)))
    assert clf.predict([[1.0, 3.0], [2.0, 0.5]]).tolist() == [9, 7]


def test_mean_direction_depends_on_weights_and_not_on_lengths():
    vectors = np.array([[100.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(mean_direction(vectors), [0.5**0.5, 0.5**0.5])
    np.testing.assert_allclose(mean_direction(vectors, np.array([3.0, 4.0])), [0.6, 0.8])


@pytest.mark.parametrize("scale", [0, -1.0, True, "much", float("inf"), float("nan"), None])
def test_check_scale_requires_a_positive_finite_number(scale):
    with pytest.raises(InvalidParameterError, match=r"scale=.* must be a number greater than 0"):
        check_scale(scale)
    assert check_scale(3) == 3.0
