"""Copies of cache entries from stores of other workers or machines into one store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sktransfer.cache.resolve import check_folder, resolve_shared
from sktransfer.cache.serialization import decode
from sktransfer.cache.types import CacheNamespace
from sktransfer.cache.urls import is_url, without_secrets
from sktransfer.config import get_config
from sktransfer.exceptions import InvalidParameterError, StoreError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["merge"]

Entries = Iterator[tuple[CacheNamespace, dict[bytes, "Tensor"]]]
_KEY_BYTES = 20
_AT_ONCE = 256  # entries of a folder that are copied together


def merge(target: str, sources: Sequence[str]) -> dict[str, int]:
    """Copy the entries of other stores into a store. Entries that it has stay as they are.

    The namespace of an entry covers weights, preprocessing, precision and processor, so entries of different workers do
    not mix.

    Parameters
    ----------
    target : str
        Folder or URL of the store to write.
    sources : sequence of str
        Folders or URLs of the stores to read.

    Returns
    -------
    n_entries : dict of str to int
        Number of entries read from each source.

    Raises
    ------
    InvalidParameterError
        If a folder or URL is not valid, or a source is the target.
    StoreError
        If a source has no entries or cannot be read.

    Warns
    -----
    StoreWarning
        If the target cannot be written, or a part of a source is damaged.
    """
    places = [_place(source) for source in sources]
    if _place(target) in places:
        raise InvalidParameterError(f"{without_secrets(target)!r} cannot be merged into itself")
    for source, place in zip(sources, places):  # before anything is written
        if not _has_entries(place):
            raise StoreError(f"{without_secrets(source)} holds no cache entries")
    store: Any
    if is_url(target):
        store = resolve_shared(target)
    else:
        from sktransfer.cache.disk import folder_store

        store = folder_store(check_folder(target), get_config()["cache_disk"])
    counts = {}
    for source, place in zip(sources, places):
        n_entries = 0
        for namespace, entries in _entries(place):
            store.put(namespace, list(entries), list(entries.values()))
            n_entries += len(entries)
        counts[without_secrets(source)] = n_entries
    store.flush()
    return counts


def _place(name: str) -> Any:
    """Return the folder or the shared store of a name."""
    return resolve_shared(name) if is_url(name) else check_folder(name)


def _has_entries(place: Any) -> bool:
    from sktransfer.cache.lmdb import namespace_sizes

    return bool(namespace_sizes(place) if isinstance(place, Path) else place.segments())


def _entries(place: Any) -> Entries:
    if isinstance(place, Path):
        return _folder_entries(place)
    entries: Entries = place.entries(place.segments())
    return entries


def _folder_entries(folder: Path) -> Entries:
    import lmdb

    from sktransfer.cache.lmdb import get_environment, list_namespaces, namespace_path

    try:
        for info in list_namespaces(folder):
            namespace, entries = info.namespace, {}
            with get_environment(namespace_path(folder, namespace)).transaction() as transaction:
                for key, record in () if transaction is None else transaction.cursor():
                    key = bytes(key)
                    value = decode(record, namespace.digest + key) if len(key) == _KEY_BYTES else None
                    if value is not None:
                        entries[key] = value
                    if len(entries) == _AT_ONCE:
                        yield namespace, entries
                        entries = {}
            yield namespace, entries
    except (lmdb.Error, OSError) as error:
        raise StoreError(f"the store in {folder} cannot be read ({error})") from error
