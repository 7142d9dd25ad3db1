"""Tables that fitted estimators show: a `DataFrame` by its columns, and its index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.parts import Codec, Loading, Saving, entry

__all__ = ["FRAME"]

_DTYPES = ("bool", "float32", "float64", "int32", "int64", "object", "str")


def _encode(frame: pd.DataFrame, saving: Saving) -> dict[str, Any]:
    if isinstance(frame.index, pd.MultiIndex) or not all(isinstance(name, str) for name in frame.columns):
        raise SaveError("a DataFrame with several levels of index, or with names of columns that are no str")
    columns = {str(name): _encode_values(frame[name].array) for name in frame.columns}
    index = {"start": frame.index.start, "stop": frame.index.stop} if _is_plain(frame.index) else {}
    return {"columns": columns, "name": frame.index.name, "index": index or _encode_values(frame.index.array)}


def _is_plain(index: pd.Index) -> bool:
    return isinstance(index, pd.RangeIndex) and index.step == 1


def _encode_values(values: Any) -> dict[str, Any]:
    dtype = str(values.dtype)
    if dtype not in _DTYPES:
        raise SaveError(f"a DataFrame with a column of dtype {dtype}; allowed are {_DTYPES}")
    plain = np.asarray(values)
    return {"dtype": dtype, "values": plain if plain.dtype != object else plain.tolist()}


def _decode(data: dict[str, Any], loading: Loading) -> pd.DataFrame:
    given = entry(data, "index", dict)
    if "start" in given:
        index: Any = pd.RangeIndex(entry(given, "start", int), entry(given, "stop", int))
    else:
        index = pd.Index(_decode_values(given))
    columns = {name: _decode_values(one) for name, one in entry(data, "columns", dict).items()}
    if any(len(values) != len(index) for values in columns.values()):
        raise LoadError("the columns of a table are of different length")
    index.name = entry(data, "name", (str, type(None)))
    return pd.DataFrame(columns, index=index)


def _decode_values(data: Any) -> Any:
    dtype, values = entry(data, "dtype", str, _DTYPES), entry(data, "values", (np.ndarray, list))
    return pd.array(values, dtype=dtype) if dtype == "str" else np.asarray(values, dtype=dtype)


FRAME = Codec("DataFrame", _encode, _decode)
