"""`split_words` and `check_documents`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator

from sktransfer.exceptions import InvalidParameterError, InvalidSampleError
from sktransfer.words.tokenizing import check_documents, split_words


class Anything:
    pass


def check(X, tokenizer=None, lowercase=True):
    return check_documents(Anything(), X, tokenizer=tokenizer, lowercase=lowercase, reset=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's good!", ["It", "'s", "good"]),
        ("don't", ["do", "n't"]),
        ("DON'T you'll", ["DO", "N'T", "you", "'ll"]),
        ("can’t", ["ca", "n't"]),  # noqa: RUF001
        ("rock'n'roll 'quoted'", ["rock", "n", "roll", "quoted"]),
        ("größe 東京 naïve", ["größe", "東京", "naïve"]),
        ("  ...  ", []),
        ("does n't it 's", ["does", "n't", "it", "'s"]),  # already split text is unchanged
    ],
)
def test_split_words_splits_as_glove(text, words):
    assert split_words(text) == words


def test_check_documents_accepts_texts_and_token_lists_together():
    X = ["A Good film", ["A", "Bad film"], ("One",), np.array(["Two", "three"]), pd.Series(["Four"])]
    assert list(check(X)) == [["a", "good", "film"], ["a", "bad film"], ["one"], ["two", "three"], ["four"]]
    assert list(check(X, lowercase=False))[1] == ["A", "Bad film"]


@pytest.mark.parametrize("lists", [pd.Series([["a", "b"], ["c"]]), pl.Series([["a", "b"], ["c"]]), [["a", "b"], ["c"]]])
def test_check_documents_accepts_columns_of_lists(lists):
    assert list(check(lists)) == [["a", "b"], ["c"]]


def test_documents_can_be_iterated_twice():
    documents = check(["a b", "c"])
    assert list(documents) == list(documents)
    assert len(documents) == 2


def test_check_documents_with_a_custom_tokenizer():
    assert list(check(["a-b"], tokenizer=lambda text: text.split("-"))) == [["a", "b"]]
    with pytest.raises(InvalidParameterError, match="tokenizer='words' must be a function"):
        check(["a"], tokenizer="words")
    with pytest.raises(InvalidSampleError, match=r"row 0: the tokenizer returned \[1\]"):
        list(check(["a"], tokenizer=lambda text: [len(text)]))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (["a", None], r"row 1: the text is missing"),
        (["a", ["b"], ["c", None]], r"row 2: token 1 is missing"),
        ([["a", 3]], r"row 0: token 1 is 3"),
        (["a", 3], r"row 1: 3 is a int"),
        (["a", b"c"], r"row 1: b'c' is a bytes"),
    ],
)
def test_check_documents_names_the_row_of_invalid_samples(X, message):
    with pytest.raises(InvalidSampleError, match=message):
        check(X)


def test_documents_blocks_hold_whole_documents_in_order():
    documents = check([["a"] * n for n in (3, 0, 5, 1, 1, 1)])
    blocks = list(documents.blocks(4))
    assert [start for start, _ in blocks] == [0, 1, 3, 5]
    assert [tokens for _, block in blocks for tokens in block] == list(documents)
    assert list(check([""]).blocks(4)) == [(0, [[]])]


@pytest.mark.parametrize("value", [{"a": 1}, bytearray(b"ab")])
def test_check_documents_rejects_mappings_and_bytearrays(value):
    with pytest.raises(InvalidSampleError, match=f"row 1: .* is a {type(value).__name__}, not a str"):
        check_documents(BaseEstimator(), [["a"], value], tokenizer=None, lowercase=True, reset=True)
