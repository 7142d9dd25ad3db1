"""Memory store: cache entries of this process, with scan-resistant LRU eviction."""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sktransfer.cache.claims import Claims
from sktransfer.cache.types import CacheInfo, CacheNamespace
from sktransfer.config import DEFAULT_MEMORY

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sktransfer.cache.types import Entries

__all__ = ["MemoryStore", "ScanResistantLRU", "process_store"]

OVERHEAD = 512  # bytes per entry in addition to the values: key, tables and Python objects
SLAB_BYTES = 2**20  # of many small values; one of more than an eighth of it has a slab of its own
_SMALL = 2**14  # bytes of a vector up to which many are copied at once

# One lock for all stores, held during a fork, so that a child does not inherit a store in the middle of a change.
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class ScanResistantLRU:
    """Scan-resistant LRU policy: protect entries for twice the mean reuse interval.

    Training reads its samples in cyclic scans. If they do not all fit, plain LRU evicts the entry that the scan needs
    next and has no hits. This policy therefore protects an entry for `FACTOR` times the mean reuse interval, counted in
    lookups. Scans in order and shuffled scans then hit the part that is kept, because a sample of a shuffled scan
    returns after two scans at most.

    A sample that was never seen counts as a reuse interval of 0. A new data set soon brings the mean to 0, and its
    entries replace those of the old data set, the least recently used first.

    Misses count as lookups too. To bound memory, the last lookup is kept for every sample at first, then for samples
    whose hash is a multiple of 2, 4, 8 and so on (spatial sampling [1]_).

    References
    ----------
    .. [1] Waldspurger et al., "Efficient MRC construction with SHARDS", FAST 2015.
    """

    FACTOR = 2
    REUSE_WEIGHT, NEW_WEIGHT = 1 / 32, 1 / 8  # weights of one more interval in the moving mean
    MAX_TRACKED = 2**16  # samples whose last lookup is kept

    def __init__(self) -> None:
        self.clock = 0  # number of lookups
        self._mean_interval = 0.0
        self._last_lookup: dict[int, int] = {}  # in order of the last lookup
        self._stride = 1  # tracked are samples whose hash is a multiple of it

    @property
    def protected(self) -> float:
        """Number of lookups for which an entry is protected from eviction."""
        return self.FACTOR * self._mean_interval

    def is_evictable(self, last_lookup: int) -> bool:
        """Return whether an entry may be evicted, given the clock at its last lookup."""
        return self.clock - last_lookup >= self.protected

    def record_lookups(self, keys: Iterable[object]) -> None:
        """Count lookups."""
        clock, mean, last_lookup = self.clock, self._mean_interval, self._last_lookup
        reuse, new = self._weights
        for clock, number in enumerate(map(hash, keys), clock + 1):  # noqa: B020, counts on
            if number % self._stride:
                continue
            previous = last_lookup.pop(number, None)
            last_lookup[number] = clock
            if previous is not None:
                mean += (clock - previous - mean) * reuse
                continue
            mean -= mean * new
            if len(last_lookup) > self.MAX_TRACKED:
                self._track_fewer()
                last_lookup, (reuse, new) = self._last_lookup, self._weights
        self.clock, self._mean_interval = clock, mean

    def _track_fewer(self) -> None:
        while len(self._last_lookup) > self.MAX_TRACKED:
            self._stride *= 2
            self._last_lookup = {n: clock for n, clock in self._last_lookup.items() if n % self._stride == 0}

    @property
    def _weights(self) -> tuple[float, float]:
        # A tracked sample stands for `stride` samples, so its weight is that of as many updates.
        return 1 - (1 - self.REUSE_WEIGHT) ** self._stride, 1 - (1 - self.NEW_WEIGHT) ** self._stride


