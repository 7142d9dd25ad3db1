"""Columns of samples from lists, Series, one-column frames and arrays."""

from __future__ import annotations

import os
from typing import Any

import narwhals as nw
import numpy as np
from narwhals.exceptions import DuplicateError
from PIL import Image

__all__ = ["as_column", "as_series", "column_names", "empty_error", "is_frame", "is_missing", "is_tensor", "quoted"]
__all__ += ["several_columns_error"]


def is_frame(X: Any) -> bool:
    """Return whether X is a DataFrame of pandas, polars or a similar library."""
    return hasattr(X, "shape") and hasattr(X, "columns")  # `shape` first, because access to a LazyFrame's columns warns


def is_tensor(x: Any) -> bool:
    """Return whether x is a torch tensor, without importing torch."""
    return type(x).__module__.startswith("torch") and hasattr(x, "detach")


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or pandas' NA or NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def quoted(value: Any, length: int = 200) -> str:
    """Return `repr(value)` in one line, truncated to a length."""
    text = repr(value) if isinstance(value, str) else " ".join(repr(value).split())
    return text if len(text) <= length else f"{text[:length]}..."


def column_names(frame: Any) -> list[Any]:
    """Return the names of a frame's columns."""
    try:
        return list(nw.from_native(frame, eager_only=True).columns)
    except DuplicateError:  # pandas allows the same name twice
        return list(frame.columns)


def as_series(X: Any) -> nw.Series[Any] | None:
    """Return a Series or the only column of a frame, wrapped by narwhals, and None for other objects."""
    if isinstance(X, np.ndarray) or (is_frame(X) and X.shape[1] != 1):
        return None
    wrapped = nw.from_native(X, eager_only=True, allow_series=True, pass_through=True)
    if isinstance(wrapped, nw.DataFrame):
        return wrapped[:, 0]
    return wrapped if isinstance(wrapped, nw.Series) else None


def empty_error(shape: tuple[int, ...]) -> ValueError:
    """Return the error for an X without rows, with scikit-learn's wording."""
    return ValueError(f"Found array with 0 sample(s) (shape={shape}) while a minimum of 1 is required: X is empty")


def as_column(X: Any, noun: str) -> list[Any]:
    """Return the samples of X, one per row.

    Parameters
    ----------
    X : list, tuple, Series, one-column DataFrame, or array of shape (n,) or (n, 1)
        The samples.
    noun : str
        Name of a sample in messages, such as "image".

    Returns
    -------
    samples : list of n

    Raises
    ------
    ValueError
        If X is empty, a single sample, has several columns, or is of another type.
    """
    if isinstance(X, (list, tuple)):
        samples = list(X)
    elif is_frame(X) and X.shape[1] != 1:
        raise several_columns_error(X, noun)
    elif (series := as_series(X)) is not None:
        samples = series.to_list()
    else:
        samples = _from_array(X, noun)
    if not samples:
        raise empty_error((0,))
    return samples


def _from_array(X: Any, noun: str) -> list[Any]:
    if isinstance(X, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image)):
        raise ValueError(f"X is one {type(X).__name__}, {quoted(X)}, not a list of {noun}s: wrap it in a list, [X]")
    if not hasattr(X, "__array__"):
        remedy = ": pass X.collect()" if hasattr(X, "collect") else ""
        raise ValueError(
            f"X is a {type(X).__name__}; {noun}s come as a list, Series, one-column DataFrame or array{remedy}"
        )
    array = np.asarray(X)
    if array.ndim == 0:
        raise ValueError(f"X is a single value, {quoted(array.item())}, not a list of {noun}s: pass [X.item()]")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # (n,)
    if array.ndim != 1:
        raise ValueError(
            f"X is an array of shape {array.shape}; {noun}s come as an array of shape (n,) or (n, 1). Reshape your "
            "data, or pick one column, X[:, 0]"
        )
    return list(array)


def several_columns_error(X: Any, noun: str) -> ValueError:
    """Return the error for a frame or an array that does not have one column.

    Parameters
    ----------
    X : DataFrame or ndarray
        The table.
    noun : str
        Name of a sample in messages, such as "image".
    """
    if isinstance(X, np.ndarray):
        return ValueError(f"X is an array of {X.shape[1]} columns; {noun}s must be in one column. Select it, X[:, 0]")
    names = column_names(X)
    if not names:
        return ValueError(f"X is a DataFrame without columns; one column of {noun}s is needed")
    select = f"X[{names[0]!r}]" if type(X).__module__.startswith("pyarrow") else f"X[[{names[0]!r}]]"
    return ValueError(
        f"X is a DataFrame of {len(names)} columns, {quoted(names)}; {noun}s must be in one column. Select it, "
        f"{select}, name the column for each step in a ColumnTransformer, or join backbones by Backbone.join"
    )
