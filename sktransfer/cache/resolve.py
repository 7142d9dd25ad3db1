"""Resolution of the `cache` parameter to a store.

This is the only module that imports all kinds of stores.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sktransfer._utils import local_path
from sktransfer.cache.types import Cache, CacheInfo, Store
from sktransfer.cache.urls import is_url, without_secrets
from sktransfer.config import get_config
from sktransfer.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from sktransfer.cache.shared import SharedStore

__all__ = ["cache_info", "check_folder", "clear_cache", "resolve_shared", "resolve_store", "without_memory"]

_FEW_BYTES = 128 * 1024**2  # of segments below a URL that are kept where the memory store is not used
_ALLOWED = "must be 'memory', a folder (str or Path), a URL, a list of 'memory' or a folder and a URL, or None"
_uses_memory: ContextVar[bool] = ContextVar("uses_memory", default=True)


def resolve_store(cache: Cache) -> Store | None:
    """Return the store that a `cache` parameter names.

    Parameters
    ----------
    cache : "memory", str, Path, list or None
        "memory" is the memory store of this process. A path is the folder of a store that the processes of this machine
        share. The folder is created by the first write. A list of one of these and a URL is a store of two levels, of
        which all machines share the second. A URL alone is shared by all machines, with the memory of this process as
        the first level. None is no store.

    Raises
    ------
    InvalidParameterError
        If `cache` is none of these, or a folder lies on a network file system.
    StoreError
        If the storage of a URL cannot be reached.
    """
    if cache is None:
        return None
    local, url = _split(cache)
    if url is None:
        return _local_store(local)
    from sktransfer.cache.levels import layered_store

    return layered_store(_local_store(local) or _few_values(), resolve_shared(url))


@contextmanager
def without_memory() -> Iterator[None]:
    """Do without the memory store in this context, for passes over samples that are read only once."""
    token = _uses_memory.set(False)
    try:
        yield
    finally:
        _uses_memory.reset(token)


@functools.cache
def _few_values() -> Store:
    from sktransfer.cache.memory import MemoryStore

    return MemoryStore(_FEW_BYTES)


def _split(cache: Any) -> tuple[Any, str | None]:
    """Return what names the store of this machine, and the URL or None."""
    if is_url(cache):
        return "memory", cache
    if not isinstance(cache, list | tuple):
        return cache, None
    if len(cache) == 2 and not is_url(cache[0]) and is_url(cache[1]):
        return cache[0], cache[1]
    raise InvalidParameterError(f"cache={_shown(cache)} {_ALLOWED}")


def _local_store(cache: Any) -> Store | None:
    if isinstance(cache, str) and cache == "memory":
        if not _uses_memory.get():
            return None
        from sktransfer.cache.memory import process_store

        process_store.resize(get_config()["cache_memory"])
        return process_store
    folder = check_folder(cache)
    from sktransfer.cache.disk import folder_store  # imports lmdb, which only folders need

    return folder_store(folder, get_config()["cache_disk"])


def resolve_shared(url: str) -> SharedStore:
    """Return the shared store of a URL.

    Parameters
    ----------
    url : str

    Raises
    ------
    InvalidParameterError
        If the URL is not valid.
    StoreError
        If the storage cannot be reached.
    """
    from sktransfer.cache.shared import shared_store  # imports fsspec, which only URLs need

    return shared_store(url)


def check_folder(cache: Any) -> Path:
    """Return the absolute path of a folder, which need not exist.

    Raises
    ------
    InvalidParameterError
        If `cache` is not a path, or is the path of a file.
    """
    if not isinstance(cache, str | os.PathLike) or isinstance(name := os.fspath(cache), bytes):
        raise InvalidParameterError(f"cache={_shown(cache)} {_ALLOWED}")
    if not name.strip() or name.lower() in ("memory", "none", "disk", "auto"):  # mistakes that would create a folder
        raise InvalidParameterError(f"cache={_shown(cache)} {_ALLOWED}. For a folder of that name give './{name}'")
    if scheme := re.match(r"([a-z0-9+]{2,}):/(?!/)(.*)", name):
        url = f"{scheme[1]}://{'/' if scheme[1] in ('file', 'local') else ''}{scheme[2]}"
        reason = "A URL has two slashes after its scheme" if isinstance(cache, str) else "A Path is no URL"
        raise InvalidParameterError(
            f"cache={_shown(cache)} {_ALLOWED}. {reason}, so give the string {without_secrets(url)!r}"
        )
    path = Path(os.path.realpath(local_path(name)))
    if path.exists() and not path.is_dir():
        raise InvalidParameterError(f"cache={_shown(cache)} {_ALLOWED}, and {path} is a file")
    return path


def _shown(cache: Any) -> str:
    return without_secrets(repr(cache))


def cache_info(cache: Cache = "memory") -> CacheInfo:
    """Return statistics of a store.

    Parameters
    ----------
    cache : "memory", str, Path or list, default="memory"
        Same as the `cache` parameter of an estimator. A URL alone names the shared store, and a list both levels.

    Returns
    -------
    info : CacheInfo
        Has the attributes `location`, `hits`, `misses`, `n_entries`, `n_bytes` and `limit`. Hits and misses are those
        of this process. The entries of a list are those of this machine.

    Raises
    ------
    InvalidParameterError
        If `cache` does not name a store.
    StoreError
        If the storage of a URL cannot be reached.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.clear_cache()
    >>> sktransfer.cache_info()
    <cache memory: 0 values, 0 bytes of 2.1 GB; 0 hits, 0 misses>
    >>> sktransfer.cache_info("memory://run")
    <cache memory://run: 0 values, 0 bytes; 0 hits, 0 misses>
    """
    return _resolve_named(cache).info()


def clear_cache(cache: Cache = "memory") -> None:
    """Delete all entries of a store and reset its hits and misses.

    Parameters
    ----------
    cache : "memory", str, Path or list, default="memory"
        Same as the `cache` parameter of an estimator. A URL alone names the shared store, whose entries are deleted for
        all machines. A list names both levels.

    Raises
    ------
    InvalidParameterError
        If `cache` does not name a store.
    StoreError
        If the folder cannot be written, or the storage of a URL cannot be reached or changed.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.clear_cache()
    """
    _resolve_named(cache).clear()


def _resolve_named(cache: Cache) -> Store | SharedStore:
    if isinstance(cache, str) and is_url(cache):
        return resolve_shared(cache)
    store = resolve_store(cache)
    if store is None:
        raise InvalidParameterError("cache=None names no store. Give 'memory', a folder or a URL")
    return store
