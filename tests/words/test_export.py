from __future__ import annotations

import numpy as np
import pytest
from gensim.models import KeyedVectors

from sktransfer import WordEmbedder, load_vectors
from sktransfer.exceptions import InvalidParameterError, SaveError
from sktransfer.words import vectors as vectors_module
from sktransfer.words.vectors import WordVectors
from tests.helpers.saved_estimators import words
from tests.helpers.word_files import fasttext_file, quantized_file


@pytest.fixture
def hard(monkeypatch):
    """Values that need all digits, unusual words and a repeated one, written in several blocks."""
    monkeypatch.setattr(vectors_module, "_BLOCK", 7)
    matrix = np.random.default_rng(0).integers(0, 2**31 - 2**24, (20, 5), dtype=np.int32).view(np.float32)
    return WordVectors(["up", "Größe", "東京", "a\u00a0b", "up", *(f"w{i}" for i in range(15))], matrix)


def same(one, other):
    return list(one.words) == list(dict.fromkeys(other.words)) and all(
        np.array_equal(one[word], other[word]) for word in other.words
    )


def test_to_word2vec_is_read_back_equal(hard, tmp_path):
    hard.to_word2vec(tmp_path / "hard.vec")
    assert same(load_vectors(tmp_path / "hard.vec"), hard)
    keyed = KeyedVectors.load_word2vec_format(str(tmp_path / "hard.vec"))
    assert keyed.index_to_key == list(dict.fromkeys(hard.words))
    assert all(np.array_equal(keyed[word], hard[word]) for word in hard.words)


def test_to_gensim_is_equal(hard):
    keyed = hard.to_gensim()
    assert type(keyed) is KeyedVectors
    assert all(np.array_equal(keyed[word], hard[word]) for word in hard.words)
    assert same(load_vectors(keyed), hard)


@pytest.mark.parametrize("make", [words, lambda: WordEmbedder(load_vectors(fasttext_file())).fit(["a"])])
def test_to_word2vec_of_a_fitted_embedder(make, tmp_path):
    embedder = make()
    embedder.embedding_.to_word2vec(tmp_path / "words.vec")
    again = WordEmbedder(tmp_path / "words.vec", oov="skip").fit(["a"])
    assert again.vocabulary_ == embedder.vocabulary_
    assert np.array_equal(again.vectors_, embedder.vectors_)


def test_to_word2vec_of_quantized_vectors(tmp_path):
    quantized = load_vectors(quantized_file())
    quantized.to_word2vec(tmp_path / "words.vec")
    assert same(load_vectors(tmp_path / "words.vec"), quantized)


@pytest.mark.parametrize("word", ["New York", "", "a\tb", "a\n"])
def test_to_word2vec_refuses_words_with_blanks(word, tmp_path):
    (tmp_path / "old.vec").write_text("as before")
    with pytest.raises(InvalidParameterError, match="is empty or holds a blank"):
        WordVectors(["a", word], np.ones((2, 3), np.float32)).to_word2vec(tmp_path / "old.vec")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["as before"]


def test_to_word2vec_error_names_the_path(tmp_path):
    with pytest.raises(SaveError, match=r"path='.*none/words.vec' cannot be written"):
        WordVectors(["a"], np.ones((1, 3), np.float32)).to_word2vec(tmp_path / "none" / "words.vec")
