"""`WordVectors`: lookup, neighbours, sharing and pickling."""

from __future__ import annotations

import pickle
import unicodedata

import numpy as np
import pytest
from sklearn.base import clone

from sktransfer import WordEmbedder
from sktransfer.exceptions import InvalidParameterError
from sktransfer.words.subwords import Subwords
from sktransfer.words.vectors import WordVectors
from tests.helpers.word_files import keyed_vectors

WORDS = ["man", "king", "woman", "queen", "stone"]
ROWS = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 2, 2], [-1, -1, 0]], np.float32)


def test_getitem_returns_vectors_and_suggests_near_names():
    vectors = WordVectors(WORDS, ROWS)
    assert len(vectors) == 5
    assert "king" in vectors
    np.testing.assert_array_equal(vectors["stone"], ROWS[4])
    with pytest.raises(KeyError, match=r"'kingg' is not among the 5 words\. Did you mean 'king'"):
        vectors["kingg"]


def test_index_of_a_repeated_word_is_its_first_row():
    assert WordVectors(["a", "b", "a"], ROWS[:3]).index == {"a": 0, "b": 1}


@pytest.mark.parametrize("given", ["NFC", "NFD"])
@pytest.mark.parametrize("listed", ["NFC", "NFD"])
def test_row_of_reads_composed_and_decomposed_words(listed, given):
    vectors = WordVectors([unicodedata.normalize(listed, word) for word in ("crème", "café", "the")], ROWS[:3])
    word = unicodedata.normalize(given, "café")
    assert vectors.row_of(word) == 1
    assert word in vectors
    assert vectors.row_of("cafe") is None
    np.testing.assert_array_equal(vectors[word], ROWS[1])
    assert [near for near, _ in vectors.similar(word)] == [vectors.words[0], vectors.words[2]]


def test_row_of_prefers_a_word_as_it_is_written():
    both = [unicodedata.normalize(form, "café") for form in ("NFD", "NFC")]
    assert [WordVectors(both, ROWS[:2]).row_of(word) for word in both] == [0, 1]


def test_getitem_builds_unknown_words_from_subwords():
    vectors = WordVectors(WORDS, ROWS, subwords=Subwords(np.ones((10, 3), np.float32), 3, 3, 10))
    np.testing.assert_array_equal(vectors["kingg"], [1, 1, 1])
    with pytest.raises(KeyError):
        WordVectors(WORDS, ROWS, subwords=Subwords(np.ones((10, 3), np.float32), 5, 5, 10))["ab"]  # "<ab>" is too short


def test_similar_and_analogy_equal_gensim():
    keyed = keyed_vectors()
    vectors = WordVectors(keyed.index_to_key, keyed.vectors)
    for ours, theirs in (
        (vectors.similar("w3", 7), keyed.most_similar("w3", topn=7)),
        (vectors.analogy("w1", "w2", "w3", 4), keyed.most_similar(positive=["w2", "w3"], negative=["w1"], topn=4)),
    ):
        assert [word for word, _ in ours] == [word for word, _ in theirs]
        np.testing.assert_allclose([cosine for _, cosine in ours], [cosine for _, cosine in theirs], atol=1e-6)


def test_analogy_and_similar_exclude_the_query():
    assert WordVectors(WORDS, ROWS).analogy("man", "king", "woman")[0][0] == "queen"
    assert len(WordVectors(WORDS, ROWS).similar("man", 100)) == 4


def test_similar_does_not_depend_on_block_size(monkeypatch):
    keyed = keyed_vectors()
    expected = WordVectors(keyed.index_to_key, keyed.vectors).similar("w3", 40)
    monkeypatch.setattr("sktransfer.words.vectors._BLOCK", 7)
    assert [word for word, _ in WordVectors(keyed.index_to_key, keyed.vectors).similar("w3", 40)] == [
        word for word, _ in expected
    ]


def test_similar_rejects_a_word_without_a_vector():
    with pytest.raises(InvalidParameterError, match="'nonsense' is not among"):
        WordVectors(WORDS, ROWS).similar("nonsense")


def test_clone_shares_read_only_vectors():
    vectors = WordVectors(WORDS, ROWS.copy())
    assert clone(WordEmbedder(vectors)).model is vectors
    with pytest.raises(ValueError, match="read-only"):
        vectors.matrix[0] = 0


def test_pickle_holds_vectors_without_a_source():
    vectors = WordVectors(WORDS, ROWS, subwords=Subwords(np.ones((10, 3), np.float32), 3, 3, 10))
    back = pickle.loads(pickle.dumps(vectors))
    assert back.index == vectors.index
    np.testing.assert_array_equal(back.matrix, ROWS)
    np.testing.assert_array_equal(back["kingg"], vectors["kingg"])
