"""Columns of a table, each with its kind and the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import pandas as pd

from sktransfer.exceptions import InvalidParameterError, did_you_mean
from sktransfer.pipelines.cells import KINDS, Cells, advise, recognize, stray_cells
from sktransfer.samples.columns import column_names, empty_error, is_frame, quoted

__all__ = ["Column", "describe_columns", "read_columns"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    name : str
        Its name.
    kind : {"image", "text", "category", "number", "date", "drop"}
        Its kind.
    missing : float
        Share of missing cells.
    reason : str
        Reason of the kind.
    is_given : bool, default=False
        Whether the kind was given, not recognized.
    strays : str, default=""
        Cells that are no number or date in a column of them, in words.
    advice : str, default=""
        How the column can be used although it is dropped, as an expression.
    """

    name: str
    kind: str
    missing: float
    reason: str
    is_given: bool = False
    strays: str = ""
    advice: str = ""


def describe_columns(X: Any, *, kinds: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Tell what `make_transfer_pipeline` does with each column of a table, and why.

    At most 500 cells per column are looked at, at equal distances, and no file is opened.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_columns)
        Table of pandas or polars.
    kinds : mapping of str to str, default=None
        Column name -> "image", "text", "category", "number", "date" or "drop", instead of the kind that is recognized.

    Returns
    -------
    columns : DataFrame
        One row per column of X: column, kind, missing (share of its cells), reason.

    Raises
    ------
    InvalidParameterError
        If `kinds` names another column or kind.
    InvalidSampleError
        If cells of a column are of several types, only some are paths of images, or no path exists.
    ValueError
        If X is not a table, is empty, or has a name twice or one that is not a string.

    See Also
    --------
    make_transfer_pipeline : Builds the pipeline.

    Notes
    -----
    The kinds are recognized as follows.

    - "image": paths with the suffix of an image, `bytes`, PIL images, arrays of 2 or 3 dimensions, and cells {"bytes",
      "path"} of Hugging Face's datasets.
    - "text": texts of at least 3 words in the mean, unless few of them differ. Shorter texts if they nearly all differ.
    - "category": texts of which few differ, truth values, and columns of a categorical type.
    - "number": numbers, and texts of which at least 90 % hold numbers.
    - "date": dates, and texts of which at least 90 % are dates in ISO format, such as "2024-05-31".
    - "drop": columns without values or with a single one, numbers of the rows, identifiers by name, a different code
      in each row, addresses of the web, and cells of other types.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer import describe_columns
    >>> reviews = ["a moving, funny film", "two hours of nothing", None]
    >>> table = pd.DataFrame({"review": reviews, "stars": [5, 1, 4], "shop": ["x", "x", "x"]})
    >>> describe_columns(table)[["column", "kind", "reason"]].values.tolist()  # doctest: +NORMALIZE_WHITESPACE
    [['review', 'text', '4.0 words per cell'], ['stars', 'number', 'numbers'],
     ['shop', 'drop', "the same value in all rows, 'x'"]]
    """
    columns = read_columns(X, kinds)
    rows = [(column.name, column.kind, column.missing, column.reason) for column in columns]
    return pd.DataFrame(rows, columns=["column", "kind", "missing", "reason"])


def read_columns(X: Any, kinds: Mapping[str, str] | None = None) -> list[Column]:
    """Return the columns of a table with their kinds.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_columns)
        Table of pandas or polars.
    kinds : mapping of str to str, default=None
        Kinds by name, instead of those that are recognized.

    Raises
    ------
    InvalidParameterError
        If `kinds` names another column or kind.
    InvalidSampleError
        If a column cannot be used.
    ValueError
        If X is not a table, is empty, or has a name twice or one that is not a string.
    """
    names = _check_table(X)
    given = _check_kinds(kinds, names)
    frame = nw.from_native(X, eager_only=True)
    columns = []
    for name in names:
        series = frame[name]
        cells = Cells.of_series(series, name)
        missing = cells.n_missing / cells.n_rows
        if name in given:
            columns.append(Column(name, given[name], missing, "given in kinds", is_given=True))
        else:
            kind, reason = _kind_of_type(series.dtype) if cells.values else (None, "")
            if kind is None:
                kind, reason = recognize(cells)
            advice = advise(cells) if kind == "drop" else ""
            columns.append(Column(name, kind, missing, reason, strays=stray_cells(cells, kind), advice=advice))
    return columns


def _kind_of_type(dtype: nw.dtypes.DType) -> tuple[str | None, str]:
    """Return the kind that the type of a column tells, and the reason; None if the cells tell it."""
    if isinstance(dtype, (nw.Categorical, nw.Enum)):
        return "category", "a categorical type"
    if isinstance(dtype, nw.Array) and len(dtype.shape) > 1:  # polars' fixed-size arrays
        return "image", f"arrays of shape {dtype.shape}"
    return None, ""


def _check_table(X: Any) -> list[str]:
    """Return the names of the columns of a table that can be used."""
    if not is_frame(X):
        remedy = "pass X.collect()" if hasattr(X, "collect") else "pass pandas.DataFrame(X)"
        raise ValueError(f"X is a {type(X).__name__}; a table comes as a DataFrame of pandas or polars: {remedy}")
    names = column_names(X)
    if 0 in X.shape:
        raise empty_error(tuple(X.shape))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"X has several columns of the name {twice[0]!r}: rename them, or keep the first, "
            "X.loc[:, ~X.columns.duplicated()] in pandas"
        )
    others = [name for name in names if not isinstance(name, str)]
    if others:
        raise ValueError(
            f"X has a column whose name is {quoted(others[0], 40)}, of type {type(others[0]).__name__}; names are str: "
            "X.columns = X.columns.map(str) in pandas"
        )
    return names


def _check_kinds(kinds: Mapping[str, str] | None, names: list[str]) -> dict[str, str]:
    given = {} if kinds is None else kinds
    if not isinstance(given, Mapping):
        raise InvalidParameterError(
            f"kinds={quoted(kinds, 60)} must be a dict of column name to kind, such as {{{names[0]!r}: 'text'}}, for "
            "an X with columns"
        )
    for name, kind in given.items():
        if name not in names:
            raise InvalidParameterError(
                f"kinds names a column {name!r}, and X has the columns {quoted(names)}.{did_you_mean(str(name), names)}"
            )
        if kind not in KINDS:
            raise InvalidParameterError(f"kinds[{name!r}]={kind!r} must be one of {KINDS}")
    return dict(given)
