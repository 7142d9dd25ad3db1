"""Schemes: conversion against spans, tags that break a scheme, messages."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sktransfer import convert_scheme, find_invalid_tags, find_spans, span_f1_score
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tagging.schemes import SCHEMES, guess_scheme
from tests.helpers.tagged import random_tags

SENTENCE = {  # one PER of three words, two LOC of one word side by side, a word outside, an ORG of two
    "IO": "I-PER I-PER I-PER I-LOC I-LOC O I-ORG I-ORG",
    "IOB1": "I-PER I-PER I-PER I-LOC B-LOC O I-ORG I-ORG",
    "IOB2": "B-PER I-PER I-PER B-LOC B-LOC O B-ORG I-ORG",
    "BIOES": "B-PER I-PER E-PER S-LOC S-LOC O B-ORG E-ORG",
    "BILOU": "B-PER I-PER L-PER U-LOC U-LOC O B-ORG L-ORG",
}
SPANS = [(0, 3, "PER"), (3, 4, "LOC"), (4, 5, "LOC"), (6, 8, "ORG")]


@pytest.mark.parametrize("from_scheme", SENTENCE)
@pytest.mark.parametrize("to_scheme", SENTENCE)
def test_convert_scheme(from_scheme, to_scheme):
    converted = convert_scheme([SENTENCE[from_scheme].split(), []], from_scheme, to_scheme)
    if from_scheme == "IO" != to_scheme:  # the two places are one span
        assert find_spans(converted, to_scheme)[0] == [(0, 3, "PER"), (3, 5, "LOC"), (6, 8, "ORG")]
    else:
        assert converted == [SENTENCE[to_scheme].split(), []]


@pytest.mark.parametrize("scheme", list(SENTENCE)[1:])
def test_find_spans(scheme):
    assert find_spans([SENTENCE[scheme].split()], scheme) == [SPANS]


def test_find_spans_leaves_out_spans_that_break_the_scheme():
    assert find_spans([["O", "I-PER", "B-LOC", "I-PER", "I-LOC"]]) == [[(2, 3, "LOC")]]
    assert find_spans([["B-PER", "O", "E-LOC", "B-ORG", "E-ORG", "I-ORG"]], "BIOES") == [[(3, 5, "ORG")]]


@pytest.mark.parametrize("scheme", SENTENCE)
def test_find_invalid_tags_is_empty_exactly_if_spans_write_the_same_tags(scheme):
    letters = sorted(set(SCHEMES[scheme].first + SCHEMES[scheme].inside + SCHEMES[scheme].adjacent))
    tags = ["O"] + [f"{letter}-{kind}" for letter in letters for kind in "XY"]
    rows = [list(row) for row in itertools.product(tags, repeat=3)]
    invalid = set(find_invalid_tags(rows, scheme)["row"])
    repaired = convert_scheme(rows, scheme, scheme, invalid="repair")
    assert invalid == {row for row, (one, other) in enumerate(zip(rows, repaired, strict=True)) if one != other}
    assert find_invalid_tags(repaired, scheme).empty


def test_find_invalid_tags_names_row_position_and_reason():
    y = pd.Series([["O", "O"], ["I-PER", "B-PER"], ["B-PER", None, "I-LOC", "X"]], index=[7, 8, 9])
    assert find_invalid_tags(y).to_numpy().tolist() == [
        [1, 0, "I-PER", "begins a sentence", 8],
        [2, 3, "X", "is not a tag of IOB2", 9],
    ]
    assert find_invalid_tags([["O", "B-PER"]], "BIOES").to_numpy().tolist() == [[0, 1, "B-PER", "ends a sentence"]]


def test_convert_scheme_invalid():
    tags = [["O"], ["O", "I-PER", "I-PER", "I-LOC"]]
    with pytest.raises(ValueError, match=r"^y\[1\], position 1: 'I-PER' follows the tag O, which IOB2 does not allow"):
        convert_scheme(tags, "IOB2", "BIOES")
    assert convert_scheme(tags, "IOB2", "BIOES", invalid="repair")[1] == ["O", "B-PER", "E-PER", "S-LOC"]
    with pytest.raises(InvalidParameterError, match="invalid='keep' must be one of"):
        convert_scheme(tags, "IOB2", "BIOES", invalid="keep")


def test_convert_scheme_reads_bare_types():
    assert convert_scheme([["person", "person", "O"]], "IO", "IOB2") == [["B-person", "I-person", "O"]]
    assert convert_scheme([["B", "I", "O", "B"]], "IOB2", "BIOES") == [["B", "E", "O", "S"]]


@pytest.mark.parametrize(
    ("y", "scheme", "message"),
    [
        ([["O"], ["O", "S-PER"]], "IOB2", r"y\[1\], position 1: 'S-PER' is not a tag of IOB2, .*; it is one of BIOES"),
        ([["NOUN"]], "IOB2", r"y\[0\], position 0: 'NOUN' is not a tag of IOB2, which has O B-<type> I-<type>"),
        ([["B-PER"]], "IO", "'B-PER' is not a tag of IO"),
        ([["O", None]], "IOB2", r"y\[0\], position 1: the tag is not known"),
        ([["O", 3]], "IOB2", "3 is not a tag of IOB2"),
        (["B-PER", "O"], "IOB2", r"y\[0\] is 'B-PER', and must be a list of tags, one per word; .* pass \[y\]"),
        ("B-PER", "IOB2", "y is a str, and must be a list with a list of tags per sentence"),
        (pd.DataFrame({"t": [["O"]], "n": 1}), "IOB2", r"y is a DataFrame.*pass one of its columns, y\['t'\]"),
        (["B-PER O"], "IOB2", r"y\[0\] is 'B-PER O'.*sentences as str \[one.split\(\) for one in y\]"),
        (np.array([["O", "O"]]), "IOB2", r"y is an array of shape \(1, 2\).*pass y.tolist\(\) if no row is padded"),
        ([[["O"]]], "IOB2", r"y\[0\], position 0: \['O'\] is not a tag"),
        ([["O"]], "iobes", "scheme='IOBES' must be one of"),
    ],
)
def test_find_spans_refuses(y, scheme, message):
    with pytest.raises(ValueError, match=message):
        find_spans(y, scheme)


def test_find_spans_names_the_label_of_a_row():
    with pytest.raises(ValueError, match=r"y.iloc\[1\] \(index label 'b'\), position 0: 'X' is not a tag"):
        find_spans(pd.Series({"a": ["O"], "b": ["X"]}))


def test_find_spans_of_arrays_and_tuples():
    rows = np.empty(2, dtype=object)
    rows[:] = [np.array(["B-PER", "I-PER"]), ("O",)]
    assert find_spans(rows) == [[(0, 2, "PER")], []]


@pytest.mark.parametrize(
    "container",
    [pa.array, lambda rows: pa.chunked_array([rows]), pl.Series, lambda rows: pd.DataFrame({"tags": rows})],
    ids=["pyarrow", "chunks", "polars", "frame"],
)
def test_find_spans_takes_containers(container):
    assert find_spans(container([["B-PER", "I-PER"], ["O"]])) == [[(0, 2, "PER")], []]


@pytest.mark.parametrize(
    ("name", "tags"),
    [(name, row.split()) for name, row in SENTENCE.items()]
    + [("IOB2", ["B-PER", "O"]), ("BIOES", ["S-PER", "O"]), (None, ["O", "O"]), (None, ["NOUN", "X"]), (None, [1, 2])]
    + [(None, ["-LRB-", "B-PER"]), (None, []), ("IOB2", ["B-PER", None, "I-PER"])],
)
def test_guess_scheme(name, tags):
    assert guess_scheme([tags, []]) == name


def test_guess_scheme_allows_few_faults():
    fine, faulty = ["B-PER", "I-PER", "O"], ["O", "I-PER", "O"]
    assert guess_scheme([fine] * 9 + [faulty]) == "IOB2"
    assert guess_scheme(random_tags("BI", 0)[0]) is None


def test_names_of_schemes_may_be_in_small_letters_as_decode_has_them():
    tags = [["B-PER", "I-PER", "O"]]
    assert convert_scheme(tags, "iob2", "bioes") == convert_scheme(tags, "IOB2", "BIOES")
    assert find_spans(tags, scheme="iob2") == find_spans(tags, scheme="IOB2")
    assert len(find_invalid_tags(tags, scheme="iob2")) == 0
    assert span_f1_score(tags, tags, scheme="iob2") == 1
    with pytest.raises(InvalidParameterError, match="scheme='IOBES' must be one of"):
        find_spans(tags, scheme="iobes")
