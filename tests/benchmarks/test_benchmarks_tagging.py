"""Benchmark of tagging: its baselines, its scores, its picture."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from benchmarks import common
from benchmarks.accuracy import tagging
from benchmarks.accuracy.tagging import Tagged
from benchmarks.common import Report
from benchmarks.remembered import Remembered

TRAIN = Tagged(
    [["Anna", "visits", "New", "York"], ["Rome", "calls", "Anna"], ["she", "visits", "Rome"]],
    [["B-PER", "O", "B-LOC", "I-LOC"], ["B-LOC", "O", "B-PER"], ["O", "O", "B-LOC"]],
)
TEST = Tagged([["Anna", "visits", "Bergen"], ["York"]], [["B-PER", "O", "B-LOC"], ["B-LOC"]])


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    return tmp_path


def test_frequencies_predict_the_most_frequent_tag_of_each_word():
    prediction = tagging.frequencies(TRAIN, [*TEST.X, []], 0)
    assert tagging.tags_of(prediction) == [["B-PER", "O", "O"], ["I-LOC"], []]
    assert tagging.tags_of(prediction, "IOB2") == [["B-PER", "O", "O"], ["B-LOC"], []]
    assert tagging.span_scores(TEST.y, tagging.frequencies(TRAIN, TEST.X, 0)) == {
        "argmax": pytest.approx(0.5),
        "iob2": pytest.approx(0.8),
        "invalid": 0.5,
    }


def test_measure_tags_counts_unseen_words():
    assert tagging.measure_tags(tagging.frequencies, TRAIN, TEST, 0) == {"all": 0.5, "unseen": 0.0}


@pytest.mark.parametrize(
    "method", [tagging.hand_made, functools.partial(tagging.frozen, "tiny/bert", "layer1")], ids=["hand-made", "frozen"]
)
def test_methods_learn_the_training_sentences(method):
    classes, logs = method(TRAIN, TRAIN.X, 0)
    assert [one.shape for one in logs] == [(len(words), len(classes)) for words in TRAIN.X]
    assert tagging.tags_of((classes, logs)) == TRAIN.y


def test_tuned_gives_a_tag_per_word():
    _, logs = tagging.tuned("tiny/bert", TRAIN, [*TEST.X, []], 0)
    assert [one.shape for one in logs] == [(3, 4), (1, 4), (0, 4)]
    np.testing.assert_allclose(np.exp(np.concatenate(logs)).sum(1), 1, rtol=1e-5)


def test_word_features_name_the_neighbours():
    first, last = tagging.word_features(["New-Age", "3rd"])
    assert (first["word"], first["end2"], first["hyphen"], first["word+1"], first["first"]) == (
        "new-age",
        "ge",
        True,
        "3rd",
        True,
    )
    assert (last["digit"], last["word-1"], last["title-1"], "word+1" in last) == (True, "new-age", True, False)


def test_methods_and_draw(results, monkeypatch):
    monkeypatch.setattr(tagging, "NETWORKS", {"tiny/bert": lambda: "tiny/bert"})
    assert list(tagging.methods("frozen", 2)) == [
        f"tiny/bert frozen, {layer}" for layer in ("embeddings", "layer2", "layer4")
    ]
    monkeypatch.setattr(
        tagging, "ewt", lambda part: Tagged(*(rows * 5000 for rows in (TRAIN if part == "train" else TEST)))
    )
    asked = []

    def frozen(backbone, layer, train, X, seed):
        asked.append((layer, len(train.X), len(X)))
        return tagging.frequencies(train, X, seed)

    monkeypatch.setattr(tagging, "frozen", frozen)
    for _ in range(2):
        report = Report("tags", "tagging")
        tagging.measure_pos(report, Remembered("tagging"), ["frozen"], 1)
        tagging.draw(report, results / "tagging.png")
    assert asked == [(layer, 500, 300) for layer in tagging.layers("tiny/bert")]  # measured once
    assert [row["what"] for row in report.rows][-1].startswith("published, bert-base-uncased")
    assert (results / "tagging.png").stat().st_size > 5000
