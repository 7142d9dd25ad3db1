"""Validation of sentences and of values per word."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sktransfer import TokenFeaturizer
from sktransfer.exceptions import InvalidSampleError
from sktransfer.sentences.checks import check_sentences, check_word_values

ROWS = [["EU", "rejects"], [], ["Peter", "", "\u200e"]]


def objects(rows, cells=list):
    array = np.empty(len(rows), object)
    array[:] = [cells(row) for row in rows]
    return array


@pytest.mark.parametrize(
    "X",
    [
        ROWS,
        tuple(map(tuple, ROWS)),
        objects(ROWS),
        objects(ROWS, np.array),
        pd.Series(ROWS),
        pd.DataFrame({"words": ROWS}),
        pl.Series("words", ROWS),
        pl.DataFrame({"words": ROWS}),
    ],
    ids=["list", "tuple", "array", "arrays", "Series", "DataFrame", "polars Series", "polars DataFrame"],
)
def test_check_sentences_takes_containers(X):
    sentences = check_sentences(X)
    assert [sentences.load(row) for row in range(3)] == [("EU", "rejects"), (), ("Peter", "", "\u200e")]
    assert sentences.n_words.tolist() == [2, 0, 3]
    assert all(type(word) is str for word in sentences.load(0))


def test_check_sentences_key_tells_words_apart():
    sentences = check_sentences([["a b"], ["a", "b"], ["a", "b"]])
    assert sentences.key(0) != sentences.key(1) == sentences.key(2)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("EU rejects", r"X is one str, 'EU rejects', .* \[X.split\(\)\]"),
        (np.array([["EU", "rejects"], ["Peter", ""]]), r"array of shape \(2, 2\).*\[list\(x\) for x in X\]"),
        ([], "0 sample"),
        (pd.DataFrame({"words": ROWS, "tags": ROWS}), "2 columns"),
    ],
    ids=["str", "padded", "empty", "frame"],
)
def test_check_sentences_refuses_other_containers(X, message):
    with pytest.raises(ValueError, match=message):
        check_sentences(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (["EU rejects it", "b"], r"row 0: 'EU rejects it' is a str.*split it into words, \[x.split\(\) for x in X\]"),
        (["EU", "rejects"], r"row 0: 'EU' is a str.*if X is one sentence, pass \[X\]"),
        ([["a"], None], r"row 1: the sentence is missing \(None\). Pass an empty list"),
        ([["a"], 5], "row 1: 5 is a int, and a sentence is a list of words"),
        ([["a"], {"b": 1}], "row 1: .* is a dict"),
        ([["a", None]], r"row 0: word 1 is missing \(None\). Pass an empty str"),
        ([["a"], ["b", 7]], r"row 1: word 1, 7, is a int, not a str: pass \[\[str\(word\)"),
        ([["a"], ["b", b"7"]], r"row 1: word 1, b'7', is a bytes, not a str: pass \[\[word\.decode\(\)"),
        ([[("EU", "NNP")]], r"row 0: word 0, \('EU', 'NNP'\), is a tuple.*word\[0\]"),
        (pd.Series([["a"], [None]], index=["x", "y"]), r"row 1 \(index label 'y'\): word 0 is missing"),
    ],
    ids=["text", "words", "missing", "number", "dict", "missing word", "number as word", "bytes", "pair", "label"],
)
def test_check_sentences_names_the_row(X, message):
    with pytest.raises(InvalidSampleError, match=message):
        check_sentences(X)


def test_check_sentences_compares_columns():
    featurizer = TokenFeaturizer(layer=0).fit(pd.DataFrame({"words": ROWS}))
    assert featurizer.feature_names_in_.tolist() == ["words"]
    with pytest.raises(ValueError, match="feature names"):
        featurizer.transform(pd.DataFrame({"tokens": ROWS}))


@pytest.mark.parametrize(
    "y",
    [[["O", "O"], [], ["P", None, 3]], objects([["O", "O"], [], ["P", None, 3]]), pl.Series([[1, 2], [], [3, 4, 5]])],
    ids=["list", "array", "polars Series"],
)
def test_check_word_values_takes_containers(y):
    values = check_word_values(y, [2, 0, 3])
    assert [len(one) for one in values] == [2, 0, 3]
    assert all(type(one) is list for one in values)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([["O", "O", "O"], []], "row 0: y has 3 values, and X has 2 words"),
        ([["O", "O"], ["O"]], "row 1: y has 1 value, and X has 0 words"),
        ([["O", "O"]], "y has 1 sentences, and X has 2"),
        (
            np.array([["O", "O"], ["", ""]]),
            r"array of shape \(2, 2\).*without padding, \[list\(tags\[:len\(words\)\]\)",
        ),
        (["OO", []], "row 0: 'OO' in y is a str; give a list with one value per word"),
        (pd.Series([["O", "O"], ["O"]], index=["x", "y"]), r"row 1 \(index label 'y'\): y has 1 value"),
    ],
    ids=["longer", "shorter", "rows", "padded", "str", "label"],
)
def test_check_word_values_names_row_and_lengths(y, message):
    with pytest.raises(ValueError, match=message):
        check_word_values(y, [2, 0])
