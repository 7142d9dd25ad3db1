"""Character n-grams, their buckets and subword vectors."""

from __future__ import annotations

import fasttext
import numpy as np
import pytest

from sktransfer.words.subwords import Subwords, buckets, character_ngrams
from tests.helpers.word_files import fasttext_file

WORDS = ["cat", "größe", "東京", "a", "naïve𝄞", "x" * 300, "", "the"]


@pytest.mark.parametrize("sizes", [(1, 2), (2, 4)])
def test_buckets_equal_fasttext(sizes):
    model = fasttext.load_model(str(fasttext_file(*sizes)))
    n_words = len(model.get_words())
    hashed, lengths = buckets(WORDS, *sizes, 500)
    for word, ours in zip(WORDS, np.split(hashed, np.cumsum(lengths)[:-1])):
        _, ids = model.get_subwords(word)
        assert [int(row) - n_words for row in ids if row >= n_words] == ours.tolist(), word


@pytest.mark.parametrize("sizes", [(1, 3), (2, 4), (3, 6)])
def test_buckets_and_character_ngrams_agree(sizes):
    words = [word for word in WORDS if word != "x" * 300] + ["caf\udce9"]
    hashed, lengths = buckets(words, *sizes, 2**31)
    for word, ours in zip(words, np.split(hashed, np.cumsum(lengths)[:-1])):
        assert len(set(ours.tolist())) == len(character_ngrams(word, *sizes)), word


def test_buckets_hash_bytes_that_are_not_utf8():
    def fnv(content):
        code = 2166136261
        for byte in content:
            code = (code ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619 % 2**32
        return code

    word = b"caf\xe9\xe6\x9d\xb1"
    hashed, _ = buckets([word.decode("utf-8", "surrogateescape")], 7, 7, 2**31)
    assert hashed.tolist() == [fnv(b"<" + word + b">") % 2**31]


def test_character_ngrams_exclude_boundary_marks():
    assert character_ngrams("ab", 1, 1) == {"a", "b"}
    assert character_ngrams("ab", 4, 6) == {"<ab>"}
    assert character_ngrams("ab", 5, 6) == set()


def test_subwords_vectors_exclude_buckets_without_a_row():
    n_grams = buckets(["abc"], 3, 3, 10)[0]  # <ab abc bc>
    assert len(set(n_grams)) == 3
    slots = np.full(10, -1, np.int32)
    slots[n_grams[0]], slots[n_grams[2]] = 0, 1
    rows = np.array([[2.0], [4.0]], np.float32)
    assert Subwords(rows, 3, 3, 10, slots=slots).vectors(["abc"])[0, 0] == 3
    assert Subwords(rows, 3, 3, 10, slots=np.full(10, -1, np.int32)).vectors(["abc"])[0, 0] == 0


def test_subwords_vectors_of_no_words():
    assert Subwords(np.ones((10, 3), np.float32), 3, 6, 10).vectors([]).shape == (0, 3)
