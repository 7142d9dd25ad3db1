"""Outputs of frozen stages, kept for reuse: by sample content, so that folds, candidates and clones share them.

What a store is, and which one a `cache` parameter names. Nothing here needs torch: the command line shows stores too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CacheInfo", "CacheNamespace", "Store", "readable_size"]


@dataclass(frozen=True)
class CacheNamespace:
    """What is kept of samples: everything that a value depends on but the sample itself.

    Parameters
    ----------
    digest : bytes of length 16
        A hash of it all: fingerprint, preprocessing, pooling, precision, the dtype stored.
    backbone : str
        For people, as the rest is: 'tiny/cnn'.
    stage : str
        'block4', or 'input' for what the first stage takes.
    pooling : str
        'average', or '' for the values themselves.
    dtype : str
        'float32'.
    """

    digest: bytes
    backbone: str
    stage: str
    pooling: str
    dtype: str


@dataclass(frozen=True, repr=False)
class CacheInfo:
    """How a store is doing.

    Parameters
    ----------
    location : str
        'memory', or the folder.
    hits, misses : int
        Values that this process has asked for and found, or not found.
    n_entries : int
        Values kept.
    n_bytes : int
        Bytes that they take.
    limit : int
        Bytes that they may take.
    """

    location: str
    hits: int
    misses: int
    n_entries: int
    n_bytes: int
    limit: int

    def __repr__(self) -> str:
        sizes = f"{readable_size(self.n_bytes)} of {readable_size(self.limit)}"
        return f"<cache {self.location}: {self.n_entries} values, {sizes}; {self.hits} hits, {self.misses} misses>"


class Store(Protocol):
    """Where values of samples are kept: CPU tensors of any shape, under a column and the sample's key of 20 bytes."""

    def get(self, column: CacheNamespace, keys: Sequence[bytes]) -> list[Tensor | None]:
        """Return what is kept under each key, or None. The caller must not change it."""

    def put(self, column: CacheNamespace, keys: Sequence[bytes], values: Sequence[Tensor]) -> None:
        """Keep values: contiguous, each in memory of its own, not to be changed from now on."""

    def flush(self) -> None:
        """Let other processes find what was put, where they share the store."""

    def room(self) -> int | None:
        """Return the bytes that fit before what is waited for must go, or storing ends; None where nothing says."""

    def info(self) -> CacheInfo:
        """Return the counts."""

    def clear(self) -> None:
        """Forget everything."""


def readable_size(n_bytes: int) -> str:
    """Return a number of bytes as people write it.

    Examples
    --------
    >>> from sktransfer.cache.types import readable_size
    >>> readable_size(999), readable_size(2 * 1024**3)
    ('999 bytes', '2.1 GB')
    """
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    size, unit = float(n_bytes), "bytes"
    for unit in ("kB", "MB", "GB", "TB"):  # noqa: B007, the one that is reached is used below
        size /= 1000
        if size < 999.95:
            break
    return f"{size:.1f} {unit}"
