"""Outputs of frozen stages, kept for reuse: by sample content, so that folds, candidates and clones share them.

What a store is, and which one a `cache` parameter names. Nothing here needs torch: the command line shows stores too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sktransfer.config import get_config
from sktransfer.exceptions import InvalidParameterError
from sktransfer.paths import local_path

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CacheInfo", "Column", "Store", "cache_info", "clear_cache", "readable_size", "resolve_store"]


@dataclass(frozen=True)
class Column:
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

    def get(self, column: Column, keys: Sequence[bytes]) -> list[Tensor | None]:
        """Return what is kept under each key, or None. The caller must not change it."""

    def put(self, column: Column, keys: Sequence[bytes], values: Sequence[Tensor]) -> None:
        """Keep values: contiguous, each in memory of its own, not to be changed from now on."""

    def flush(self) -> None:
        """Let other processes find what was put, where they share the store."""

    def room(self) -> int | None:
        """Return the bytes that fit before what is waited for must go, or storing ends; None where nothing says."""

    def info(self) -> CacheInfo:
        """Return the counts."""

    def clear(self) -> None:
        """Forget everything."""


def resolve_store(cache: str | os.PathLike[str] | None) -> Store | None:
    """Return the store that a `cache` parameter names.

    Parameters
    ----------
    cache : "memory", str, Path or None
        "memory" is the process's own; a folder is made where it is missing, and shared with all processes that name
        it; None is no store.

    Raises
    ------
    InvalidParameterError
        If it is anything else.
    """
    if cache is None:
        return None
    if isinstance(cache, str) and cache == "memory":
        from sktransfer.engine.memory_store import process_store

        process_store.resize(get_config()["cache_memory"])
        return process_store
    # The database library is imported where a folder is named, and not before.
    from sktransfer.engine.disk_store import folder_store

    return folder_store(check_folder(cache), get_config()["cache_disk"])


def check_folder(cache: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a folder that a user names; it need not be there yet.

    Raises
    ------
    InvalidParameterError
        If it cannot be a folder.
    """
    allowed = "must be 'memory', a folder (str or Path) or None"
    if not isinstance(cache, str | os.PathLike) or isinstance(name := os.fspath(cache), bytes):
        raise InvalidParameterError(f"cache={cache!r} {allowed}")
    if not name.strip() or name.lower() in ("memory", "none", "disk", "auto"):  # slips that would make a folder
        raise InvalidParameterError(f"cache={cache!r} {allowed}; for a folder of that name give './{name}'")
    path = Path(os.path.realpath(local_path(name)))
    if path.exists() and not path.is_dir():
        raise InvalidParameterError(f"cache={cache!r} {allowed}; {path} is a file")
    return path


def cache_info(cache: str | os.PathLike[str] = "memory") -> CacheInfo:
    """Return what a store holds, and how often it was of use to this process.

    Parameters
    ----------
    cache : "memory", str or Path, default="memory"
        As an estimator's `cache`.

    Returns
    -------
    info : CacheInfo
        With `location`, `hits`, `misses`, `n_entries`, `n_bytes`, `limit`.

    Raises
    ------
    InvalidParameterError
        If `cache` names no store.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.clear_cache()
    >>> sktransfer.cache_info()
    <cache memory: 0 values, 0 bytes of 2.1 GB; 0 hits, 0 misses>
    """
    return _named(cache).info()


def clear_cache(cache: str | os.PathLike[str] = "memory") -> None:
    """Forget all that a store holds, and set its counts of hits and misses to 0.

    Parameters
    ----------
    cache : "memory", str or Path, default="memory"
        As an estimator's `cache`.

    Raises
    ------
    InvalidParameterError
        If `cache` names no store.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.clear_cache()
    """
    _named(cache).clear()


def _named(cache: str | os.PathLike[str]) -> Store:
    store = resolve_store(cache)
    if store is None:
        raise InvalidParameterError("cache=None names no store: give 'memory' or a folder")
    return store


def readable_size(n_bytes: int) -> str:
    """Return a number of bytes as people write it.

    Examples
    --------
    >>> from sktransfer.engine.store import readable_size
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
