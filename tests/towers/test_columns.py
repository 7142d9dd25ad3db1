"""Validation of rows with several columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator

from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.images import check_images
from sktransfer.samples.texts import check_texts
from sktransfer.samples.validation import check_samples
from sktransfer.towers.columns import Columns

COLUMNS = Columns({"text": "text", "image": "image"}, "error")
ZERO = Columns({"text": "text", "image": "image"}, "zero")
TEXTS = ["one", "two", "three"]
IMAGES = np.arange(3 * 6 * 6, dtype=np.uint8).reshape(3, 6, 6)
OBJECTS = np.empty((3, 2), dtype=object)
OBJECTS[:, 0], OBJECTS[:, 1] = TEXTS, list(IMAGES)
FRAME = pd.DataFrame({"image": list(IMAGES), "text": TEXTS})


@pytest.mark.parametrize(
    "X",
    [
        {"text": TEXTS, "image": IMAGES},
        {"image": list(IMAGES), "text": pd.Series(TEXTS)},
        FRAME,
        pl.DataFrame({"text": TEXTS, "image": pl.Series(IMAGES)}),
        OBJECTS,
    ],
    ids=["dict", "dict in another order", "pandas", "polars", "array"],
)
def test_read_takes_tables_of_every_kind(X):
    samples = COLUMNS.read(X)
    assert list(samples.columns) == ["text", "image"]
    assert samples.load(1)["text"] == "two"
    assert np.array_equal(np.asarray(samples.load(1)["image"])[:, :, 0], IMAGES[1])


def test_read_gives_columns_the_keys_of_their_samples_alone():
    samples = COLUMNS.read(FRAME)
    assert samples.columns["text"].key(2) == check_texts(TEXTS).key(2)
    assert samples.columns["image"].key(2) == check_images(list(IMAGES)).key(2)
    assert len({samples.key(row) for row in range(3)}) == 3


def test_read_lists_rows_without_a_sample():
    X = {"text": ["one", None, "three"], "image": [None, IMAGES[1], IMAGES[2]]}
    samples = ZERO.read(X)
    assert samples.columns["text"].present().tolist() == [True, False, True]
    assert samples.load(0).keys() == {"text"}
    part = samples.take([2, 0])
    assert part.columns["image"].present().tolist() == [True, False]
    assert part.key(1) == samples.key(0) != samples.key(2)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ({"text": ["one", None], "image": IMAGES[:2]}, r"row 1: column 'text': the text is missing.*missing='zero'"),
        ({"text": ["one", "two"], "image": [IMAGES[0], np.nan]}, "row 1: column 'image': the image is missing"),
        ({"text": ["one", 2], "image": IMAGES[:2]}, "row 1: column 'text': 2 is a int, not a str"),
        ({"text": ["one", None], "image": [None, None]}, r"row 1: all of the columns \['text', 'image'\] are missing"),
        (FRAME.assign(text=["one", None, "x"]).set_index(pd.Index([*"abc"])), r"row 1 \(index label 'b'\): column"),
    ],
    ids=["text", "image", "type", "both", "label"],
)
def test_read_names_row_and_column(X, message):
    with pytest.raises(InvalidSampleError, match=message):
        check_samples(BaseEstimator(), X, COLUMNS, reset=False)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (FRAME[["text"]], r"lacks \['image'\]"),
        (FRAME.assign(label=1), r"unknown columns \['label'\].*X\[\['text', 'image'\]\]"),
        ({"txt": TEXTS, "image": IMAGES}, r"lacks \['text'\].*Did you mean 'txt'"),
        (OBJECTS[:, :1], "an array of 1 columns, and the backbone reads 2"),
        (TEXTS, "X is a list; rows come as a DataFrame"),
        ({"text": TEXTS, "image": IMAGES[:2]}, "different numbers of samples, {'text': 3, 'image': 2}"),
        ({"text": [], "image": []}, "minimum of 1 is required"),
        ({"text": TEXTS, "image": "cat.jpg"}, "column 'image' of X"),
    ],
    ids=["missing", "unknown", "misspelt", "array", "list", "lengths", "empty", "one path"],
)
def test_read_refuses_other_columns(X, message):
    with pytest.raises(ValueError, match=message):
        COLUMNS.read(X)


def test_check_compares_columns_in_any_order():
    estimator = BaseEstimator()
    check_samples(estimator, FRAME, COLUMNS, reset=True)
    assert estimator.feature_names_in_.tolist() == ["text", "image"]
    assert len(check_samples(estimator, FRAME[["text", "image"]], COLUMNS, reset=False)) == 3


def test_check_refuses_a_column_without_values_in_fit():
    X = {"text": TEXTS, "image": [None] * 3}
    with pytest.raises(ValueError, match="column 'image' of X has no value in any row"):
        check_samples(BaseEstimator(), X, ZERO, reset=True)
    assert len(check_samples(BaseEstimator(), X, ZERO, reset=False)) == 3
