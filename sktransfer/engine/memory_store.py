"""The process's own store: tensors in memory, up to a number of bytes."""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sktransfer.config import DEFAULT_MEMORY
from sktransfer.engine.patience import Patience
from sktransfer.engine.store import CacheInfo, Column

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MemoryStore", "process_store"]

OVERHEAD = 512  # bytes beside the values: the tensor, its storage, its key, the table they stand in

# One for all stores of the process, and held while it forks: a child never finds a store in the middle of a change.
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


@dataclass(slots=True)
class _Entry:
    value: Tensor
    size: int
    asked: int  # when, by the clock of asks


class MemoryStore:
    """Tensors in memory up to a number of bytes; the least recently used go first, if nobody waits for them.

    A value that is too new, by `Patience`, to be given up stays, and the one that wanted its place is not kept: rounds
    over more than fits find the part that is kept each time.

    Parameters
    ----------
    limit : int, default=2147483648
        Bytes that the values may take together, with 512 for each that stand for what it takes to find it.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.engine.memory_store import MemoryStore
    >>> from sktransfer.engine.store import Column
    >>> store = MemoryStore(limit=4000)
    >>> column = Column(bytes(16), "tiny/cnn", "stem", "average", "float32")
    >>> store.put(column, [b"sample 1"], [torch.zeros(500)])
    >>> store.put(column, [b"sample 2"], [torch.ones(500)])
    >>> [value is not None for value in store.get(column, [b"sample 1", b"sample 2"])]
    [False, True]
    """

    def __init__(self, limit: int = DEFAULT_MEMORY) -> None:
        self.limit = limit
        self.n_bytes = 0
        self._empty()

    def _empty(self) -> None:
        self._kept: OrderedDict[bytes, _Entry] = OrderedDict()
        self._patience = Patience()
        self._used = self.n_bytes = self._hits = self._misses = 0

    def get(self, column: Column, keys: Sequence[bytes]) -> list[Tensor | None]:
        """Return what is kept under each key, or None. The caller must not change it."""
        found: list[Tensor | None] = []
        with _lock:
            for key in keys:
                full = column.digest + key
                self._patience.see(full)
                entry = self._kept.get(full)
                if entry is not None:
                    entry.asked = self._patience.clock
                    self._kept.move_to_end(full)
                found.append(None if entry is None else entry.value)
            misses = sum(value is None for value in found)
            self._misses += misses
            self._hits += len(found) - misses
        return found

    def put(self, column: Column, keys: Sequence[bytes], values: Sequence[Tensor]) -> None:
        """Keep values where there is room for them; of two under one key the first."""
        with _lock:
            for key, value in zip(keys, values, strict=True):
                full = column.digest + key
                size = value.nbytes + OVERHEAD
                if full not in self._kept and self._make_room(size):
                    self._kept[full] = _Entry(value, size, self._patience.clock)
                    self._used += size
                    self.n_bytes += value.nbytes

    def flush(self) -> None:
        """Do nothing: what was put is kept, and other processes do not share it."""

    def _make_room(self, size: int) -> bool:
        """Give up what nobody waits for until `size` bytes fit; return whether they do."""
        if size > self.limit:
            return False
        while self._used + size > self.limit:
            if not self._may_go(next(iter(self._kept.values()))):
                return False
            self._drop_oldest()
        return True

    def _may_go(self, entry: _Entry) -> bool:
        return self._patience.clock - entry.asked >= self._patience.asks

    def _drop_oldest(self) -> None:
        _, entry = self._kept.popitem(last=False)
        self._used -= entry.size
        self.n_bytes -= entry.value.nbytes

    def resize(self, limit: int) -> None:
        """Set the limit; what is too much for it goes at once."""
        with _lock:
            self.limit = limit
            while self._used > limit:
                self._drop_oldest()

    def room(self) -> int:
        """Return the bytes that can be kept before something must go that is waited for."""
        with _lock:
            abandoned = sum(entry.size for entry in itertools.takewhile(self._may_go, self._kept.values()))
            return max(0, self.limit - self._used + abandoned)

    def info(self) -> CacheInfo:
        """Return the counts."""
        with _lock:
            return CacheInfo("memory", self._hits, self._misses, len(self._kept), self.n_bytes, self.limit)

    def clear(self) -> None:
        """Forget everything."""
        with _lock:
            self._empty()


process_store = MemoryStore()
