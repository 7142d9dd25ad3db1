"""One column out of anything that holds one: lists, Series, one-column frames, arrays."""

from __future__ import annotations

import os
from typing import Any

import narwhals as nw
import numpy as np
from narwhals.exceptions import DuplicateError
from PIL import Image

__all__ = ["as_column", "column_names", "is_frame", "is_missing", "is_tensor", "no_samples", "only_series", "quoted"]


def is_frame(X: Any) -> bool:
    """Return whether X is a DataFrame of pandas, polars or a like library."""
    return hasattr(X, "shape") and hasattr(X, "columns")  # `shape` first: a LazyFrame warns when asked for its columns


def is_tensor(x: Any) -> bool:
    """Return whether x is a torch tensor, without importing torch."""
    return type(x).__module__.startswith("torch") and hasattr(x, "detach")


def is_missing(value: Any) -> bool:
    """Return whether a value says that there is none: None, NaN, pandas' NA and NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def quoted(value: Any, length: int = 200) -> str:
    """Return `repr(value)` in one line, its end left out where it is long."""
    text = repr(value) if isinstance(value, str) else " ".join(repr(value).split())
    return text if len(text) <= length else f"{text[:length]}..."


def column_names(frame: Any) -> list[Any]:
    """Return the names of a frame's columns."""
    try:
        return list(nw.from_native(frame, eager_only=True).columns)
    except DuplicateError:  # pandas allows the same name twice
        return list(frame.columns)


def only_series(X: Any) -> nw.Series[Any] | None:
    """Return a Series, or the column of a frame that has just one; None for anything else."""
    if is_frame(X) and X.shape[1] != 1:
        return None
    wrapped = nw.from_native(X, eager_only=True, allow_series=True, pass_through=True)
    if isinstance(wrapped, nw.DataFrame):
        return wrapped[:, 0]
    return wrapped if isinstance(wrapped, nw.Series) else None


def no_samples(shape: tuple[int, ...]) -> ValueError:
    """Return the error for an X without rows, in scikit-learn's words."""
    return ValueError(f"Found array with 0 sample(s) (shape={shape}) while a minimum of 1 is required: X is empty")


def as_column(X: Any, noun: str) -> list[Any]:
    """Return the samples of X, one a row.

    Parameters
    ----------
    X : list, tuple, Series, one-column DataFrame, or array of shape (n,) or (n, 1)
        The samples.
    noun : str
        What a sample is, for messages.

    Returns
    -------
    samples : list of n

    Raises
    ------
    ValueError
        If X is empty, a single sample, has several columns, or is nothing of the above.
    """
    if isinstance(X, (list, tuple)):
        samples = list(X)
    elif is_frame(X) and X.shape[1] != 1:
        raise ValueError(_several_columns(column_names(X), noun))
    elif (series := only_series(X)) is not None:
        samples = series.to_list()
    else:
        samples = _from_array(X, noun)
    if not samples:
        raise no_samples((0,))
    return samples


def _from_array(X: Any, noun: str) -> list[Any]:
    if isinstance(X, (str, bytes, bytearray, os.PathLike, Image.Image)):
        raise ValueError(f"X is one {type(X).__name__}, {quoted(X)}, not a list of {noun}s: wrap it in a list, [X]")
    if not hasattr(X, "__array__"):
        way_out = "X.collect()" if hasattr(X, "collect") else "list(X) where it can be iterated over"
        raise ValueError(
            f"X is a {type(X).__name__}; {noun}s come as a list, tuple, Series, one-column DataFrame or array: "
            f"{way_out}"
        )
    array = np.asarray(X)
    if array.ndim == 0:
        raise ValueError(f"X is a single value, {quoted(array.item())}, not a list of {noun}s: wrap it in a list, [X]")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # (n,)
    if array.ndim != 1:
        raise ValueError(
            f"X is an array of shape {array.shape}; {noun}s come as an array of shape (n,) or (n, 1). Reshape your "
            "data, or pick one column, X[:, 0]"
        )
    return list(array)


def _several_columns(names: list[Any], noun: str) -> str:
    if not names:
        return f"X is a DataFrame without columns; one column of {noun}s is needed"
    return (
        f"X is a DataFrame of {len(names)} columns, {quoted(names)}; {noun}s stand in one column. Pick it, "
        f"X[[{names[0]!r}]], or name the column for each step in a ColumnTransformer"
    )
