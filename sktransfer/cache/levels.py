"""Store of two levels: one of this machine, and a shared one below a URL."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sktransfer._utils import after_fit
from sktransfer.cache.shared import SharedStore
from sktransfer.cache.types import CacheInfo, CacheNamespace, Store

if TYPE_CHECKING:
    from torch import Tensor

    from sktransfer.cache.types import Entries

__all__ = ["LayeredStore", "layered_store"]

_lock = threading.Lock()


class LayeredStore:
    """Cache entries of this machine, and of all machines that use a URL.

    Entries are looked up on this machine first. Segments that hold missing ones are copied to this machine. New entries
    go to both levels, and entries that only this machine has to the shared level. That level writes them at the end of
    `fit` or of another call, and earlier if there are about a thousand.

    Parameters
    ----------
    local : Store
        Store in memory or in a folder.
    shared : SharedStore
        Store below a URL.
    """

    def __init__(self, local: Store, shared: SharedStore) -> None:
        self.local, self.shared = local, shared
        self._hits = self._misses = 0

    def get(self, namespace: CacheNamespace, keys: Sequence[bytes], *, counted: bool = True) -> Entries:
        """Return the entry of each key, None for a missing one. The caller must not change it."""
        values = self.local.get(namespace, keys, counted=counted)
        known = {key: value for key, value in zip(keys, values) if value is not None}
        self.shared.put(namespace, list(known), list(known.values()))  # which leaves out those that it holds
        missing = [key for key, value in zip(keys, values) if value is None]
        if missing and (fetched := self.shared.fetch(namespace, missing, counted=counted)):
            self.local.put(namespace, list(fetched), list(fetched.values()))
            values = [fetched.get(key) if value is None else value for key, value in zip(keys, values)]
        if counted:
            n_misses = sum(value is None for value in values)
            with _lock:
                self._misses += n_misses
                self._hits += len(values) - n_misses
        return values

    def put(self, namespace: CacheNamespace, keys: Sequence[bytes], values: Sequence[Tensor] | Tensor) -> None:
        """Add contiguous tensors, or one tensor of all. The caller must not change them afterwards."""
        self.local.put(namespace, keys, values)
        self.shared.put(namespace, keys, values)

    def claim(self, namespace: CacheNamespace, keys: Sequence[bytes]) -> list[bool]:
        """Claim samples among the processes of this machine."""
        return self.local.claim(namespace, keys)

    def release(self, namespace: CacheNamespace, keys: Sequence[bytes]) -> None:
        """Release claims of this machine."""
        self.local.release(namespace, keys)

    def flush(self) -> None:
        """Make the entries visible to processes of this machine, and at the end of `fit` to other machines."""
        self.local.flush()
        after_fit(self.shared.flush)

    def room(self) -> int | None:
        """Return the bytes that can be added on this machine."""
        return self.local.room()

    def info(self) -> CacheInfo:
        """Return hits and misses of both levels together, and the entries of this machine."""
        local = self.local.info()
        location = f"{local.location} and {self.shared.location.url}"
        return CacheInfo(location, self._hits, self._misses, local.n_entries, local.n_bytes, local.limit)

    def clear(self) -> None:
        """Delete all entries of both levels and reset the counts.

        Raises
        ------
        StoreError
            If the folder or the URL cannot be changed.
        """
        self.local.clear()
        self.shared.clear()
        self._hits = self._misses = 0


_stores: dict[tuple[int, str], LayeredStore] = {}


def layered_store(local: Store, shared: SharedStore) -> LayeredStore:
    """Return the store of two levels, one per process.

    Parameters
    ----------
    local : Store
        Store in memory or in a folder, one per process.
    shared : SharedStore
        Store below a URL, one per process.
    """
    with _lock:
        return _stores.setdefault((id(local), shared.location.url), LayeredStore(local, shared))