class _Slab:
    """One block of memory for many values.

    Thousands of small blocks between the short-lived ones of the computation would keep the memory of those in use. The
    process would then grow to many times the size of the values.
    """

    def __init__(self, n_bytes: int) -> None:
        import torch  # takes seconds, and statistics of an empty store need none of it

        self.data = torch.empty(n_bytes, dtype=torch.uint8)  # (n_bytes,)
        self.memory = self.data.numpy().data  # the same bytes, of which Python takes a part in less time
        self.views: dict[torch.dtype, Tensor] = {}  # of all bytes
        self.end = self.n_live = 0
        self.keys: set[bytes] = set()

    @property
    def is_sparse(self) -> bool:
        """Whether less than half of the slab is in use."""
        return 2 * self.n_live < len(self.data)

    def add(self, key: bytes, content: memoryview) -> int | None:
        """Copy a value into the slab and return its first byte, None if it does not fit."""
        start, n_bytes = self.end, len(content)
        if start + n_bytes > len(self.memory):
            return None
        self.memory[start : start + n_bytes] = content
        self.end = -(-(start + n_bytes) // 64) * 64  # aligned for all types and vector instructions
        self.n_live += n_bytes
        self.keys.add(key)
        return start

    def remove(self, key: bytes, n_bytes: int) -> None:
        """Count a value as deleted."""
        self.keys.remove(key)
        self.n_live -= n_bytes


class _Layout(NamedTuple):
    """What values of one kind have in common. All entries of a store with equal layouts share one."""

    dtype: torch.dtype
    shape: torch.Size
    n_bytes: int


@dataclass(slots=True)
class _Entry:
    slab: _Slab
    start: int
    layout: _Layout
    last_lookup: int

    @property
    def size(self) -> int:
        return self.layout.n_bytes + OVERHEAD

    @property
    def content(self) -> memoryview:
        return self.slab.memory[self.start : self.start + self.layout.n_bytes]

    @property
    def value(self) -> Tensor:
        dtype, shape, n_bytes = self.layout
        view = self.slab.views.get(dtype)
        if view is None:
            view = self.slab.views[dtype] = self.slab.data.view(dtype)
        values = view[self.start // dtype.itemsize : (self.start + n_bytes) // dtype.itemsize]
        return values if len(shape) == 1 else values.view(shape)


def _as_bytes(value: Tensor) -> memoryview:
    import torch

    return value.detach().contiguous().view(-1).view(torch.uint8).numpy().data  # (n_bytes,)


def _gather(entries: Sequence[_Entry | None]) -> Tensor | None:
    """Return a copy of small vectors of one layout as one tensor (n, n_features), None if some are no such vectors."""
    layout = None if entries[0] is None else entries[0].layout
    if layout is None or len(layout.shape) != 1 or not 0 < layout.n_bytes <= _SMALL:
        return None
    import torch

    parts = [entry.content for entry in entries if entry is not None and entry.layout is layout]
    if len(parts) < len(entries):
        return None
    return torch.frombuffer(bytearray().join(parts), dtype=layout.dtype).view(len(parts), -1)


class MemoryStore:
    """Cache entries in memory, limited in bytes.

    Entries are evicted in LRU order, except for those that `ScanResistantLRU` protects. If the oldest entry is
    protected, the new one is not stored.

    Small values lie together in slabs of 1 MiB, so that the process grows by what `info` reports. A slab of which less
    than half is in use is given back after its values have moved to another one.

    Parameters
    ----------
    limit : int, default=2147483648
        Bytes that the entries may take, including an overhead of 512 bytes per entry.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.cache.memory import MemoryStore
    >>> from sktransfer.cache.types import CacheNamespace
    >>> store = MemoryStore(limit=4000)
    >>> namespace = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")
    >>> store.put(namespace, [b"sample 1"], [torch.zeros(500)])
    >>> store.put(namespace, [b"sample 2"], [torch.ones(500)])
    >>> [value is not None for value in store.get(namespace, [b"sample 1", b"sample 2"])]
    [False, True]
    """

    def __init__(self, limit: int = DEFAULT_MEMORY) -> None:
        self.limit = limit
        self._claims = Claims()
        self._reset()

    def _reset(self) -> None:
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()  # in LRU order
        self._layouts: dict[tuple[torch.dtype, torch.Size], _Layout] = {}
        self._slab: _Slab | None = None  # takes the next values
        self._policy = ScanResistantLRU()
        self._used = 0  # bytes with overhead
        self.n_bytes = 0  # bytes without overhead
        self._hits = self._misses = 0

    def get(self, namespace: CacheNamespace, keys: Sequence[bytes], *, counted: bool = True) -> Entries:
        """Return the entry of each key, None for a missing one. The caller must not change it.

        Small vectors are copied into one tensor (n, n_features) if all are there. That takes a tenth of the time of a
        tensor for each.
        """
        full_keys = [namespace.digest + key for key in keys]
        found: list[_Entry | None] = []
        with _lock:
            clock = self._policy.clock
            if counted:
                self._policy.record_lookups(full_keys)
            for full_key in full_keys:
                clock += counted
                entry = self._entries.get(full_key)
                if entry is not None:
                    entry.last_lookup = clock
                    self._entries.move_to_end(full_key)
                found.append(entry)
            if counted:
                n_misses = found.count(None)
                self._misses += n_misses
                self._hits += len(found) - n_misses
            gathered = _gather(found) if found else None
            return [None if entry is None else entry.value for entry in found] if gathered is None else gathered

    def put(self, namespace: CacheNamespace, keys: Sequence[bytes], values: Sequence[Tensor] | Tensor) -> None:
        """Add entries while there is room, unless their key exists."""
        contents = self._contents(values)
        with _lock:
            for key, (content, layout) in zip(keys, contents, strict=True):
                full_key = namespace.digest + key
                size = layout.n_bytes + OVERHEAD
                if full_key not in self._entries and self._make_room(size):
                    slab, start = self._place(full_key, content)
                    self._entries[full_key] = _Entry(slab, start, layout, self._policy.clock)
                    self._used += size
                    self.n_bytes += layout.n_bytes

    def _contents(self, values: Sequence[Tensor] | Tensor) -> list[tuple[memoryview, _Layout]]:
        """Return the bytes and the layout of each value."""
        import torch

        if not isinstance(values, torch.Tensor):
            return [(_as_bytes(value), self._layout(value)) for value in values]
        content, layout = _as_bytes(values), self._layout(values[0])
        ends = range(layout.n_bytes, len(content) + 1, layout.n_bytes)
        return [(content[end - layout.n_bytes : end], layout) for end in ends]

    def _layout(self, value: Tensor) -> _Layout:
        key = value.dtype, value.shape
        return self._layouts.get(key) or self._layouts.setdefault(key, _Layout(*key, value.nbytes))

    def claim(self, namespace: CacheNamespace, keys: Sequence[bytes]) -> list[bool]:
        """Claim samples for one thread of this process."""
        return self._claims.claim([namespace.name(key) for key in keys])

    def release(self, namespace: CacheNamespace, keys: Sequence[bytes]) -> None:
        """Release claims."""
        self._claims.release([namespace.name(key) for key in keys])

    def flush(self) -> None:
        """Do nothing, because no other process shares this store."""

    def _make_room(self, size: int) -> bool:
        """Evict entries until `size` bytes fit, and return whether they do."""
        if size > self.limit:
            return False
        while self._used + size > self.limit:
            if not self._policy.is_evictable(next(iter(self._entries.values())).last_lookup):
                return False
            self._evict_oldest()
        return True

    def _evict_oldest(self) -> None:
        key, entry = self._entries.popitem(last=False)
        self._used -= entry.size
        self.n_bytes -= entry.layout.n_bytes
        slab = entry.slab
        slab.remove(key, entry.layout.n_bytes)
        if slab is not self._slab and slab.is_sparse:
            for key in list(slab.keys):
                entry = self._entries[key]
                entry.slab, entry.start = self._place(key, entry.content)

    def _place(self, key: bytes, content: memoryview) -> tuple[_Slab, int]:
        """Copy a value into a slab and return the slab and the first byte. A large value gets a slab of its own."""
        if 8 * len(content) > SLAB_BYTES:
            own = _Slab(len(content))
            return own, own.add(key, content) or 0
        start = None if self._slab is None else self._slab.add(key, content)
        if self._slab is None or start is None:
            self._slab = _Slab(SLAB_BYTES)
            start = self._slab.add(key, content)
        return self._slab, start or 0

    def resize(self, limit: int) -> None:
        """Set the limit in bytes and evict entries that exceed it."""
        with _lock:
            self.limit = limit
            while self._used > limit:
                self._evict_oldest()

    def room(self) -> int:
        """Return the bytes that can be added without evicting a protected entry."""
        with _lock:
            evictable = itertools.takewhile(
                lambda entry: self._policy.is_evictable(entry.last_lookup), self._entries.values()
            )
            return max(0, self.limit - self._used + sum(entry.size for entry in evictable))

    def info(self) -> CacheInfo:
        """Return hits, misses and entries."""
        with _lock:
            return CacheInfo("memory", self._hits, self._misses, len(self._entries), self.n_bytes, self.limit)

    def clear(self) -> None:
        """Delete all entries and reset the counts."""
        with _lock:
            self._reset()


process_store = MemoryStore()
