"""Windows of sentences, and the place at which each word is read."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from sktransfer import TokenFeaturizer, load_backbone
from sktransfer.exceptions import InvalidParameterError, UnknownWordsWarning
from sktransfer.sentences.checks import check_sentences
from sktransfer.sentences.windows import read_sentences, window_bounds
from tests.helpers.small_bert import small_bert

BERT = "hf/" + small_bert()


def random_words(rng, n):
    """Return words of letters, marks, controls, emoji, lone surrogates and blanks, some of them empty."""
    ranges = [(32, 127), (0x300, 0x370), (0x600, 0x700), (0x2000, 0x2070), (0xD800, 0xE000), (0x1F600, 0x1F650)]
    return ["".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(5))) for _ in range(n)]


def distances(starts, bounds):
    """Return the distance of each word from the nearest border, by its window."""
    n_words = len(starts) - 1
    found = []
    for begin, end in bounds:
        left = [starts[word] - starts[begin] if begin else np.inf for word in range(n_words)]
        right = [starts[end] - starts[word + 1] if end < n_words else np.inf for word in range(n_words)]
        inside = [begin <= word < end for word in range(n_words)]
        found.append([min(one, other) if held else -1 for one, other, held in zip(left, right, inside)])
    return np.array(found)  # (n_windows, n_words)


@pytest.mark.parametrize("seed", range(20))
def test_window_bounds_hold_each_word_whole(seed):
    rng = np.random.default_rng(seed)
    room = int(rng.integers(1, 30))
    sizes = rng.integers(1, room + 1 if seed % 2 else min(4, room) + 1, size=60)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    bounds = window_bounds(starts, room)
    begins, ends = np.array(bounds).T
    assert begins[0] == 0
    assert ends[-1] == 60
    assert (starts[ends] - starts[begins] <= room).all()
    assert (np.diff(begins) > 0).all()
    assert (np.diff(ends) > 0).all()
    assert (begins[1:] <= ends[:-1]).all()
    if room >= 16 and not seed % 2:  # words of ordinary length are read with context
        assert distances(starts, bounds).max(0).min() >= room // 8 - 4


def test_read_sentences_reads_words_farthest_from_a_border():
    words = ["a"] * 60
    windows = read_sentences(check_sentences([words]), load_backbone(BERT)).samples
    pieces = load_backbone(BERT).preprocess.word_pieces(words)
    bounds = window_bounds(pieces.starts, 22)
    assert len(windows) == len(bounds) > 2
    expected = distances(pieces.starts, bounds)
    chosen = expected[windows.window, np.arange(60)]
    np.testing.assert_array_equal(chosen, expected.max(0))


def test_read_sentences_gives_the_tokens_of_each_word():
    backbone = load_backbone(BERT)
    words = ["the", "unfilmable", "", "film", "\u200e", "is", "good"] * 9
    windows = read_sentences(check_sentences([[], words, ["good"]]), backbone).samples
    tokenizer = backbone.preprocess._tokenizer
    assert windows.n_words.tolist() == [0, 63, 1]
    assert windows.offsets.tolist() == [0, 0, 63, 64]
    assert windows.sentence[windows.window].tolist() == [1] * 63 + [2]
    unknown = tokenizer.token_to_id("[UNK]")
    for number, word in enumerate([*words, "good"]):
        ids = windows.load(int(windows.window[number])).ids
        found = ids[windows.first[number] : windows.last[number] + 1].tolist()
        assert found == (tokenizer.encode(word, add_special_tokens=False).ids or [unknown]), word
    read = np.concatenate([windows.words_of(row) for row in range(len(windows))])
    assert sorted(read.tolist()) == list(range(64))
    assert all((windows.window[windows.words_of(row)] == row).all() for row in range(len(windows)))


def test_read_sentences_fits_windows_to_max_length():
    rng = random.Random(0)
    sentences = check_sentences([random_words(rng, rng.randrange(40)) for _ in range(50)])
    for max_length in (3, 4, 7, 24):
        windows = read_sentences(sentences, load_backbone(BERT, max_length=max_length)).samples
        assert all(len(windows.load(row).ids) <= max_length for row in range(len(windows)))
        assert len(windows.window) == sentences.n_words.sum()
        lengths = np.array([len(windows.load(row).ids) for row in range(len(windows))])
        assert (windows.first <= windows.last).all()
        assert (windows.last < lengths[windows.window] - 1).all()  # before the closing token
        assert (windows.first >= 1).all()


def test_read_sentences_cuts_a_word_of_more_pieces_than_a_window():
    windows = read_sentences(check_sentences([["good", "x" * 90, "film"]]), load_backbone(BERT, max_length=6)).samples
    long = int(windows.window[1])
    assert len(windows.load(long).ids) <= 6
    assert windows.first[1] <= windows.last[1]
    assert len(set(windows.window.tolist())) == len(windows)


def test_windows_of_a_sentence_equal_sentences_of_their_words():
    words = ("a good film is not a bad film and it is good " * 9).split()
    pieces = load_backbone(BERT).preprocess.word_pieces(words)
    bounds = window_bounds(pieces.starts, 22)
    featurizer = TokenFeaturizer(BERT, layer=-1, cache=None).fit([words])
    (whole,) = featurizer.transform([words])
    parts = featurizer.transform([words[begin:end] for begin, end in bounds])
    windows = read_sentences(check_sentences([words]), load_backbone(BERT)).samples
    expected = [parts[window][word - bounds[window][0]] for word, window in enumerate(windows.window)]
    np.testing.assert_array_equal(whole, expected)


def test_read_sentences_keeps_the_preprocessing_of_the_backbone():
    backbone = load_backbone(BERT)
    inputs = read_sentences(check_sentences([["good", "film"]]), backbone)
    (ids,) = inputs.tensors([0])
    assert torch.equal(ids, backbone.preprocess(["good film"])[0])
    assert inputs.preprocess.key == backbone.preprocess.key


def test_read_sentences_refuses_a_preprocessing_without_words():
    class Prompted:
        limit = 9

    class Other:
        name, preprocess = "mine/prompted", Prompted()

    with pytest.raises(InvalidParameterError, match=r"mine/prompted.*use the backbone without a prompt"):
        read_sentences(check_sentences([["good"]]), Other())


def test_transform_warns_of_sentences_in_another_script():
    featurizer = TokenFeaturizer(layer=0, cache=None).fit([["good"]])
    with pytest.warns(UnknownWordsWarning, match="1 of 3"):
        featurizer.transform([["ภาพ", "ดี"], ["good"], [""]])
