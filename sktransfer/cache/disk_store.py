"""A store in a folder, shared by all processes that name it."""

from __future__ import annotations

import atexit
import os
import shutil
import threading
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb

from sktransfer.cache import disk_columns
from sktransfer.cache.lmdb_environment import Environment
from sktransfer.cache.types import CacheInfo, CacheNamespace, readable_size
from sktransfer.exceptions import StoreError, StoreWarning

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DiskStore", "Pending", "Waiting", "folder_store"]

_lock = threading.Lock()  # for what is counted and what waits
_writing = threading.Lock()  # one writes, and others go on meanwhile
if hasattr(os, "register_at_fork"):
    # Held while the process forks: a child never finds them taken by a thread that it does not have.
    for _one in (_lock, _writing):
        os.register_at_fork(before=_one.acquire, after_in_parent=_one.release, after_in_child=_one.release)

_DAMAGED = (
    lmdb.CorruptedError,
    lmdb.IncompatibleError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)
PAUSE = 60.0  # seconds without writing after a write that failed, and between two notes that a column is in use


class DiskStore:
    """Values in an LMDB database; whatever is wrong with it, computing goes on without.

    What is put is written together, twice a second and at `flush`: whoever is killed loses that, and nothing that was
    written. Reading waits for no writer. A value that is not what was written, by its checksum, counts as not there,
    and is replaced.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    limit : int
        Bytes that the database may take.

    Warns
    -----
    StoreWarning
        Once for each of these: it is full, the disk is full, it cannot be written, its file is damaged, there is data
        of another version.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self._environment = Environment(folder, limit)
        self._pending = Pending(_lock)
        self._reset()
        self._told: set[str] = set()
        if others := disk_columns.other_versions(folder):
            self._tell(
                f"{folder} holds data of another version of sktransfer ({', '.join(others)}): it is left alone and not "
                "read; delete it if no other version needs it"
            )

    def _reset(self) -> None:
        self._hits = self._misses = 0
        self._used: dict[bytes, float] = {}
        self._paused_until = 0.0
        self._broken = False

    def get(self, column: CacheNamespace, keys: Sequence[bytes]) -> list[Tensor | None]:
        """Return what is kept under each key, or None; each in memory of its own."""
        from sktransfer.cache.serialization import decode

        found: list[Tensor | None] = [None] * len(keys)
        if not self._broken:
            try:
                with self._environment.transaction() as transaction:
                    for position, key in enumerate(keys):
                        full = disk_columns.key_of(column, key)
                        record = self._pending.find(full) or transaction.get(full)
                        found[position] = None if record is None else decode(memoryview(record), full)
            except (lmdb.Error, OSError) as error:
                self._give_up(error)
        misses = sum(value is None for value in found)
        with _lock:
            self._misses += misses
            self._hits += len(found) - misses
        if misses < len(found):
            self._note_use(column)
        return found

    def put(self, column: CacheNamespace, keys: Sequence[bytes], values: Sequence[Tensor]) -> None:
        """Keep values; of two under one key the first. They are found at once, and by others when they are written."""
        from sktransfer.cache.serialization import encode

        if self._broken or time.monotonic() < self._paused_until:
            return
        full = [disk_columns.key_of(column, key) for key in keys]
        records = [(key, encode(value, key)) for key, value in zip(full, values, strict=True)]
        if self._pending.add(column, records):
            self.flush()

    def flush(self) -> None:
        """Write what was put."""
        with _writing:
            waiting = self._pending.take()
            try:
                if waiting:
                    self._write(waiting)
            except (lmdb.Error, OSError) as error:
                self._pause(error)
            else:
                for column in {one[0] for one in waiting}:
                    self._note_use(column)
            finally:
                self._pending.done()

    def _write(self, waiting: Sequence[Waiting], *, again: bool = True) -> None:
        """Write records in one transaction; as many as fit, where not all of them do."""
        try:
            self._write_all(waiting)
        except lmdb.MapFullError:
            # What processes that died were reading may still be in the way.
            if again and self._environment.free_readers():
                self._write(waiting, again=False)
            elif len(waiting) > 1:
                half = len(waiting) // 2
                self._write(waiting[:half], again=False)
                self._write(waiting[half:], again=False)
            else:
                raise

    def _write_all(self, waiting: Sequence[Waiting]) -> None:
        from sktransfer.cache.serialization import intact

        written: dict[CacheNamespace, list[int]] = {}
        with self._environment.transaction(write=True) as transaction:
            for column, key, record in waiting:
                counts = written.setdefault(column, [0, 0])
                old = transaction.get(key)
                if old is not None:
                    if intact(old, key):
                        continue
                    counts[0], counts[1] = counts[0] - 1, counts[1] - len(old)
                transaction.put(key, record)
                counts[0], counts[1] = counts[0] + 1, counts[1] + len(record)
            for column, (n_entries, n_bytes) in written.items():
                if n_entries or n_bytes:
                    disk_columns.add(transaction, column, n_entries, n_bytes)

    def _note_use(self, column: CacheNamespace) -> None:
        now = time.monotonic()
        if now - self._used.get(column.digest, -PAUSE) >= PAUSE:
            self._used[column.digest] = now
            disk_columns.mark_used(self._environment, column)

    def _give_up(self, error: Exception) -> None:
        self._broken = True
        if isinstance(error, _DAMAGED):
            return self._tell(
                f"the store in {self._environment.database} is damaged ({error}): going on without it; "
                f"`sktransfer cache {self.folder} --clear` begins anew"
            )
        return self._tell(f"the store in {self.folder} cannot be opened or read ({error}): going on without it")

    def _pause(self, error: Exception) -> None:
        self._paused_until = time.monotonic() + PAUSE
        if isinstance(error, lmdb.MapFullError):
            limit = readable_size(self._environment.limit)
            return self._tell(
                f"the store in {self.folder} has reached its limit of {limit}: going on without storing; "
                f"`sktransfer cache {self.folder} --prune SIZE` makes room, set_config(cache_disk=...) allows more"
            )
        if not self._environment.readonly:
            self._environment.close()  # after a write that failed, LMDB wants to be opened anew
        free = ""
        with suppress(OSError):
            free = f"; {readable_size(shutil.disk_usage(self.folder).free)} are free on its disk"
        return self._tell(f"the store in {self.folder} cannot be written ({error}{free}): going on without storing")

    def _tell(self, text: str) -> None:
        kind = text.partition(" (")[0]
        if kind not in self._told:
            self._told.add(kind)
            warnings.warn(text, StoreWarning, stacklevel=2)

    def room(self) -> int:
        """Return the bytes that can be kept before storing ends."""
        if self._broken or self._environment.readonly or time.monotonic() < self._paused_until:
            return 0
        return max(0, self._environment.limit - self._environment.used() - self._pending.n_bytes)

    def resize(self, limit: int) -> None:
        """Set the limit; nothing is deleted."""
        if limit != self._environment.limit:
            self._environment.resize(limit)
            self._paused_until = 0.0

    def info(self) -> CacheInfo:
        """Return the counts: hits and misses of this process, values of all."""
        self.flush()
        kept: list[disk_columns.KeptColumn] = []
        if not self._broken:
            try:
                kept = disk_columns.list_columns(self._environment)
            except (lmdb.Error, OSError) as error:
                self._give_up(error)
        n_entries, n_bytes = sum(one.n_entries for one in kept), sum(one.n_bytes for one in kept)
        return CacheInfo(str(self.folder), self._hits, self._misses, n_entries, n_bytes, self._environment.limit)

    def clear(self) -> None:
        """Forget everything, in all processes; a damaged database too.

        Raises
        ------
        StoreError
            If the folder cannot be written.
        """
        self._pending.clear()
        try:
            disk_columns.clear(self._environment)
        except OSError as error:
            raise StoreError(f"the store in {self.folder} cannot be cleared: {error}") from error
        self._reset()


_stores: dict[Path, DiskStore] = {}


def folder_store(folder: Path, limit: int) -> DiskStore:
    """Return this process's store of a folder: a database may be opened once in a process, and not more."""
    with _lock:
        if folder not in _stores:
            _stores[folder] = DiskStore(folder, limit)
        store = _stores[folder]
    store.resize(limit)
    return store


