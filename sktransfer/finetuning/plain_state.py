"""State of estimators that skops writes: arrays for tensors, columns for tables, states for heads."""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sktransfer.tasks.heads import Head

__all__ = ["PlainState", "from_plain", "to_plain"]

_STATE = "_plain_state"  # name of what `_saved_state` returns, among the attributes


class PlainState:
    """Mixin of estimators that skops writes, with the hooks that `save` uses.

    skops asks `__getstate__` and calls `__setstate__`. pickle and copy get all attributes by `__reduce_ex__`.
    """

    _not_saved: ClassVar[tuple[str, ...]] = ()

    def _saved_state(self) -> dict[str, Any]:
        """Return what `_restore_state` needs besides the plain attributes."""
        return {}

    def _restore_state(self, state: dict[str, Any]) -> None:
        """Set the attributes that are not saved, from `_saved_state` and the plain attributes."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Return all attributes."""
        return copyreg.__newobj__, (type(self),), super().__getstate__()  # type: ignore[misc, attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes that `save` writes, and `_saved_state`."""
        attributes: dict[str, Any] = super().__getstate__()  # type: ignore[misc, assignment]
        kept = {name: value for name, value in attributes.items() if name not in self._not_saved}
        plain: dict[str, Any] = to_plain({**kept, _STATE: self._saved_state()})
        return plain

    def __setstate__(self, state: dict[str, Any]) -> None:
        is_plain = _STATE in state
        attributes = from_plain(state) if is_plain else dict(state)
        saved = attributes.pop(_STATE, {})
        super().__setstate__(attributes)  # type: ignore[misc]
        if is_plain:
            self._restore_state(saved)


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
