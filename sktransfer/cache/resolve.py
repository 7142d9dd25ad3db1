"""The store that a `cache` parameter names."""

from __future__ import annotations

import os
from pathlib import Path

from sktransfer._utils import local_path
from sktransfer.cache.types import CacheInfo, Store
from sktransfer.config import get_config
from sktransfer.exceptions import InvalidParameterError

__all__ = ["cache_info", "check_folder", "clear_cache", "resolve_store"]


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
        from sktransfer.cache.memory import process_store

        process_store.resize(get_config()["cache_memory"])
        return process_store
    # The database library is imported where a folder is named, and not before.
    from sktransfer.cache.disk_store import folder_store

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
