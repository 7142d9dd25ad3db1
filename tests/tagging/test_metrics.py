"""Scores of tags against recorded values of seqeval's strict mode, and in scikit-learn's searches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score

from sktransfer import (
    convert_scheme,
    span_f1_score,
    span_precision_score,
    span_recall_score,
    span_report,
    tag_accuracy_score,
)
from sktransfer.exceptions import InvalidParameterError, TargetWarning
from tests.helpers.tagged import random_tags

SCORES = (span_precision_score, span_recall_score, span_f1_score)
LETTERS = {"IOB2": "BI", "BIOES": "BIES", "BILOU": "BILU"}
# seqeval 1.2.2: precision_recall_fscore_support(true, predicted, average=average, scheme=scheme, zero_division=0)
RECORDED = {
    ("IOB2", 0): {
        "micro": (0.689655172, 0.909090909, 0.784313725),
        "macro": (0.678571429, 0.888888889, 0.768620269),
        "weighted": (0.685064935, 0.909090909, 0.78038628),
        None: ([0.571428571, 0.75, 0.714285714], [0.666666667, 1.0, 1.0], [0.615384615, 0.857142857, 0.833333333]),
    },
    ("IOB2", 1): {
        "micro": (0.714285714, 0.64516129, 0.677966102),
        "macro": (0.716883117, 0.645454545, 0.67486631),
        "weighted": (0.714285714, 0.64516129, 0.673624288),
        None: ([0.8, 0.636363636, 0.714285714], [0.8, 0.636363636, 0.5], [0.8, 0.636363636, 0.588235294]),
    },
    ("BIOES", 0): {
        "micro": (0.642857143, 0.642857143, 0.642857143),
        "macro": (0.740740741, 0.633333333, 0.655555556),
        "weighted": (0.69047619, 0.642857143, 0.635714286),
        None: ([0.555555556, 0.666666667, 1.0], [0.833333333, 0.4, 0.666666667], [0.666666667, 0.5, 0.8]),
    },
    ("BIOES", 1): {
        "micro": (0.473684211, 0.692307692, 0.5625),
        "macro": (0.476190476, 0.733333333, 0.570707071),
        "weighted": (0.472527473, 0.692307692, 0.555944056),
        None: ([0.5, 0.5, 0.428571429], [0.6, 1.0, 0.6], [0.545454545, 0.666666667, 0.5]),
    },
    ("BILOU", 0): {
        "micro": (0.642857143, 0.642857143, 0.642857143),
        "macro": (0.740740741, 0.633333333, 0.655555556),
        "weighted": (0.69047619, 0.642857143, 0.635714286),
        None: ([0.555555556, 0.666666667, 1.0], [0.833333333, 0.4, 0.666666667], [0.666666667, 0.5, 0.8]),
    },
    ("BILOU", 1): {
        "micro": (0.473684211, 0.692307692, 0.5625),
        "macro": (0.476190476, 0.733333333, 0.570707071),
        "weighted": (0.472527473, 0.692307692, 0.555944056),
        None: ([0.5, 0.5, 0.428571429], [0.6, 1.0, 0.6], [0.545454545, 0.666666667, 0.5]),
    },
}


@pytest.mark.parametrize(("scheme", "seed"), RECORDED)
def test_span_f1_score_equals_seqeval_strict(scheme, seed):
    true, predicted = random_tags(LETTERS[scheme], seed)
    for average, recorded in RECORDED[scheme, seed].items():
        found = [score(true, predicted, scheme=scheme, average=average, zero_division=0.0) for score in SCORES]
        np.testing.assert_allclose(found, recorded, atol=1e-9)


def test_span_f1_score_reads_spans_strictly():
    true = [["B-PER", "I-PER", "O"]]
    repaired = convert_scheme([["I-PER", "I-PER", "O"]], "IOB2", "IOB2", invalid="repair")
    assert span_f1_score(true, [["I-PER", "I-PER", "O"]]) == 0
    assert span_f1_score(true, repaired) == 1
    assert span_f1_score(true, [["B-LOC", "I-LOC", "O"]]) == 0
    assert span_f1_score(true, [["B-PER", "O", "O"]]) == 0


def test_span_f1_score_sample_weight():
    true, predicted = random_tags("BI", 2)
    repeats = np.arange(len(true)) % 3
    repeated = [[row for row, n in zip(rows, repeats, strict=True) for _ in range(n)] for rows in (true, predicted)]
    for average in ("micro", "macro", "weighted", None):
        found = span_f1_score(true, predicted, average=average, sample_weight=repeats)
        np.testing.assert_allclose(found, span_f1_score(*repeated, average=average), rtol=1e-12)


def test_span_f1_score_without_spans():
    nothing = [["O", "O"]]
    with pytest.warns(UndefinedMetricWarning, match="there are no true or predicted spans, so that F1 is not defined"):
        assert span_f1_score(nothing, nothing) == 0
    with pytest.warns(UndefinedMetricWarning, match="no predicted spans"):
        assert span_precision_score([["B-PER"]], [["O"]]) == 0
    for average in ("micro", "macro", "weighted"):
        assert span_f1_score(nothing, nothing, average=average, zero_division=1.0) == 1
        assert np.isnan(span_f1_score(nothing, nothing, average=average, zero_division=np.nan))
    assert span_f1_score(nothing, nothing, average=None, zero_division=0.0).shape == (0,)
    assert span_recall_score(nothing, [["B-PER", "O"]], zero_division=1.0) == 1


def test_span_report():
    true, predicted = random_tags("BI", 0)
    report = span_report(true, predicted)
    assert list(report.index) == ["LOC", "ORG", "PER", "micro avg", "macro avg", "weighted avg"]
    for row, average in (("micro avg", "micro"), ("macro avg", "macro"), ("weighted avg", "weighted")):
        expected = [score(true, predicted, average=average) for score in SCORES]
        assert report.loc[row, ["precision", "recall", "f1-score"]].tolist() == expected
    assert report["f1-score"].iloc[:3].tolist() == span_f1_score(true, predicted, average=None).tolist()
    assert report["support"].tolist() == [6.0, 6.0, 10.0, 22.0, 22.0, 22.0]


def test_tag_accuracy_score():
    true = [["A", "B", None], [], [1]]
    assert tag_accuracy_score(true, [["A", "A", "A"], [], [1]]) == pytest.approx(2 / 3)
    assert tag_accuracy_score(true, [["A", "A", "A"], [], [1]], sample_weight=[1, 5, 2]) == pytest.approx(3 / 4)
    assert tag_accuracy_score(pd.Series(true), [np.array(["A", "B", "C"]), (), np.array([2])]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no word whose tag is known"):
        tag_accuracy_score([[None]], [["A"]])


@pytest.mark.parametrize("score", [tag_accuracy_score, span_f1_score])
@pytest.mark.parametrize(
    ("true", "predicted", "options", "message"),
    [
        ([["O"]], [["O"], ["O"]], {}, "y_true has 1 sentences and y_pred has 2"),
        ([["O"], ["O", "O"]], [["O"], ["O"]], {}, r"y_true\[1\] has 2 tags and y_pred\[1\] has 1; give a tag per word"),
        (pd.Series({"a": ["O"]}), [[]], {}, r"y_true.iloc\[0\] \(index label 'a'\) has 1 tags"),
        ([["O"]], ["O"], {}, r"y_pred\[0\] is 'O', and must be a list of tags"),
        ([["O"]], [["O"]], {"sample_weight": [1, 2]}, "sample_weight has 2 values for 1 sentences"),
        ([["O"]], [["O"]], {"sample_weight": [-1]}, r"sample_weight\[0\] is -1.0, and must be finite"),
    ],
)
def test_scores_refuse(score, true, predicted, options, message):
    with pytest.raises(ValueError, match=message):
        score(true, predicted, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": "samples"}, "average='samples' must be one of .* or None"),
        ({"zero_division": 0.5}, "zero_division=0.5 must be one of 'warn', 0.0, 1.0 and nan"),
        ({"scheme": "BIO"}, "scheme='BIO' must be one of"),
    ],
)
def test_span_f1_score_refuses(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        span_f1_score([["O"]], [["O"]], **options)


def test_span_f1_score_refuses_tags_of_another_scheme():
    with pytest.raises(ValueError, match=r"y_pred\[0\], position 1: 'S-PER' is not a tag of IOB2"):
        span_f1_score([["O", "O"]], [["O", "S-PER"]])


@pytest.mark.parametrize("scheme", ["IO", "IOB1"])
def test_span_f1_score_scheme_warns_if_y_true_follows_another_one(scheme):
    y = convert_scheme([["B-PER", "O", "B-PER", "O"], ["B-LOC", "I-LOC", "B-LOC"]], "IOB2", scheme)
    assert span_f1_score(y, y, scheme=scheme) == 1
    with pytest.warns(TargetWarning, match=f"y_true follows the scheme {scheme}, .*scheme='IOB2', .*scheme='{scheme}'"):
        span_f1_score(y, y, zero_division=0.0)


class Echo(BaseEstimator):
    """Tagger that returns a tag per word: the word, or "O" if it is not known."""

    def __init__(self, known=("B-PER",)):
        self.known = known

    def fit(self, X, y, sample_weight=None):
        self.is_fitted_ = True
        return self

    def predict(self, X):
        return [[word if word in self.known else "O" for word in words] for words in X]


def test_span_f1_score_in_searches():
    X = y = [["B-PER", "O", "B-LOC"], ["B-LOC", "O"], ["B-PER"], ["B-LOC", "I-LOC"]]
    scoring = make_scorer(span_f1_score, scheme="IOB2", zero_division=0.0)
    grid = {"known": [("B-PER",), ("B-PER", "B-LOC", "I-LOC")]}
    search = GridSearchCV(
        Echo(), grid, scoring={"f1": scoring, "words": make_scorer(tag_accuracy_score)}, refit="f1", cv=2
    )
    search.fit(X, y)
    assert search.best_params_["known"] == grid["known"][1]
    assert search.best_score_ == search.cv_results_["mean_test_words"].max() == 1
    assert cross_val_score(Echo(), X, y, scoring=scoring, cv=2).tolist() == [0.5, pytest.approx(2 / 3)]
