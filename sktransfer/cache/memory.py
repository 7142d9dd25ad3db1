"""The process's own store: tensors in memory, up to a number of bytes."""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sktransfer.cache.types import CacheInfo, CacheNamespace
from sktransfer.config import DEFAULT_MEMORY

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MemoryStore", "Patience", "process_store"]

OVERHEAD = 512  # bytes beside the values: the tensor, its storage, its key, the table they stand in

# One for all stores of the process, and held while it forks: a child never finds a store in the middle of a change.
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class Patience:
    """Learn after how many asks a sample is asked for again, and from it, when one can be given up.

    Training asks for its samples in rounds. Where they do not all fit, throwing out the least recently used is the
    worst choice: it always throws out what the round comes to next, and nothing is found. So, while samples return,
    a value stays for `FACTOR` times the mean interval between two asks for the same sample: rounds, in order or
    shuffled, find their kept share each time (in shuffled rounds a sample waits two rounds at most). Samples never seen
    before count as an interval of 0: a new data set soon brings the mean down, and with no patience left, it displaces
    the abandoned one, least recently used first.

    Intervals are seen on misses too. To bound what is remembered, it is every sample at first, then those whose hash is
    a multiple of 2, 4, 8, ... (spatial sampling: Waldspurger et al., "Efficient MRC construction with SHARDS", 2015).
    """

    FACTOR = 2
    RETURNING, NEW = 1 / 32, 1 / 8  # weights of one more interval in the mean
    REMEMBERED = 2**16

    def __init__(self) -> None:
        self.clock = 0  # asks so far
        self._mean = 0.0
        self._last: dict[int, int] = {}
        self._every = 1

    @property
    def asks(self) -> float:
        """Asks for which a value stays."""
        return self.FACTOR * self._mean

    def see(self, key: object) -> None:
        """Count one ask."""
        self.clock += 1
        number = hash(key)
        if number % self._every:
            return
        before = self._last.pop(number, None)
        self._last[number] = self.clock  # at the end: the dict is in order of the last ask
        if before is None:
            self._move_mean(0, self.NEW)
            self._forget()
        else:
            self._move_mean(self.clock - before, self.RETURNING)

    def _move_mean(self, interval: int, weight: float) -> None:
        # One sample that is remembered speaks for all those between it and the next one.
        self._mean += (interval - self._mean) * (1 - (1 - weight) ** self._every)

    def _forget(self) -> None:
        while len(self._last) > self.REMEMBERED:
            self._every *= 2
            self._last = {number: when for number, when in self._last.items() if number % self._every == 0}


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
    >>> from sktransfer.cache.memory import MemoryStore
    >>> from sktransfer.cache.types import CacheNamespace
    >>> store = MemoryStore(limit=4000)
    >>> column = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")
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

    def get(self, column: CacheNamespace, keys: Sequence[bytes]) -> list[Tensor | None]:
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

    def put(self, column: CacheNamespace, keys: Sequence[bytes], values: Sequence[Tensor]) -> None:
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
