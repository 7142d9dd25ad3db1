"""Attributes of tuners as values that skops writes: arrays for tensors, columns for tables, states for heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sktransfer.tasks.heads import Head

__all__ = ["from_plain", "to_plain"]


def to_plain(value: Any) -> Any:
    """Return a value in which tensors, tables and heads are replaced, also inside dicts and lists.

    Parameters
    ----------
    value : object
        Attribute of a tuner.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.finetuning.plain_state import from_plain, to_plain
    >>> to_plain([torch.ones(1)])
    [{'kind': 'tensor', 'value': array([1.], dtype=float32)}]
    >>> from_plain(to_plain([torch.ones(1)]))
    [tensor([1.])]
    """
    if isinstance(value, dict):
        return {name: to_plain(one) for name, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(to_plain, value))
    if isinstance(value, Tensor):
        return {"kind": "tensor", "value": value.detach().cpu().contiguous().numpy()}
    if isinstance(value, Head):
        return {"kind": "head", "value": to_plain(value.to_state())}
    if isinstance(value, pd.DataFrame):
        columns = {name: (str(column.dtype), column.tolist()) for name, column in value.items()}
        index = (str(value.index.dtype), value.index.tolist(), value.index.name)
        return {"kind": "table", "value": {"columns": columns, "index": index}}
    return value


def from_plain(value: Any) -> Any:
    """Return the value that `to_plain` has replaced.

    Parameters
    ----------
    value : object
        Result of `to_plain`.
    """
    if isinstance(value, dict) and value.keys() == {"kind", "value"}:
        return _READERS[value["kind"]](value["value"])
    if isinstance(value, dict):
        return {name: from_plain(one) for name, one in value.items()}
    return type(value)(map(from_plain, value)) if type(value) in (list, tuple) else value


def _table(value: dict[str, Any]) -> pd.DataFrame:
    dtype, labels, name = value["index"]
    index = pd.Index(labels, dtype=dtype, name=name)
    columns = {name: pd.Series(column, index, dtype) for name, (dtype, column) in value["columns"].items()}
    return pd.DataFrame(columns, index)


def _tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(value))  # a copy, because arrays of files may be read-only


_READERS: dict[str, Callable[[Any], Any]] = {
    "head": lambda value: Head.from_state(from_plain(value)),
    "table": _table,
    "tensor": _tensor,
}
