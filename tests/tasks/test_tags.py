"""Tags of words: targets, loss against numpy, vectors, and sequences that a scheme allows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.base import batch_targets
from sktransfer.tasks.tags import Tags, check_tag_types, word_values

FIRST, LAST = [np.array([1, 2, 4]), np.array([1])], [np.array([1, 3, 6]), np.array([2])]
TAGS = [["DET", "NOUN", "VERB"], ["NOUN"]]


def windows(tags=TAGS):
    """Two windows of three words and one word."""
    y = np.empty(len(tags), dtype=object)
    for row, some in enumerate(tags):
        y[row] = [FIRST[row], LAST[row], some]
    return y


def logits(n_classes=3):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(2, 8, n_classes)).astype(np.float32))


def log_probabilities(outputs, subword):
    """Log-probabilities of all four words, computed one by one."""
    rows = []
    for window, (first, last) in enumerate(zip(FIRST, LAST)):
        for start, stop in zip(first, last):
            part = {"first": slice(start, start + 1), "last": slice(stop, stop + 1), "mean": slice(start, stop + 1)}
            mean = outputs[window, part[subword]].double().mean(0).numpy()
            rows.append(mean - np.log(np.exp(mean).sum()))
    return np.array(rows)


def test_word_values_are_means_over_the_tokens_of_a_word():
    values = torch.arange(16.0).reshape(2, 4, 2)
    first, last = torch.tensor([[0, 1], [3, -100]]), torch.tensor([[0, 3], [3, -100]])
    read = word_values(values, first, last)
    np.testing.assert_allclose(read[0], [[0, 1], [4, 5]])
    np.testing.assert_allclose(read[1, 0], [14, 15])
    single = word_values(values, first, first)
    np.testing.assert_array_equal(single[0], [[0, 1], [2, 3]])


@pytest.mark.parametrize("subword", ["first", "last", "mean"])
def test_encode_subword_gives_tokens_and_tag_of_each_word(subword):
    task = Tags(subword)
    targets = task.encode(windows(), np.array([1.0, 3.0]))
    places = {"first": [[1, 1], [2, 2], [4, 4]], "last": [[1, 1], [3, 3], [6, 6]], "mean": [[1, 1], [2, 3], [4, 6]]}
    assert task.classes.tolist() == ["DET", "NOUN", "VERB"]
    assert targets.values[0].tolist() == [[*place, code] for place, code in zip(places[subword], [0, 1, 2])]
    np.testing.assert_allclose(targets.weight, [3, 3])  # weight of the sentence times its words


def test_encode_leaves_out_unknown_tags():
    task = Tags()
    targets = task.encode(windows([["DET", None, "VERB"], [None]]), np.ones(2))
    assert [row.tolist() for row in targets.values] == [[[1, 1, 0], [4, 6, 1]], []]
    np.testing.assert_allclose(targets.weight, [2, 0])


def test_encode_errors():
    with pytest.raises(ValueError, match="no tag that is known"):
        Tags().encode(windows([[None] * 3, [None]]), np.ones(2))
    with pytest.raises(ValueError, match="one class only, 'DET'"):
        Tags().encode(windows([["DET"] * 3, ["DET"]]), np.ones(2))
    task = Tags()
    task.encode(windows(), np.ones(2))
    with pytest.raises(ValueError, match=r"holds \['X'\].*\['DET', 'NOUN', 'VERB'\]"):
        task.encode(windows([["DET", "X", "VERB"], ["NOUN"]]), np.ones(2))


def test_encode_known_and_unknown_give_windows_without_weight():
    task = Tags()
    targets = task.encode_known(windows()[:1], np.array([False, True, False]), np.ones(3))
    np.testing.assert_allclose(targets.weight, [0, 3, 0])
    assert len(targets.take(np.array([1, 2])).values) == 2
    unknown = task.unknown(2)
    assert [len(row) for row in unknown.values] == [0, 0]
    assert not unknown.weight.any()


@pytest.mark.parametrize("subword", ["first", "last", "mean"])
def test_loss_is_the_mean_over_the_words_of_a_window(subword):
    task = Tags(subword)
    targets = task.encode(windows([["DET", "NOUN", None], ["NOUN"]]), np.ones(2))
    outputs = logits(2)
    losses = task.loss(outputs, batch_targets(targets.values, torch.tensor([0, 1])), None)
    expected = -log_probabilities(outputs, subword)[[0, 1, 3], [0, 1, 1]]
    np.testing.assert_allclose(losses, [expected[:2].mean(), expected[2]], rtol=1e-5)
    # With the weights of the windows, the loss of the batch is the mean over words.
    np.testing.assert_allclose(np.average(losses, weights=targets.weight), expected.mean(), rtol=1e-5)


def test_loss_label_smoothing():
    outputs, task = logits(), Tags(label_smoothing=0.3)
    targets = batch_targets(task.encode(windows(), np.ones(2)).values, torch.tensor([0, 1]))
    log_p = log_probabilities(outputs, "mean")
    expected = -(0.7 * log_p[np.arange(4), [0, 1, 2, 1]] + 0.3 * log_p.mean(1))
    np.testing.assert_allclose(task.loss(outputs, targets, None), [expected[:3].mean(), expected[3]], rtol=1e-5)


@pytest.mark.parametrize("class_weight", [{"DET": 2.0, "NOUN": 1.0, "VERB": 4.0}, "balanced"])
def test_class_weight_weighs_words(class_weight):
    outputs, task = logits(), Tags(class_weight=class_weight)
    targets = task.encode(windows(), np.ones(2))
    weight = np.array([2, 1, 4, 1]) if class_weight != "balanced" else np.array([4, 2, 4, 2]) / 3
    losses = task.loss(outputs, batch_targets(targets.values, torch.tensor([0, 1])), None)
    expected = -log_probabilities(outputs, "mean")[np.arange(4), [0, 1, 2, 1]]
    np.testing.assert_allclose(
        np.average(losses, weights=targets.weight), np.average(expected, weights=weight), rtol=1e-5
    )


def test_class_weight_of_zero_drops_words():
    targets = Tags(class_weight={"DET": 1, "NOUN": 0, "VERB": 1}).encode(windows(), np.ones(2))
    assert [row[:, 2].tolist() for row in targets.values] == [[0, 2], []]
    for wrong in ({"DET": -1.0}, [1, 2]):
        with pytest.raises(InvalidParameterError, match="class_weight="):
            Tags(class_weight=wrong).encode(windows(), np.ones(2))


def test_vectors_share_the_weight_of_their_window():
    task = Tags("mean", class_weight={"DET": 1, "NOUN": 1, "VERB": 2})
    targets = task.encode(windows(), np.ones(2))
    values = torch.arange(16.0).reshape(8, 2)
    vectors, codes, weights = task.vectors(values, targets.values[0], 8.0)
    np.testing.assert_allclose(vectors[:, 0], [2, 5, 10])
    assert codes.tolist() == [0, 1, 2]
    np.testing.assert_allclose(weights, [2, 2, 4])


def test_sample_rows_bounds_the_number_of_words():
    task = Tags()
    y = np.empty(200, dtype=object)
    for row in range(200):
        y[row] = [FIRST[0], LAST[0], TAGS[0]]
    targets = task.encode(y, np.r_[np.zeros(1), np.ones(199)])
    assert task.sample_rows(targets, 600).tolist() == list(range(1, 200))
    rows = task.sample_rows(targets, 30)
    assert len(rows) == 10
    assert (rows[0], rows[-1]) == (1, 199)


def test_scored_leaves_out_padding():
    task = Tags("mean")
    targets = task.encode(windows(), np.ones(2))
    outputs = logits()
    scored, codes = task.scored(outputs.numpy(), batch_targets(targets.values, torch.tensor([0, 1])).numpy())
    assert codes.tolist() == [0, 1, 2, 1]
    log_p = scored - np.log(np.exp(scored).sum(1, keepdims=True))
    np.testing.assert_allclose(log_p, log_probabilities(outputs, "mean"), atol=1e-5)


def test_strata_are_the_tags_of_a_window():
    task = Tags()
    strata = task.strata(task.encode(windows(), np.array([1.0, 0.0])))
    assert strata.tolist() == [[True, True, True], [False, False, False]]


def test_decode_sequences_scheme_allows_no_broken_span():
    outputs = [np.array([[1.0, 3.0, 2.0], [0.0, 4.0, 1.0]]), np.empty((0, 3))]
    task = Tags()
    task.classes = np.array(["B-LOC", "I-LOC", "O"])
    assert task.decode_sequences(outputs) == [["I-LOC", "I-LOC"], []]
    task.scheme = "IOB2"
    assert task.decode_sequences(outputs) == [["B-LOC", "I-LOC"], []]


def test_check_tag_types_names_row_and_position():
    check_tag_types([["DET", None], ["NOUN"]])
    check_tag_types([[1, np.int64(2)]])
    with pytest.raises(ValueError, match=r"y\[1\], position 1: the tag is -100, .*give None"):
        check_tag_types([[1], [2, -100]])
    with pytest.raises(ValueError, match=r"y\[1\], position 0: the tag 0.5 is a float; tags are str or int"):
        check_tag_types([["DET"], [0.5]])
    with pytest.raises(ValueError, match=r"index label 'b'.* position 1: the tag 3 is a int, and earlier tags are str"):
        check_tag_types([["DET"], ["NOUN", 3]], pd.Index(["a", "b"]))
