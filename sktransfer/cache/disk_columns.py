"""What a folder's store holds, by column: listing, forgetting, and giving the space back. Needs no torch."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from sktransfer.cache.lmdb_environment import LAYOUT, Environment
from sktransfer.cache.types import CacheNamespace

__all__ = [
    "KeptColumn",
    "add",
    "clear",
    "forget",
    "key_of",
    "list_columns",
    "mark_used",
    "other_versions",
    "prune",
    "size_on_disk",
]

# Keys of the database: this and a digest for what a column is, the other and a digest and a sample's key for a value.
_COLUMN, _VALUE = b"c", b"v"
_PART = 10_000  # values that are deleted at once: others may want to write in between


@dataclass(frozen=True)
class KeptColumn:
    """A column of the store, and what is kept of it; `used` in seconds since 1970."""

    column: CacheNamespace
    n_entries: int
    n_bytes: int
    used: float


def key_of(column: CacheNamespace, sample: bytes) -> bytes:
    """Return the key that a sample's value lies under."""
    return _VALUE + column.digest + sample


def add(transaction: Any, column: CacheNamespace, n_entries: int, n_bytes: int) -> None:
    """Count values that the transaction has written, or deleted."""
    key = _COLUMN + column.digest
    kept = _read(transaction.get(key))
    kept |= {"backbone": column.backbone, "stage": column.stage, "pooling": column.pooling, "dtype": column.dtype}
    kept |= {"n_entries": kept.get("n_entries", 0) + n_entries, "n_bytes": kept.get("n_bytes", 0) + n_bytes}
    transaction.put(key, json.dumps(kept).encode())


def _read(record: Any) -> dict[str, Any]:
    if record is None:
        return {}
    try:
        kept: dict[str, Any] = json.loads(bytes(record))
    except ValueError as error:
        raise lmdb.CorruptedError(f"a column's description cannot be read: {error}") from error
    return kept


def mark_used(environment: Environment, column: CacheNamespace) -> None:
    """Note that a column was asked for: as a file's time, which waits for no other process."""
    folder = environment.layout / "used"
    with suppress(OSError):  # of a folder that cannot be written, nothing is pruned either
        folder.mkdir(parents=True, exist_ok=True)
        (folder / column.digest.hex()).touch()


def list_columns(environment: Environment) -> list[KeptColumn]:
    """Return what is kept, the most recently used first.

    Raises
    ------
    lmdb.Error, OSError
        If the database cannot be read.
    """
    kept = []
    with environment.transaction() as transaction, transaction.cursor() as cursor:
        there = cursor.set_range(_COLUMN)
        while there and bytes(cursor.key()).startswith(_COLUMN):
            digest, found = bytes(cursor.key())[1:], _read(cursor.value())
            n_entries, n_bytes = found.pop("n_entries"), found.pop("n_bytes")
            kept.append(KeptColumn(CacheNamespace(digest, **found), n_entries, n_bytes, _used(environment, digest)))
            there = cursor.next()
    return sorted(kept, key=lambda one: -one.used)


def _used(environment: Environment, digest: bytes) -> float:
    try:
        return (environment.layout / "used" / digest.hex()).stat().st_mtime
    except OSError:
        return 0.0


def prune(environment: Environment, *, size: int | None = None, days: float | None = None) -> list[KeptColumn]:
    """Forget whole columns, the least recently used first, and give their space back.

    Parameters
    ----------
    environment : Environment
        The database.
    size : int, default=None
        Bytes that the values may take afterwards.
    days : float, default=None
        Columns that nobody has asked for in so many days go.

    Returns
    -------
    gone : list of KeptColumn

    Raises
    ------
    lmdb.Error, OSError
        If the folder cannot be written, or has not the space for a copy of what stays.
    """
    kept = list_columns(environment)
    left = sum(one.n_bytes for one in kept)
    gone = []
    for one in reversed(kept):
        old = days is not None and one.used < time.time() - days * 86400
        if old or (size is not None and left > size):
            gone.append(one)
            left -= one.n_bytes
    forget(environment, [one.column for one in gone])
    compact(environment)
    return gone


def forget(environment: Environment, columns: Iterable[CacheNamespace]) -> None:
    """Delete the values of columns; the space is used again, the file stays as large as it is."""
    for column in columns:
        while _forget_part(environment, column):
            pass
        with suppress(OSError):
            (environment.layout / "used" / column.digest.hex()).unlink()


def _forget_part(environment: Environment, column: CacheNamespace) -> bool:
    """Delete some values of a column; return whether there may be more."""
    prefix, n_entries, n_bytes = _VALUE + column.digest, 0, 0
    with environment.transaction(write=True) as transaction, transaction.cursor() as cursor:
        while n_entries < _PART and cursor.set_range(prefix) and bytes(cursor.key()).startswith(prefix):
            n_entries, n_bytes = n_entries + 1, n_bytes + len(cursor.value())
            cursor.delete()
        if n_entries == _PART:
            add(transaction, column, -n_entries, -n_bytes)
            return True
        transaction.delete(_COLUMN + column.digest)
    return False


def compact(environment: Environment) -> None:
    """Put a copy without unused space in the database's place.

    Processes that have the old one open go on with it, and see at their next transaction that it was replaced. What
    they wrote in between is lost, and computed again.
    """
    _remove_leftovers(environment)
    fresh = environment.layout / f"new-{secrets.token_hex(8)}"
    try:
        with environment.transaction(write=True):  # nobody else writes meanwhile
            environment.copy_compact(fresh)
            gone = _move_away(environment)
            _move_in(fresh, environment)
        environment.close()
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(gone, ignore_errors=True)


def clear(environment: Environment) -> None:
    """Forget everything, and give the space back."""
    environment.close()
    if environment.database.exists():
        shutil.rmtree(_move_away(environment))
    shutil.rmtree(environment.layout / "used", ignore_errors=True)
    _remove_leftovers(environment)


def _move_away(environment: Environment) -> Path:
    """Rename the database's folder, lock and all: whoever has it open can go on, and nobody opens it again."""
    gone = environment.layout / f"gone-{secrets.token_hex(8)}"
    environment.database.rename(gone)
    return gone


def _move_in(fresh: Path, environment: Environment) -> None:
    while True:
        try:
            fresh.rename(environment.database)
        except OSError:
            if not environment.database.exists():
                raise
            # Another process found no database, and began one.
            shutil.rmtree(_move_away(environment), ignore_errors=True)
        else:
            return


def _remove_leftovers(environment: Environment) -> None:
    """Remove what a process that died while it cleared or compacted has left."""
    for pattern in ("gone-*", "new-*"):
        for path in environment.layout.glob(pattern):
            if time.time() - path.stat().st_mtime > 3600:  # not another one's that is at work
                shutil.rmtree(path, ignore_errors=True)


def size_on_disk(folder: Path) -> int | None:
    """Return the bytes of a folder's database, or None where there is none."""
    with suppress(OSError):
        return (folder / LAYOUT / "lmdb" / "data.mdb").stat().st_size
    return None


def other_versions(folder: Path) -> list[str]:
    """Return the names of what other versions of sktransfer keep in a folder."""
    prefix = LAYOUT.rpartition("-")[0] + "-"
    with suppress(OSError):
        return sorted(name for name in os.listdir(folder) if name.startswith(prefix) and name != LAYOUT)  # noqa: PTH208
    return []
