"""Types that memory and folder stores share. They do not need torch, because the command line uses them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    # Entries of some keys, None for a missing one; or all of them as one tensor.
    Entries: TypeAlias = Sequence[Tensor | None] | Tensor

__all__ = ["Cache", "CacheInfo", "CacheNamespace", "NamespaceInfo", "Store", "readable_size"]

# Values of the parameter `cache`.
Cache = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None


@dataclass(frozen=True)
class CacheNamespace:
    """Everything that a cache entry depends on except the sample.

    Parameters
    ----------
    digest : bytes of length 16
        Hash of the fingerprint of the frozen stages, preprocessing, pooling, precision and stored dtype.
    backbone : str
        Name of the backbone, as in 'tiny/cnn'. Like the parameters below it is for display only.
    stage : str
        Name of the stage, as in 'block4', or 'input' for the input of the first stage.
    pooling : str
        Name of the pooling, as in 'average', or '' for values that are not pooled.
    dtype : str
        Stored dtype, as in 'float32'.
    """

    digest: bytes
    backbone: str
    stage: str
    pooling: str
    dtype: str

    def name(self, key: bytes) -> bytes:
        """Return the hash that a sample is claimed by, from those of the namespace and the sample."""
        return bytes(a ^ b for a, b in zip(self.digest, key)) + key[len(self.digest) :]


@dataclass(frozen=True, repr=False)
class CacheInfo:
    """Statistics of a store.

    Parameters
    ----------
    location : str
        'memory', the folder or the URL. Both levels if `cache` names two.
    hits, misses : int
        Number of entries that this process has looked up and found, or not found.
    n_entries : int
        Number of entries.
    n_bytes : int
        Bytes of the entries.
    limit : int or None
        Bytes that the entries may take, None below a URL.
    """

    location: str
    hits: int
    misses: int
    n_entries: int
    n_bytes: int
    limit: int | None

    def __repr__(self) -> str:
        limit = "" if self.limit is None else f" of {readable_size(self.limit)}"
        sizes = f"{readable_size(self.n_bytes)}{limit}"
        return f"<cache {self.location}: {self.n_entries} values, {sizes}; {self.hits} hits, {self.misses} misses>"


@dataclass(frozen=True)
class NamespaceInfo:
    """Content of a namespace in a folder or below a URL.

    Parameters
    ----------
    namespace : CacheNamespace
    n_entries : int
        Number of cache entries.
    n_bytes : int
        Bytes of the entries.
    used : float
        Time of the last use, or below a URL of the last write, in seconds since 1970.
    """

    namespace: CacheNamespace
    n_entries: int
    n_bytes: int
    used: float


class Store(Protocol):
    """Store of cache entries: CPU tensors of any shape, by namespace and by the sample's key of 20 bytes."""

    def get(self, namespace: CacheNamespace, keys: Sequence[bytes], *, counted: bool = True) -> Entries:
        """Return the entry of each key, None for a missing one. The caller must not change it.

        If all are there, they may come as one tensor (n, ...). A second look at the same keys is not `counted` as a
        lookup.
        """

    def put(self, namespace: CacheNamespace, keys: Sequence[bytes], values: Sequence[Tensor] | Tensor) -> None:
        """Add contiguous tensors, or one tensor (n, ...) of all. The caller must not change them afterwards."""

    def claim(self, namespace: CacheNamespace, keys: Sequence[bytes]) -> list[bool]:
        """Claim samples that the caller computes now, and return for each whether nobody else computes it."""

    def release(self, namespace: CacheNamespace, keys: Sequence[bytes]) -> None:
        """Release claims as soon as the entries that were added before are visible to all who share the store."""

    def flush(self) -> None:
        """Make the entries visible to other processes that share the store."""

    def room(self) -> int | None:
        """Return the bytes that can be added before a protected entry is evicted or storing ends, None if unknown."""

    def info(self) -> CacheInfo:
        """Return hits, misses and entries."""

    def clear(self) -> None:
        """Delete all entries and reset the counts."""


def readable_size(n_bytes: int) -> str:
    """Format a number of bytes with a decimal unit.

    Examples
    --------
    >>> from sktransfer.cache.types import readable_size
    >>> readable_size(999), readable_size(2 * 1024**3)
    ('999 bytes', '2.1 GB')
    """
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    size, unit = float(n_bytes), "bytes"
    for unit in ("kB", "MB", "GB", "TB"):  # noqa: B007, used after the loop
        size /= 1000
        if size < 999.95:
            break
    return f"{size:.1f} {unit}"
