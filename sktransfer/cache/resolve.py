"""Resolution of the `cache` parameter to a store.

This is the only module that imports both kinds of store.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from sktransfer._utils import local_path
from sktransfer.cache.types import CacheInfo, Store
from sktransfer.config import get_config
from sktransfer.exceptions import InvalidParameterError

__all__ = ["cache_info", "check_folder", "clear_cache", "resolve_store", "without_memory"]

_uses_memory: ContextVar[bool] = ContextVar("uses_memory", default=True)


def resolve_store(cache: str | os.PathLike[str] | None) -> Store | None:
    """Return the store that a `cache` parameter names.

    Parameters
    ----------
    cache : "memory", str, Path or None
        "memory" is the memory store of this process. A path is the folder of a store that all processes share. The
        folder is created by the first write. None is no store.

    Raises
    ------
    InvalidParameterError
        If `cache` is none of these.
    """
    if cache is None:
        return None
    if isinstance(cache, str) and cache == "memory":
        if not _uses_memory.get():
            return None
        from sktransfer.cache.memory import process_store

        process_store.resize(get_config()["cache_memory"])
        return process_store
    from sktransfer.cache.disk import folder_store  # imports lmdb, which only folders need

    return folder_store(check_folder(cache), get_config()["cache_disk"])


@contextmanager
def without_memory() -> Iterator[None]:
    """Do without the memory store in this context, for passes over samples that are read only once."""
    token = _uses_memory.set(False)
    try:
        yield
    finally:
        _uses_memory.reset(token)


def check_folder(cache: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a folder, which need not exist.

    Raises
    ------
    InvalidParameterError
        If `cache` is not a path, or is the path of a file.
    """
    allowed = "must be 'memory', a folder (str or Path) or None"
    if not isinstance(cache, str | os.PathLike) or isinstance(name := os.fspath(cache), bytes):
        raise InvalidParameterError(f"cache={cache!r} {allowed}")
    if not name.strip() or name.lower() in ("memory", "none", "disk", "auto"):  # mistakes that would create a folder
        raise InvalidParameterError(f"cache={cache!r} {allowed}. For a folder of that name give './{name}'")
    path = Path(os.path.realpath(local_path(name)))
    if path.exists() and not path.is_dir():
        raise InvalidParameterError(f"cache={cache!r} {allowed}, and {path} is a file")
    return path


def cache_info(cache: str | os.PathLike[str] = "memory") -> CacheInfo:
    """Return statistics of a store.

    Parameters
    ----------
    cache : "memory", str or Path, default="memory"
        Same as the `cache` parameter of an estimator.

    Returns
    -------
    info : CacheInfo
        Has the attributes `location`, `hits`, `misses`, `n_entries`, `n_bytes` and `limit`. Hits and misses are those
        of this process.

    Raises
    ------
    InvalidParameterError
        If `cache` does not name a store.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.clear_cache()
    >>> sktransfer.cache_info()
    <cache memory: 0 values, 0 bytes of 2.1 GB; 0 hits, 0 misses>
    """
    return _resolve_named(cache).info()


def clear_cache(cache: str | os.PathLike[str] = "memory") -> None:
    """Delete all entries of a store and reset its hits and misses.

    Parameters
    ----------
    cache : "memory", str or Path, default="memory"
        Same as the `cache` parameter of an estimator.

    Raises
    ------
    InvalidParameterError
        If `cache` does not name a store.
    StoreError
        If the folder cannot be written.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.clear_cache()
    """
    _resolve_named(cache).clear()


def _resolve_named(cache: str | os.PathLike[str]) -> Store:
    store = resolve_store(cache)
    if store is None:
        raise InvalidParameterError("cache=None names no store. Give 'memory' or a folder")
    return store
