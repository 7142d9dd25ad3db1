"""Outputs of frozen stages, kept for reuse: by sample content, so that folds, candidates and clones share them."""

from __future__ import annotations

import threading
from collections import OrderedDict

from torch import Tensor

from sktransfer.exceptions import InvalidParameterError

__all__ = ["Key", "MemoryStore", "resolve_store"]

Key = tuple[bytes, str]  # (the sample's content, what was computed of it)
BUDGET = 2 * 1024**3  # bytes


class MemoryStore:
    """Tensors in memory up to a number of bytes; the least recently used go first.

    Parameters
    ----------
    budget : int, default=2 GiB
        Bytes that the tensors may take together.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.engine.store import MemoryStore
    >>> store = MemoryStore(budget=8)
    >>> store.put((b"sample 1", "stem"), torch.zeros(2))
    >>> store.put((b"sample 2", "stem"), torch.zeros(2))
    >>> store.get((b"sample 1", "stem")) is None
    True
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self.n_bytes = 0
        self._kept: OrderedDict[Key, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Tensor | None:
        """Return what was put under `key`, or None. The caller must not change it."""
        with self._lock:
            value = self._kept.get(key)
            if value is not None:
                self._kept.move_to_end(key)
            return value

    def put(self, key: Key, value: Tensor) -> None:
        """Keep a tensor, unless it is larger than the whole budget."""
        size = value.numel() * value.element_size()
        if size > self.budget:
            return
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = value
            self.n_bytes += size
            while self.n_bytes > self.budget:
                _, oldest = self._kept.popitem(last=False)
                self.n_bytes -= oldest.numel() * oldest.element_size()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self.n_bytes = 0


_memory = MemoryStore()


def resolve_store(cache: str | None) -> MemoryStore | None:
    """Return the store that a `cache` parameter names: the process's own for "memory", none for None.

    Raises
    ------
    InvalidParameterError
        If it is anything else.
    """
    if cache is None:
        return None
    if isinstance(cache, str) and cache == "memory":
        return _memory
    raise InvalidParameterError(f"cache={cache!r} must be 'memory' or None")