@atexit.register
def _flush_all() -> None:
    for store in _stores.values():
        store.flush()


SECONDS = 0.5  # a commit costs a few milliseconds, whatever it writes: so often, it takes about one in a hundred
N_BYTES = 32 * 1024**2

Waiting = tuple[CacheNamespace, bytes, bytes]  # column, key, record


class Pending:
    """What was put and is not yet in the database; it is found here meanwhile.

    Parameters
    ----------
    lock : threading.Lock
        Guards it.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._waiting: dict[bytes, Waiting] = {}
        self._leaving: dict[bytes, Waiting] = {}
        self.n_bytes = 0
        self._since = 0.0

    def add(self, column: CacheNamespace, records: Iterable[tuple[bytes, bytes]]) -> bool:
        """Let records wait, of two under one key the first; return whether it is time to write."""
        with self._lock:
            if not self._waiting:
                self._since = time.monotonic()
            for key, record in records:
                if key not in self._waiting:
                    self._waiting[key] = column, key, record
                    self.n_bytes += len(record)
            return self.n_bytes >= N_BYTES or time.monotonic() - self._since >= SECONDS

    def find(self, key: bytes) -> bytes | None:
        """Return the record under a key."""
        found = self._waiting.get(key) or self._leaving.get(key)  # in this order: `take` fills the second first
        return None if found is None else found[2]

    def take(self) -> list[Waiting]:
        """Return what waits; it is found until `done`."""
        with self._lock:
            self._leaving, self._waiting, self.n_bytes = self._waiting, {}, 0
            return list(self._leaving.values())

    def done(self) -> None:
        """Forget what was taken."""
        with self._lock:
            self._leaving = {}

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._waiting, self._leaving, self.n_bytes = {}, {}, 0
