from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sktransfer.samples.columns import as_column, as_series, column_names, is_frame, is_missing, is_tensor, quoted
from sktransfer.samples.containers import as_list

WORDS = ["a", "b", "c"]


@pytest.mark.parametrize(
    "X",
    [
        WORDS,
        tuple(WORDS),
        np.array(WORDS),
        np.array(WORDS, dtype=object),
        np.array(WORDS).reshape(3, 1),
        np.array(WORDS, dtype=object).reshape(3, 1),
        np.array(WORDS, dtype=np.dtypes.StringDType()),
        pd.Series(WORDS),
        pd.Series(WORDS, index=[7, 0, 1]),
        pd.Series(WORDS, dtype=object),
        pd.Series(WORDS, dtype="string"),
        pd.Series(WORDS, dtype="category"),
        pd.Index(WORDS),
        pd.Series(WORDS).array,
        pd.DataFrame({"text": WORDS}),
        pl.Series(WORDS),
        pl.DataFrame({"text": WORDS}),
    ],
    ids=lambda X: f"{type(X).__module__.partition('.')[0]}-{type(X).__name__}",
)
def test_as_column_returns_samples_in_order(X: object):
    assert as_column(X, "text") == WORDS


def test_as_column_keeps_objects():
    items = [np.zeros((2, 2)), np.ones((3, 2))]
    for X in (items, pd.Series(items), pd.Series(items).to_frame("image"), pl.Series(items, dtype=pl.Object)):
        assert all(given is item for given, item in zip(as_column(X, "image"), items, strict=True))


@pytest.mark.parametrize("library", [pd, pl])
def test_as_column_rejects_several_columns_by_name(library: object):
    frame = library.DataFrame({"title": ["a"], "body": ["b"]})
    with pytest.raises(ValueError, match=r"2 columns, \['title', 'body'\].*X\[\['title'\]\].*ColumnTransformer"):
        as_column(frame, "text")


def test_as_column_rejects_columns_of_equal_name():
    frame = pd.DataFrame([["a", "b"]], columns=["x", "x"])
    assert column_names(frame) == ["x", "x"]
    with pytest.raises(ValueError, match="2 columns"):
        as_column(frame, "text")


def test_as_column_rejects_a_frame_without_columns():
    with pytest.raises(ValueError, match="without columns; one column of texts is needed"):
        as_column(pd.DataFrame(index=[0, 1]), "text")


@pytest.mark.parametrize(
    "X", [[], (), np.array([], dtype=object), np.empty((0, 1), dtype=object), pd.Series([], dtype=str)]
)
def test_as_column_rejects_no_rows_as_scikit_learn(X: object):
    with pytest.raises(ValueError, match=r"0 sample\(s\) .* minimum of 1 is required"):
        as_column(X, "text")


@pytest.mark.parametrize("X", ["a text", b"bytes", memoryview(b"bytes")])
def test_as_column_of_a_single_sample_suggests_a_list(X: object):
    with pytest.raises(ValueError, match=r"not a list of texts: wrap it in a list, \[X\]"):
        as_column(X, "text")
    with pytest.raises(ValueError, match=r"not a list of texts: pass \[X\.item\(\)\]"):
        as_column(np.array("a text"), "text")


def test_as_column_of_an_array_of_several_columns_names_its_shape():
    with pytest.raises(ValueError, match=r"shape \(1, 2\).*Reshape your data, or pick one column, X\[:, 0\]"):
        as_column(np.array([["a", "b"]]), "text")


def test_as_column_rejects_other_containers():
    with pytest.raises(ValueError, match=r"X is a generator.*list\(X\)"):
        as_column(as_list((word for word in WORDS), "text"), "text")
    with pytest.raises(ValueError, match=r"X is a dict.*list\(X\)"):
        as_column(as_list({"a": 1}, "text"), "text")
    with pytest.raises(ValueError, match=r"X is a LazyFrame.*X\.collect\(\)"):
        as_column(pl.LazyFrame({"a": WORDS}), "text")
    with pytest.raises(ValueError, match="X is a NoneType"):
        as_column(None, "text")


@pytest.mark.parametrize("value", [None, float("nan"), np.float32("nan"), np.float16("nan"), pd.NA, pd.NaT])
def test_is_missing_recognizes_missing_values_of_all_libraries(value: object):
    assert is_missing(value)


@pytest.mark.parametrize("value", ["", "nan", 0, 0.0, False, [], np.zeros((2, 2)), np.inf])
def test_is_missing_is_false_for_other_values(value: object):
    assert not is_missing(value)


def test_is_frame_and_as_series_distinguish_frames_series_and_arrays():
    assert is_frame(pd.DataFrame({"a": [1]}))
    assert is_frame(pl.DataFrame({"a": [1]}))
    assert not any(map(is_frame, (pd.Series([1]), np.zeros((2, 2)), [[1]])))
    assert as_series(np.zeros(2)) is None
    assert as_series(pd.DataFrame({"a": [1], "b": [2]})) is None
    assert as_series(pl.DataFrame({"a": [1]})).to_list() == [1]


def test_is_tensor_is_true_for_tensors_only():
    import torch

    assert is_tensor(torch.zeros(1))
    assert is_tensor(torch.nn.Parameter(torch.zeros(1)))
    assert not any(map(is_tensor, (torch.float32, torch.utils.data.Dataset(), np.zeros(1), "torch")))


def test_quoted_truncates_long_values():
    assert quoted("abc") == "'abc'"
    assert quoted("a" * 500, 10) == "'aaaaaaaaa..."


def test_quoted_returns_one_line():
    assert quoted(np.eye(2)) == "array([[1., 0.], [0., 1.]])"
    assert quoted("two  spaces") == "'two  spaces'"
