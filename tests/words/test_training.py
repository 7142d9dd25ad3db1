"""Vectors trained by fastText: reproducible, in clean memory, and continued from others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sktransfer.exceptions import InvalidParameterError, InvalidSampleError, SktransferError
from sktransfer.words import training
from sktransfer.words.subwords import character_ngrams
from sktransfer.words.training import Training, train
from sktransfer.words.vectors import WordVectors
from tests.helpers.word_files import SENTENCES

DOCUMENTS = [sentence.split() for sentence in SENTENCES]
HOW = Training(
    n_dims=10, window=3, min_count=5, epochs=3, architecture="skipgram", min_n=3, max_n=5, n_threads=1, seed=1
)
PLAIN = replace(HOW, min_n=0, max_n=0)


@pytest.mark.parametrize("how", [HOW, PLAIN, replace(HOW, architecture="cbow")], ids=["subwords", "words", "cbow"])
def test_the_same_seed_gives_the_same_vectors(how):
    first = train(DOCUMENTS, how)
    second, other = train(DOCUMENTS, how), train(DOCUMENTS, replace(how, seed=2))
    assert first.words == second.words
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert np.abs(first.matrix - other.matrix).max() > 1e-3
    if first.subwords is not None:
        np.testing.assert_array_equal(first["catt"], second["catt"])


def test_vocabulary_is_what_occurs_often_enough():
    counted = [word for sentence in DOCUMENTS for word in sentence]
    trained = train([*DOCUMENTS, ["rare"] * 4], HOW)
    assert set(trained.words) == {word for word in counted if counted.count(word) >= 5}
    assert trained.words[0] == max(set(counted), key=counted.count)
    assert np.isfinite(trained.matrix).all()
    assert trained["horsess"].any()  # unknown, and built of parts
    assert train(DOCUMENTS, PLAIN).subwords is None


def topics(n=400):
    """Return documents of two topics, each with words of its own."""
    rng = np.random.default_rng(0)
    words = [[f"a{letter}" for letter in "bcdefghijklmnopqrstu"], [f"z{letter}" for letter in "bcdefghijklmnopqrstu"]]
    return words, [rng.choice(words[i % 2], 20).tolist() for i in range(n)]


def test_words_that_stand_together_come_near_each_other():
    _, documents = topics()
    trained = train(documents, replace(PLAIN, epochs=10))
    near = [word[0] for word, _ in trained.similar("ac", 10)]
    assert near.count("a") >= 9


@pytest.mark.parametrize("how", [HOW, PLAIN], ids=["subwords", "words"])
def test_continuing_starts_at_the_general_vectors_which_stay_near_and_new_words_come_among_them(how):
    words, documents = topics()
    directions = np.random.default_rng(0).normal(size=(2, 10)) * 2
    general = [word for topic in words for word in topic[1:]]  # "ab" and "zb" are new
    rows = [directions[int(word[0] == "z")] + np.random.default_rng(len(word)).normal(size=10) / 5 for word in general]
    start = WordVectors([*general, "elsewhere"], np.array([*rows, np.ones(10)], np.float32))
    untrained = train(documents, replace(how, epochs=0), start)
    atol = 0.05 if how.subwords else 0  # fastText's random numbers in a tenth of the rows
    for word in start.words:
        np.testing.assert_allclose(untrained[word], start[word], atol=atol)
    trained = train(documents, replace(how, epochs=10), start)
    moved = np.array([np.linalg.norm(trained[word] - start[word]) / np.linalg.norm(start[word]) for word in general])
    assert 1e-3 < np.median(moved) < 0.5
    np.testing.assert_array_equal(trained["elsewhere"], start["elsewhere"])
    for word, own, other in (("ab", 0, 1), ("zb", 1, 0)):
        cosines = trained[word] @ directions.T / np.linalg.norm(directions, axis=1) / np.linalg.norm(trained[word])
        assert cosines[own] > cosines[other] + 0.5


def test_unknown_words_lie_among_general_words_spelt_alike():
    words, documents = topics()
    directions = np.random.default_rng(0).normal(size=(2, 10)) * 2
    general = [word + ending for topic in words for word in topic for ending in ("", "ing")]
    start = WordVectors(general, np.array([directions[int(word[0] == "z")] for word in general], np.float32))
    trained = train([*documents, list(general) * 5], replace(HOW, min_n=2, max_n=3), start)
    for word, own in (("abxing", 0), ("zbxing", 1)):
        cosines = trained[word] @ directions.T / np.linalg.norm(directions, axis=1) / np.linalg.norm(trained[word])
        assert cosines[own] > 0.8


def test_continuing_from_vectors_of_another_length_is_refused():
    with pytest.raises(InvalidParameterError, match="vector_size=10"):
        train(DOCUMENTS, replace(HOW, n_dims=20), WordVectors(["the"], np.ones((1, 10), np.float32)))


def test_too_few_words_say_what_to_lower():
    with pytest.raises(InvalidParameterError, match=r"min_count=5 times in 1 texts \(the most frequent 2 times\)"):
        train([["a", "a", "b"]], HOW)
    with pytest.raises(InvalidParameterError, match="0 times"):
        train([[]], HOW)


def test_tokens_with_white_space_name_their_row():
    with pytest.raises(InvalidSampleError, match="row 1: the token 'new york'"):
        train([["a"] * 5, ["in", "new york"]], HOW)
    assert "caf\xa0é" in train([["caf\xa0é", "", "__label__x"] * 5], HOW)  # fastText does not split there


def test_half_characters_name_their_row():
    with pytest.raises(InvalidSampleError, match=r"row 1: .*surrogates.*half a character"):
        train([["a"] * 5, ["a\ud83d"]], HOW)
    assert "caf\udce9" in train([["caf\udce9"] * 5], HOW)  # a byte that was no UTF-8, as files of vectors have them


def test_labels_are_words_like_others():
    assert "__label__x" in train([["__label__x", "</s>"] * 5], HOW)


def test_there_are_as_many_buckets_as_n_grams():
    words = [f"word{i}" for i in range(500)]
    n_grams = {n_gram for word in words for n_gram in character_ngrams(word, 3, 5)}
    assert training._n_buckets(words, HOW) == len(n_grams)
    assert training._n_buckets(words, PLAIN) == 0
    assert training._n_buckets(["a"], replace(HOW, min_n=5)) == 1


def test_what_no_text_touches_starts_at_zero_or_at_small_random_numbers():
    trained = train(DOCUMENTS, replace(HOW, epochs=0))
    assert np.abs(trained.matrix).max() <= 0.1
    assert np.abs(trained.subwords.rows).max() <= 0.1


def test_a_training_that_fails_says_what_fasttext_says(monkeypatch):
    monkeypatch.setattr(training, "_LEARNING_RATE", 1e30)
    with pytest.raises(SktransferError, match=r"exit status 1\): Encountered NaN"):
        train(DOCUMENTS, HOW)


def test_dirty_memory_is_noticed():
    rows, used = np.zeros((10, 10), np.float32), np.zeros(10, bool)
    training._check_clean(rows, used, HOW)
    for dirt in (1.0, np.nan, -np.inf):
        rows[3, 3] = dirt
        with pytest.raises(SktransferError, match="memory that was not empty"):
            training._check_clean(rows, used, HOW)
    used[3], rows[3, 3] = True, 1.0
    training._check_clean(rows, used, HOW)
    for dirt in (-2e30, np.nan):  # what is trained may be of any size but this
        rows[3, 3] = dirt
        with pytest.raises(SktransferError, match="memory that was not empty"):
            training._check_clean(rows, used, HOW)


def test_tiny_matrices_start_empty_as_well():
    """Small pieces of memory are handed out by another part of the allocator."""
    for seed in range(1, 6):
        trained = train([["a", "b", "c"] * 5], replace(PLAIN, n_dims=8, epochs=1, seed=seed))
        assert np.abs(trained.matrix).max() < 1


def test_the_seed_also_draws_what_training_samples():
    start = train(DOCUMENTS, PLAIN)  # all words start here, so that nothing of the start is drawn
    one, other = (train(DOCUMENTS, replace(PLAIN, seed=seed), start) for seed in (1, 2))
    assert np.abs(one.matrix - other.matrix).max() > 1e-6


def test_documents_are_read_in_an_order_of_chance_that_the_seed_draws(tmp_path):
    """Class by class, one thread would learn the last class over the first."""
    path, documents = tmp_path / "texts.txt", [[f"word{row}", "und", "größer"] for row in range(50)]
    orders = []
    for seed in (0, 0, 1):
        _, lengths = training._write_texts(documents, path, 1)
        training._shuffle(path, lengths, seed)
        orders.append(path.read_text("utf-8").splitlines())
        assert sorted(orders[-1]) == sorted(map(" ".join, documents))
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != list(map(" ".join, documents)) != orders[0]
