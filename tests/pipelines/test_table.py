"""Columns of tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sktransfer import describe_columns
from sktransfer.exceptions import InvalidParameterError

COLUMNS = {
    "review": ["a moving, funny film", "two hours of nothing", None, "a dull plot, badly told"],
    "stars": [5, 1, None, 2],
    "shop": ["a", "b", "a", None],
    "empty": [None] * 4,
}
KINDS = ["text", "number", "category", "drop"]


@pytest.mark.parametrize("library", [pd, pl])
def test_describe_columns_of_pandas_and_polars(library):
    table = describe_columns(library.DataFrame(COLUMNS))
    assert table["column"].tolist() == list(COLUMNS)
    assert table["kind"].tolist() == KINDS
    assert table["missing"].tolist() == [0.25, 0.25, 0.25, 1.0]
    assert table["reason"][0] == "4.3 words per cell"


def test_describe_columns_of_categorical_types():
    names = pd.Series([f"a long name of {row}" for row in range(40)])
    assert describe_columns(pd.DataFrame({"name": names}))["kind"].tolist() == ["text"]
    assert describe_columns(pd.DataFrame({"name": names.astype("category")}))["kind"].tolist() == ["category"]
    frame = pl.DataFrame({"name": names.tolist()}, schema={"name": pl.Categorical})
    assert describe_columns(frame)["kind"].tolist() == ["category"]


def test_describe_columns_of_polars_arrays():
    frame = pl.DataFrame({"photo": np.zeros((3, 8, 8), np.uint8), "vector": np.zeros((3, 8))})
    assert describe_columns(frame)["kind"].tolist() == ["image", "drop"]


def test_describe_columns_takes_nan_of_polars_as_missing():
    table = describe_columns(pl.DataFrame({"size": [float("nan")] * 3}))
    assert table.loc[0, ["kind", "missing"]].tolist() == ["drop", 1.0]


def test_describe_columns_kinds_replace_what_is_recognized():
    table = describe_columns(pd.DataFrame(COLUMNS), kinds={"stars": "category", "shop": "drop"})
    assert table["kind"].tolist() == ["text", "category", "drop", "drop"]
    assert table["reason"][1] == "given in kinds"


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"Shop": "text"}, r"kinds names a column 'Shop', .*Did you mean 'shop'\?"),
        ({"shop": "picture"}, r"kinds\['shop'\]='picture' must be one of \('image', "),
        ("text", "kinds='text' must be a dict of column name to kind, such as {'review': 'text'}"),
    ],
)
def test_describe_columns_kinds_that_are_not_allowed(kinds, message):
    with pytest.raises(InvalidParameterError, match=message):
        describe_columns(pd.DataFrame(COLUMNS), kinds=kinds)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "several columns of the name 'a': rename them"),
        (pd.DataFrame(np.zeros((2, 2))), r"name is 0, of type int; names are str: X.columns = X.columns.map\(str\)"),
        (pd.DataFrame({"a": []}), r"0 sample\(s\)"),
        (pd.DataFrame(index=[0, 1]), r"0 sample\(s\)"),
        (["a film"], r"X is a list; a table comes as a DataFrame .*pass pandas.DataFrame\(X\)"),
        (pl.LazyFrame({"a": [1]}), r"pass X.collect\(\)"),
    ],
    ids=["twice", "numbers", "no rows", "no columns", "list", "lazy"],
)
def test_describe_columns_of_bad_tables(X, message):
    with pytest.raises(ValueError, match=message):
        describe_columns(X)
