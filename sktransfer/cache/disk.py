"""Folder store: cache entries on disk, shared by all processes that use the folder."""

from __future__ import annotations

import atexit
import os
import shutil
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb

from sktransfer.cache.claims import Claims
from sktransfer.cache.lmdb import (
    LAYOUT,
    MAP_BYTES,
    Environment,
    add_counts,
    clear,
    get_environment,
    list_namespaces,
    mark_used,
    namespace_path,
    namespace_sizes,
    other_layouts,
)
from sktransfer.cache.mounts import network_mount
from sktransfer.cache.types import CacheInfo, CacheNamespace, NamespaceInfo, readable_size
from sktransfer.exceptions import InvalidParameterError, StoreError, StoreWarning, warn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BufferedRecord", "DiskStore", "WriteBuffer", "folder_store", "refuse_network"]

PAUSE = 60.0  # seconds without writing after a failed write, and between two updates of a namespace's last use
SECONDS = 0.5  # age at which buffered records are written
N_BYTES = 32 * 1024**2  # bytes at which buffered records are written
_PAGE = 4096

_lock = threading.Lock()  # guards the counts and the write buffers
_writing = threading.Lock()  # held by the thread that writes
if hasattr(os, "register_at_fork"):
    # Both locks are held during a fork, so that the child does not inherit a lock of a thread that it lacks.
    for _each in (_lock, _writing):
        os.register_at_fork(before=_each.acquire, after_in_parent=_each.release, after_in_child=_each.release)

_DAMAGED = (
    lmdb.CorruptedError,
    lmdb.IncompatibleError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)

BufferedRecord = tuple[CacheNamespace, bytes, bytes]  # namespace, key of the sample, record


