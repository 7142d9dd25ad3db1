from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sktransfer.samples.columns import as_column, as_series, column_names, is_frame, is_missing, is_tensor, quoted

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
def test_one_column_of_anything_gives_its_samples_in_order(X: object):
    assert as_column(X, "text") == WORDS


def test_objects_in_a_column_stay_the_same_objects():
    items = [np.zeros((2, 2)), np.ones((3, 2))]
    for X in (items, pd.Series(items), pd.Series(items).to_frame("image"), pl.Series(items, dtype=pl.Object)):
        assert all(given is item for given, item in zip(as_column(X, "image"), items, strict=True))


@pytest.mark.parametrize("library", [pd, pl])
def test_several_columns_are_named_with_the_way_out(library: object):
    frame = library.DataFrame({"title": ["a"], "body": ["b"]})
    with pytest.raises(ValueError, match=r"2 columns, \['title', 'body'\].*X\[\['title'\]\].*ColumnTransformer"):
        as_column(frame, "text")


def test_two_columns_of_one_name_are_an_error_too():
    frame = pd.DataFrame([["a", "b"]], columns=["x", "x"])
    assert column_names(frame) == ["x", "x"]
    with pytest.raises(ValueError, match="2 columns"):
        as_column(frame, "text")


def test_a_frame_without_columns_is_an_error():
    with pytest.raises(ValueError, match="without columns; one column of texts is needed"):
        as_column(pd.DataFrame(index=[0, 1]), "text")


@pytest.mark.parametrize(
    "X", [[], (), np.array([], dtype=object), np.empty((0, 1), dtype=object), pd.Series([], dtype=str)]
)
def test_no_rows_are_an_error_in_scikit_learns_words(X: object):
    with pytest.raises(ValueError, match=r"0 sample\(s\) .* minimum of 1 is required"):
        as_column(X, "text")


@pytest.mark.parametrize("X", ["a text", b"bytes", np.array("a text")])
def test_a_single_sample_is_told_to_be_wrapped(X: object):
    with pytest.raises(ValueError, match=r"not a list of texts: wrap it in a list, \[X\]"):
        as_column(X, "text")


def test_arrays_of_several_columns_show_their_shape():
    with pytest.raises(ValueError, match=r"shape \(1, 2\).*Reshape your data, or pick one column, X\[:, 0\]"):
        as_column(np.array([["a", "b"]]), "text")


def test_other_containers_are_named_with_the_way_out():
    with pytest.raises(ValueError, match=r"X is a generator.*list\(X\)"):
        as_column((word for word in WORDS), "text")
    with pytest.raises(ValueError, match=r"X is a dict.*list\(X\)"):
        as_column({"a": 1}, "text")
    with pytest.raises(ValueError, match=r"X is a LazyFrame.*X\.collect\(\)"):
        as_column(pl.LazyFrame({"a": WORDS}), "text")
    with pytest.raises(ValueError, match="X is a NoneType"):
        as_column(None, "text")


@pytest.mark.parametrize("value", [None, float("nan"), np.float32("nan"), np.float16("nan"), pd.NA, pd.NaT])
def test_missing_values_of_all_libraries_are_known(value: object):
    assert is_missing(value)


@pytest.mark.parametrize("value", ["", "nan", 0, 0.0, False, [], np.zeros((2, 2)), np.inf])
def test_what_is_there_is_not_missing(value: object):
    assert not is_missing(value)


def test_frames_and_series_are_told_from_arrays():
    assert is_frame(pd.DataFrame({"a": [1]}))
    assert is_frame(pl.DataFrame({"a": [1]}))
    assert not any(map(is_frame, (pd.Series([1]), np.zeros((2, 2)), [[1]])))
    assert as_series(np.zeros(2)) is None
    assert as_series(pd.DataFrame({"a": [1], "b": [2]})) is None
    assert as_series(pl.DataFrame({"a": [1]})).to_list() == [1]


def test_only_tensors_are_tensors():
    import torch

    assert is_tensor(torch.zeros(1))
    assert is_tensor(torch.nn.Parameter(torch.zeros(1)))
    assert not any(map(is_tensor, (torch.float32, torch.utils.data.Dataset(), np.zeros(1), "torch")))


def test_long_values_are_cut_in_messages():
    assert quoted("abc") == "'abc'"
    assert quoted("a" * 500, 10) == "'aaaaaaaaa..."


def test_values_of_several_lines_are_shown_in_one():
    assert quoted(np.eye(2)) == "array([[1., 0.], [0., 1.]])"
    assert quoted("two  spaces") == "'two  spaces'"
