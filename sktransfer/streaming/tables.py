"""Chunks of any kind: number of rows, slices, columns."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pandas as pd

from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.columns import is_frame, is_tensor, quoted

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["as_chunk", "cells", "count_rows", "cut", "is_chunk", "kept_columns", "require_pyarrow", "sample_columns"]

Columns = Hashable | Sequence[Hashable] | None


def require_pyarrow(why: str) -> Any:
    """Return the module pyarrow.

    Parameters
    ----------
    why : str
        Part of the error that names the user of pyarrow.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f'{why} needs the package pyarrow: pip install "pyarrow>=18". Without it, out="features.npy" writes an '
            "array"
        ) from error
    return pyarrow


def is_chunk(value: Any) -> bool:
    """Return whether a value holds rows: a table, a Series or a column of Arrow."""
    return is_frame(value) or _is_arrow(value) or nw.dependencies.is_into_series(value)


def _is_arrow(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "pyarrow"


def as_chunk(chunk: Any) -> Any:
    """Return a chunk as a list, an array, a Series or a table. A mapping of columns becomes a table.

    Raises
    ------
    InvalidParameterError
        If it is none of these.
    """
    if isinstance(chunk, Mapping):
        sizes = {name: len(values) if hasattr(values, "__len__") else None for name, values in chunk.items()}
        if not chunk or None in sizes.values() or len(set(sizes.values())) > 1:
            raise InvalidParameterError(
                f"it is a dict whose values are no columns of one length: {quoted(sizes)}. Pass columns, as in "
                "{'text': ['a', 'b'], 'label': [0, 1]}"
            )
        return pd.DataFrame({name: _as_column(values) for name, values in chunk.items()})
    if type(chunk).__name__ == "Delayed":
        raise InvalidParameterError(
            "it is a Delayed of Dask, which is not computed yet. Pass (part.compute() for part in parts)"
        )
    if type(chunk).__name__ == "RecordBatch" and _is_arrow(chunk):
        return require_pyarrow("a chunk of Arrow").Table.from_batches([chunk])
    if isinstance(chunk, (str, bytes)) or not hasattr(chunk, "__len__") or not hasattr(chunk, "__getitem__"):
        raise InvalidParameterError(
            f"it is one {type(chunk).__name__}, {quoted(chunk, 60)}, not a list, array, Series or table of samples. A "
            "generator must yield chunks of samples, as in `(texts[i : i + 1000] for i in range(0, n, 1000))`"
        )
    return list(chunk) if isinstance(chunk, tuple) else _as_array(chunk)


def _as_array(values: Any) -> Any:
    return values.detach().cpu().numpy() if is_tensor(values) else values


def _as_column(values: Any) -> Any:
    values = _as_array(values)
    return list(values) if getattr(values, "ndim", 1) > 1 else values


def count_rows(chunk: Any) -> int:
    """Return the number of rows of a chunk."""
    return int(chunk.shape[0] if hasattr(chunk, "shape") else len(chunk))


def cut(chunk: Any, start: int, stop: int) -> Any:
    """Return the rows from `start` to `stop`, which may be beyond the end."""
    if (start, stop) == (0, count_rows(chunk)):
        return chunk
    if _is_arrow(chunk):
        return chunk.slice(start, stop - start)
    return chunk.iloc[start:stop] if hasattr(chunk, "iloc") else chunk[start:stop]


def sample_columns(chunk: Any, columns: Columns, keep: Sequence[Hashable], fitted: Sequence[str] | None) -> Any:
    """Return what the featurizer gets of a chunk.

    Parameters
    ----------
    chunk : object
        Result of `as_chunk`.
    columns : str, list of str or None
        A name gives a Series, a list a table. None gives the columns in `fitted` if the chunk has them all, and
        otherwise all that are not kept. If this is a single one that was not fitted by name, it is given as a Series.
    keep : sequence of str
        Columns that are kept.
    fitted : sequence of str or None
        Columns that the featurizer was fitted on, if they had names.

    Raises
    ------
    InvalidParameterError
        If the chunk lacks a column, or has none.
    """
    if not is_frame(chunk):
        if columns is not None or keep:
            raise InvalidParameterError(
                f"it is a {type(chunk).__name__}, which has no columns, so columns={columns!r} and keep={list(keep)!r} "
                "have no meaning. Pass tables, or leave both out"
            )
        return _column_of_arrow(chunk, None) if _is_arrow(chunk) else chunk
    names = _names(chunk)
    if columns is None:
        chosen: Any = list(fitted) if fitted is not None and set(fitted) <= set(names) else None
        if chosen is None:
            chosen = [name for name in names if name not in keep]
            if not chosen:
                raise InvalidParameterError(f"all of its columns are kept: {quoted(names)}. Name one less in keep")
            chosen = chosen[0] if len(chosen) == 1 and fitted is None else chosen
    else:
        chosen = columns
    if isinstance(chosen, list):
        _require(chosen, names, "columns")
        table = pd.DataFrame({name: _column_of_arrow(chunk, name) for name in chosen}) if _is_arrow(chunk) else None
        return chunk[chosen] if table is None else table
    _require([chosen], names, "columns")
    return _column_of_arrow(chunk, chosen) if _is_arrow(chunk) else chunk[chosen]


def _names(table: Any) -> list[Any]:
    return list(table.column_names if _is_arrow(table) else table.columns)


def _require(chosen: Sequence[Any], names: Sequence[Any], parameter: str) -> None:
    lacking = [name for name in chosen if name not in names]
    if lacking:
        raise InvalidParameterError(
            f"it has no column {lacking[0]!r}, which {parameter} names. Its columns are {quoted(names)}"
        )


def _column_of_arrow(chunk: Any, name: Any) -> pd.Series:
    """Return a column of Arrow as a Series that scikit-learn takes, with strings, lists and images as objects."""
    column = chunk if name is None else chunk[name]
    types = require_pyarrow("a chunk of Arrow").types
    kind = column.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_temporal(kind):
        return column.to_pandas().rename(name)
    if isinstance(kind, require_pyarrow("a chunk of Arrow").ExtensionType):  # tensors, such as the images of Ray
        whole = column.combine_chunks()
        values = (
            whole.to_numpy_ndarray() if hasattr(whole, "to_numpy_ndarray") else whole.to_numpy(zero_copy_only=False)
        )
        return pd.Series(list(values), dtype=object, name=name)
    return pd.Series(column.to_pylist(), dtype=object, name=name)


def kept_columns(chunk: Any, keep: Sequence[Hashable]) -> pa.Table | None:
    """Return the columns that are kept as a table of Arrow, or None if there are none.

    Raises
    ------
    InvalidParameterError
        If the chunk lacks a column, or its values have no type of Arrow.
    """
    if not keep:
        return None
    pyarrow = require_pyarrow(f"keep={list(keep)!r}")
    _require(keep, _names(chunk), "keep")
    arrays = {}
    for name in keep:
        try:
            arrays[str(name)] = _as_arrow(pyarrow, chunk[name])
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError) as error:
            raise InvalidParameterError(
                f"its column {name!r} cannot be kept, because Arrow has no type for its values ({error}). Keep a "
                "column of numbers, texts or paths"
            ) from error
    return pyarrow.table(arrays)


def _as_arrow(pyarrow: Any, column: Any) -> Any:
    if isinstance(column, pyarrow.ChunkedArray):
        array = column.combine_chunks()
    else:
        array = column.to_arrow() if hasattr(column, "to_arrow") else pyarrow.Array.from_pandas(column)
    # Categories would have another dictionary in each chunk, and Parquet has no views.
    if pyarrow.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pyarrow.large_string()) if pyarrow.types.is_string_view(array.type) else array


def cells(chunk: Any) -> list[Any]:
    """Return the columns of what a featurizer gets, for hashing: arrays, or lists of Python objects."""
    if is_frame(chunk):  # by position, because names may be numbers or occur twice
        columns = [chunk.iloc[:, i] if hasattr(chunk, "iloc") else chunk.to_series(i) for i in range(chunk.shape[1])]
        return [_cells_of(column.to_numpy(), column.to_list) for column in columns]
    if hasattr(chunk, "to_numpy") and not isinstance(chunk, np.ndarray):
        return [_cells_of(chunk.to_numpy(), chunk.to_list)]
    return [chunk]


def _cells_of(array: np.ndarray, to_list: Any) -> Any:
    return array if array.dtype.kind in "fiubM" else to_list()
