"""Codecs of values of other libraries: tensors, tables, paths, devices, optimizers, random states."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sktransfer._validation import require_field
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.context import Codec, LoadContext, SaveContext, own_copy, unpack_strings

__all__ = ["CODECS", "OPTIMIZER", "PACKED", "PATH", "is_optimizer"]

_COLUMN_DTYPES = ("bool", "float32", "float64", "int32", "int64", "object", "str")


def _encode_path(path: PurePath, context: SaveContext) -> dict[str, Any]:
    return {"path": str(path)}


def _decode_path(data: dict[str, Any], context: LoadContext) -> Path:
    return Path(require_field(data, "path", str))


def _encode_device(device: torch.device, context: SaveContext) -> dict[str, Any]:
    return {"device": str(device)}


def _decode_device(data: dict[str, Any], context: LoadContext) -> torch.device:
    return torch.device(require_field(data, "device", str))


def is_optimizer(obj: Any) -> bool:
    """Return whether an object is a public optimizer class of torch.optim."""
    if not isinstance(obj, type) or not issubclass(obj, torch.optim.Optimizer):
        return False
    return vars(torch.optim).get(obj.__name__) is obj


def _encode_optimizer(optimizer: type, context: SaveContext) -> dict[str, Any]:
    return {"name": optimizer.__name__}


def _decode_optimizer(data: dict[str, Any], context: LoadContext) -> type:
    name = require_field(data, "name", str)
    optimizer = vars(torch.optim).get(name)
    if not isinstance(optimizer, type) or not is_optimizer(optimizer):
        raise LoadError(f"torch.optim has no optimizer {name!r}")
    return optimizer


def _encode_random_state(state: np.random.RandomState, context: SaveContext) -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = state.get_state(legacy=True)
    return {
        "name": name,
        "keys": keys,
        "position": int(position),
        "has_gauss": int(has_gauss),
        "gauss": float(gauss),
    }


def _decode_random_state(data: dict[str, Any], context: LoadContext) -> np.random.RandomState:
    keys = require_field(data, "keys", np.ndarray)
    name, position = require_field(data, "name", str, ("MT19937",)), require_field(data, "position", int)
    if keys.shape != (624,) or keys.dtype != np.uint32 or not 0 <= position <= 624:  # numpy reads beyond the end
        raise LoadError(f"a random state of {keys.shape} keys of {keys.dtype}, at position {position}")
    state = np.random.RandomState()
    has_gauss, gauss = require_field(data, "has_gauss", int, (0, 1)), require_field(data, "gauss", float)
    state.set_state((name, keys, position, has_gauss, gauss))
    return state


def _encode_frame(frame: pd.DataFrame, context: SaveContext) -> dict[str, Any]:
    if isinstance(frame.index, pd.MultiIndex) or not all(isinstance(name, str) for name in frame.columns):
        raise SaveError("a DataFrame with a MultiIndex, or with column names that are not str, cannot be saved")
    columns = {str(name): _encode_column(frame[name].array) for name in frame.columns}
    return {"columns": columns, **_encode_index(frame.index, context)}


def _encode_index(index: pd.Index, context: SaveContext) -> dict[str, Any]:
    is_range = isinstance(index, pd.RangeIndex) and index.step == 1
    values = {"start": index.start, "stop": index.stop} if is_range else _encode_column(index.array)
    return {"index_name": index.name, "index": values}


def _encode_column(values: Any) -> dict[str, Any]:
    dtype = str(values.dtype)
    if dtype not in _COLUMN_DTYPES:
        raise SaveError(f"a column or index of dtype {dtype} cannot be saved; allowed are {_COLUMN_DTYPES}")
    plain = np.asarray(values)
    return {"dtype": dtype, "values": plain if plain.dtype != object else plain.tolist()}


def _decode_index(data: dict[str, Any], context: LoadContext) -> pd.Index:
    given = require_field(data, "index", dict)
    if "start" in given:
        index: Any = pd.RangeIndex(require_field(given, "start", int), require_field(given, "stop", int))
    else:
        index = pd.Index(_decode_column(given))
    index.name = require_field(data, "index_name", (str, type(None)))
    return index


def _decode_frame(data: dict[str, Any], context: LoadContext) -> pd.DataFrame:
    index = _decode_index(data, context)
    columns = {name: _decode_column(column) for name, column in require_field(data, "columns", dict).items()}
    if any(len(values) != len(index) for values in columns.values()):
        raise LoadError("the columns of a DataFrame have different lengths")
    return pd.DataFrame(columns, index=index)


def _decode_column(data: Any) -> Any:
    dtype, values = require_field(data, "dtype", str, _COLUMN_DTYPES), require_field(data, "values", (np.ndarray, list))
    return pd.array(values, dtype=dtype) if dtype == "str" else np.asarray(values, dtype=dtype)


def _encode_tensor(tensor: Tensor, context: SaveContext) -> dict[str, Any]:
    return context.add_tensors({"value": own_copy(tensor)})


def _decode_tensor(data: dict[str, Any], context: LoadContext) -> Tensor:
    return context.take_tensors(data)["value"]


def _decode_array(data: dict[str, Any], context: LoadContext) -> np.ndarray:
    array: np.ndarray = context.take_tensors(data)["value"].numpy()
    return array


def _decode_strings(data: dict[str, Any], context: LoadContext) -> list[str]:
    tensors = context.take_tensors(data)
    return unpack_strings(tensors["text"], tensors["ends"])


def _decode_dict(data: dict[str, Any], context: LoadContext) -> dict[Any, Any]:
    return dict(zip(require_field(data, "keys", list), require_field(data, "values", list), strict=True))


PATH = Codec("Path", "", _encode_path, _decode_path)
OPTIMIZER = Codec("Optimizer", "", _encode_optimizer, _decode_optimizer)
CODECS = (
    PATH,
    OPTIMIZER,
    Codec("DataFrame", "pandas:DataFrame", _encode_frame, _decode_frame),
    Codec("Index", "pandas:Index", _encode_index, _decode_index),
    Codec("RangeIndex", "pandas:RangeIndex", _encode_index, _decode_index),
    Codec("Device", "torch:device", _encode_device, _decode_device),
    Codec("RandomState", "numpy.random:RandomState", _encode_random_state, _decode_random_state),
    Codec("Tensor", "torch:Tensor", _encode_tensor, _decode_tensor),
)
# Kinds of the nodes that SaveContext.pack writes.
PACKED = {
    "Array": _decode_array,
    "Dict": _decode_dict,
    "Strings": _decode_strings,
    "Tensors": lambda data, context: context.take_state(data),
}