class WriteBuffer:
    """Records that are not yet in the database, visible to reads of this process.

    Parameters
    ----------
    lock : threading.Lock
        Guards the buffer.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._waiting: dict[tuple[bytes, bytes], BufferedRecord] = {}
        self._leaving: dict[tuple[bytes, bytes], BufferedRecord] = {}
        self.n_bytes = 0
        self._since = 0.0

    def add(self, namespace: CacheNamespace, records: Iterable[tuple[bytes, bytes]]) -> bool:
        """Add records unless their key is buffered already, and return whether the buffer should be written."""
        with self._lock:
            if not self._waiting:
                self._since = time.monotonic()
            for key, record in records:
                if (namespace.digest, key) not in self._waiting:
                    self._waiting[namespace.digest, key] = namespace, key, record
                    self.n_bytes += len(record)
            return self.n_bytes >= N_BYTES or time.monotonic() - self._since >= SECONDS

    def find(self, namespace: CacheNamespace, key: bytes) -> bytes | None:
        """Return the record of a key, or None."""
        full_key = namespace.digest, key
        # In this order, because `take` fills `_leaving` before it empties `_waiting`.
        buffered = self._waiting.get(full_key) or self._leaving.get(full_key)
        return None if buffered is None else buffered[2]

    def take(self) -> list[BufferedRecord]:
        """Return the buffered records, which `find` returns until `done` is called."""
        with self._lock:
            self._leaving, self._waiting, self.n_bytes = self._waiting, {}, 0
            return list(self._leaving.values())

    def done(self) -> None:
        """Drop the records that were taken."""
        with self._lock:
            self._leaving = {}

    def clear(self) -> None:
        """Drop all records."""
        with self._lock:
            self._waiting, self._leaving, self.n_bytes = {}, {}, 0


class DiskStore:
    """Cache entries in a folder, with one LMDB environment per namespace.

    Records are written in one transaction per namespace, twice per second and at `flush`. A process that is killed
    loses the buffered records and no written ones. Readers do not wait for writers. A record with a wrong checksum
    counts as missing and is replaced. Errors of the store are warnings, because computing continues without it.

    Parameters
    ----------
    folder : Path
        Folder of the store. The first write creates it.
    limit : int
        Bytes that the databases may take together.

    Warns
    -----
    StoreWarning
        Once per cause: the limit is reached, the disk is full, the folder cannot be written, a database is damaged,
        or the folder holds data of another layout.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._environments: dict[bytes, Environment] = {}
        self._buffer = WriteBuffer(_lock)
        self._claims = Claims(folder / LAYOUT / "claims")
        self._finished: list[bytes] = []  # claims whose entries wait in the buffer
        self._reset()
        self._warned: set[str] = set()
        if others := other_layouts(folder):
            self._warn(
                f"{folder} holds data of another version of sktransfer ({', '.join(others)}), which is not read. "
                "Delete it if no other version needs it"
            )

    def _reset(self) -> None:
        self._hits = self._misses = 0
        self._last_use: dict[bytes, float] = {}
        self._paused_until = 0.0
        self._broken: set[bytes] = set()  # digests of namespaces that cannot be read

    def _environment(self, namespace: CacheNamespace) -> Environment:
        environment = self._environments.get(namespace.digest)
        if environment is None:
            environment = get_environment(namespace_path(self.folder, namespace))
            self._environments[namespace.digest] = environment
        return environment

    def get(self, namespace: CacheNamespace, keys: Sequence[bytes], *, counted: bool = True) -> list[Tensor | None]:
        """Return a copy of the entry of each key, None for a missing one."""
        from sktransfer.cache.serialization import decode

        values: list[Tensor | None] = [None] * len(keys)
        if namespace.digest not in self._broken:
            try:
                with self._environment(namespace).transaction() as transaction:
                    for position, key in enumerate(keys):
                        record = self._buffer.find(namespace, key)
                        if record is None and transaction is not None:
                            record = transaction.get(key)
                        if record is not None:
                            values[position] = decode(memoryview(record), namespace.digest + key)
            except (lmdb.Error, OSError) as error:
                self._disable(namespace, error)
        n_misses = sum(value is None for value in values)
        if counted:
            with _lock:
                self._misses += n_misses
                self._hits += len(values) - n_misses
        if n_misses < len(values):
            self._mark_used(namespace)
        return values

    def put(self, namespace: CacheNamespace, keys: Sequence[bytes], values: Sequence[Tensor] | Tensor) -> None:
        """Add entries unless their key exists. Other processes find them after the next write."""
        from sktransfer.cache.serialization import encode

        if not self._takes(namespace):
            return
        records = [(key, encode(value, namespace.digest + key)) for key, value in zip(keys, values, strict=True)]
        if self._buffer.add(namespace, records):
            self.flush()

    def _takes(self, namespace: CacheNamespace) -> bool:
        return namespace.digest not in self._broken and time.monotonic() >= self._paused_until

    def claim(self, namespace: CacheNamespace, keys: Sequence[bytes]) -> list[bool]:
        """Claim samples among all processes that use the folder. None is claimed while nothing can be written."""
        if not self._takes(namespace):
            return [True] * len(keys)
        return self._claims.claim([namespace.name(key) for key in keys])

    def release(self, namespace: CacheNamespace, keys: Sequence[bytes]) -> None:
        """Release claims, those of buffered entries after the next write."""
        with _lock:
            self._finished += [namespace.name(key) for key in keys]
        if not self._buffer.n_bytes:
            self.flush()

    def flush(self) -> None:
        """Write the buffered records."""
        with _writing:
            with _lock:
                finished, self._finished = self._finished, []  # before the records are taken, which came first
            by_namespace: dict[CacheNamespace, list[tuple[bytes, bytes]]] = {}
            for namespace, key, record in self._buffer.take():
                by_namespace.setdefault(namespace, []).append((key, record))
            try:
                for namespace, records in by_namespace.items():
                    if not self._flush_namespace(namespace, records):
                        break
            finally:
                self._buffer.done()
                self._claims.release(finished)

    def _flush_namespace(self, namespace: CacheNamespace, records: Sequence[tuple[bytes, bytes]]) -> bool:
        """Write the records of one namespace and return whether other namespaces can be written."""
        environment = self._environment(namespace)
        try:
            with environment.transaction():  # opens the database if there is one
                pass
        except (lmdb.Error, OSError) as error:
            self._disable(namespace, error)
            return True
        try:
            self._fit_map(environment, records)
            self._write(environment, namespace, records)
        except _DAMAGED as error:
            self._disable(namespace, error)
        except (lmdb.Error, OSError) as error:
            self._pause(environment, error)
            return False
        else:
            self._mark_used(namespace)
        return True

    def _fit_map(self, environment: Environment, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Set the map size so that the records fit and the databases together stay within the limit."""
        sizes = namespace_sizes(self.folder)
        size = sizes.pop(environment.path, 0)
        available = self.limit - sum(sizes.values())
        if available < (_PAGE if size else 8 * _PAGE):  # a new database with one entry takes up to eight pages
            raise lmdb.MapFullError(f"the other namespaces take all of {readable_size(self.limit)}")
        # Upper bound: a record fills up its last page and changes at most three pages of the tree.
        needed = size + sum(len(record) + 4 * _PAGE for _, record in records) + 2**20
        # Powers of two, because each change of the map size waits until no transaction is open.
        environment.resize(min(available, max(MAP_BYTES, 1 << needed.bit_length())))

    def _write(
        self,
        environment: Environment,
        namespace: CacheNamespace,
        records: Sequence[tuple[bytes, bytes]],
        *,
        retry: bool = True,
    ) -> None:
        """Write records in one transaction, or as many as fit if the map is full."""
        try:
            self._write_all(environment, namespace, records)
        except lmdb.MapFullError:
            if retry and environment.free_readers():
                self._write(environment, namespace, records, retry=False)
            elif len(records) > 1:
                half = len(records) // 2
                self._write(environment, namespace, records[:half], retry=False)
                self._write(environment, namespace, records[half:], retry=False)
            else:
                raise

    def _write_all(
        self, environment: Environment, namespace: CacheNamespace, records: Sequence[tuple[bytes, bytes]]
    ) -> None:
        from sktransfer.cache.serialization import is_intact

        n_entries = n_bytes = 0
        with environment.transaction(write=True) as transaction:
            for key, record in records:
                old = transaction.get(key)
                if old is not None:
                    if is_intact(old, namespace.digest + key):
                        continue
                    n_entries, n_bytes = n_entries - 1, n_bytes - len(old)
                transaction.put(key, record)
                n_entries, n_bytes = n_entries + 1, n_bytes + len(record)
            if n_entries or n_bytes:
                add_counts(transaction, namespace, n_entries, n_bytes)

    def _mark_used(self, namespace: CacheNamespace) -> None:
        now = time.monotonic()
        if now - self._last_use.get(namespace.digest, -PAUSE) >= PAUSE:
            self._last_use[namespace.digest] = now
            mark_used(self.folder, namespace)

    def _disable(self, namespace: CacheNamespace, error: Exception) -> None:
        """Neither read nor write a namespace until the store is cleared."""
        self._broken.add(namespace.digest)
        if isinstance(error, _DAMAGED):
            self._warn(
                f"the store in {self.folder} is damaged ({namespace_path(self.folder, namespace)}: {error}): going on "
                f"without it. `sktransfer cache {self.folder} --clear` deletes it"
            )
        else:
            self._warn(f"the store in {self.folder} cannot be opened or read ({error}): going on without it")

    def _pause(self, environment: Environment, error: Exception) -> None:
        """Write nothing for a while."""
        self._paused_until = time.monotonic() + PAUSE
        if isinstance(error, lmdb.MapFullError):
            self._warn(
                f"the store in {self.folder} has reached its limit of {readable_size(self.limit)}: going on without "
                f"storing. `sktransfer cache {self.folder} --prune SIZE` makes room, set_config(cache_disk=...) raises "
                "the limit"
            )
            return
        if not environment.readonly:
            environment.close()  # LMDB requires an environment to be reopened after a failed write
        free = ""
        with suppress(OSError):
            free = f"; {readable_size(shutil.disk_usage(self.folder).free)} are free on its disk"
        self._warn(f"the store in {self.folder} cannot be written ({error}{free}): going on without storing")

    def _warn(self, text: str) -> None:
        cause = text.partition(" (")[0]
        if cause not in self._warned:
            self._warned.add(cause)
            warn(text, StoreWarning)

    def room(self) -> int:
        """Return the bytes that can be added before the limit is reached, 0 if nothing can be written."""
        if time.monotonic() < self._paused_until:
            return 0
        try:
            n_used = sum(namespace_sizes(self.folder).values())
        except OSError:
            return 0
        if n_used and not os.access(self.folder / LAYOUT, os.W_OK):
            return 0
        return max(0, self.limit - n_used - self._buffer.n_bytes)

    def resize(self, limit: int) -> None:
        """Set the limit in bytes. Existing entries stay."""
        if limit != self.limit:
            self.limit = limit
            self._paused_until = 0.0

    def info(self) -> CacheInfo:
        """Return the hits and misses of this process and the entries of all processes."""
        self.flush()
        infos: list[NamespaceInfo] = []
        try:
            infos = list_namespaces(self.folder)
        except (lmdb.Error, OSError) as error:
            self._warn(f"the store in {self.folder} cannot be listed ({error}): its entries count as 0")
        n_entries, n_bytes = sum(info.n_entries for info in infos), sum(info.n_bytes for info in infos)
        return CacheInfo(str(self.folder), self._hits, self._misses, n_entries, n_bytes, self.limit)

    def clear(self) -> None:
        """Delete all entries, those of other processes and damaged ones included.

        Raises
        ------
        StoreError
            If the folder cannot be written.
        """
        self._buffer.clear()
        try:
            clear(self.folder)
        except OSError as error:
            raise StoreError(f"the store in {self.folder} cannot be cleared: {error}") from error
        self._reset()


_stores: dict[Path, DiskStore] = {}


def refuse_network(folder: Path, mountinfo: str | None = None) -> None:
    """Raise if a folder lies on a network file system.

    Parameters
    ----------
    folder : Path
        Absolute path without symbolic links. It need not exist.
    mountinfo : str, default=None
        Mounts, in the format of `/proc/self/mountinfo`. None reads that file.

    Raises
    ------
    InvalidParameterError
        The message says what to give instead.
    """
    mount = network_mount(folder, mountinfo)
    if mount is not None:
        raise InvalidParameterError(
            f"cache={str(folder)!r} lies on a network file system ({mount[0]}, mounted at {mount[1]}), where databases "
            f"of a cache folder are damaged. Give cache='file://{folder}' to share the folder between machines, or a "
            "folder on a disk of this machine"
        )


def folder_store(folder: Path, limit: int) -> DiskStore:
    """Return the store of a folder, one per process, with a limit in bytes.

    Raises
    ------
    InvalidParameterError
        If the folder lies on a network file system.
    """
    with _lock:
        if folder not in _stores:
            refuse_network(folder)
            _stores[folder] = DiskStore(folder, limit)
        store = _stores[folder]
    store.resize(limit)
    return store


@atexit.register
def _flush_all() -> None:
    for store in _stores.values():
        store.flush()
