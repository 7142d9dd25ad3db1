"""LMDB environments of a folder store, one per cache namespace.

A folder store has one subfolder per namespace, named by the digest of the namespace. The subfolder holds one LMDB
environment. Its modification time is the time of the last use. Forgetting a namespace deletes the subfolder.

This module does not need torch, because the command line imports it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lmdb

from sktransfer.cache.types import CacheNamespace, NamespaceInfo

__all__ = [
    "LAYOUT",
    "Environment",
    "add_counts",
    "clear",
    "forget",
    "get_environment",
    "list_namespaces",
    "mark_used",
    "namespace_path",
    "namespace_sizes",
    "other_layouts",
    "prune",
]

LAYOUT = (
    "sktransfer-store-2"  # subfolder of the user's folder. A layout that older versions cannot read gets a new name
)
LOCK_BYTES = 64 * 1024  # room for about 1,000 simultaneous readers per environment
MAP_BYTES = 256 * 1024**2  # address space of an environment before it grows
MAX_OPEN = 64  # environments that a process keeps open, with three file descriptors each
ATTEMPTS = 20  # to open a database that others delete or grow
_INFO = b"namespace"  # key of the description and the counts. Keys of samples have another length
_DELETED = "deleted-"  # prefix of folders that are being deleted

_lock = threading.Condition(threading.Lock())  # guards the variables below and the state of every environment
_environments: weakref.WeakValueDictionary[str, Environment] = weakref.WeakValueDictionary()
_opened: dict[Environment, None] = {}  # in order of last use
_forking = False


class Environment:
    """LMDB environment in one folder, opened on first use.

    It is opened again after a fork, and when another process has deleted or replaced its files. A transaction must not
    begin another one in the same thread. `get_environment` returns the environment of a folder, because LMDB does not
    allow a process to open a folder twice.

    Parameters
    ----------
    path : Path
        Folder of the database. The first write creates it.
    map_size : int, default=268435456
        Bytes that the database file may grow to.

    Attributes
    ----------
    readonly : bool
        Whether the open database can only be read. Reading takes no lock in that case.
    """

    def __init__(self, path: Path, map_size: int = MAP_BYTES) -> None:
        self.path, self.map_size, self.readonly = path, map_size, False
        self._env: Any = None
        self._file: tuple[int, int] | None = None
        self._active = 0

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[Any]:
        """Enter a transaction, which is committed if it writes and the block raises no error.

        A transaction that reads is None if there is no database.

        Raises
        ------
        lmdb.Error, OSError
            If the database cannot be opened, read or written.
        """
        transaction = self._begin(write)
        if transaction is None:
            yield None
            return
        try:
            with transaction:
                yield transaction
        finally:
            self._leave()

    def _begin(self, write: bool) -> Any:
        for attempt in range(ATTEMPTS):
            env = self._enter(write)
            if env is None:
                return None
            try:
                return env.begin(write=write, buffers=True)
            except lmdb.MapResizedError:  # another process has grown the map
                self._leave()
                self._exclusive(self._adopt_map_size)
            except lmdb.ReadersFullError:
                n_freed = env.reader_check()
                self._leave()
                if not n_freed or attempt == ATTEMPTS - 1:
                    raise
            except BaseException:
                self._leave()
                raise
        raise lmdb.MapResizedError(f"{self.path} grows faster than it can be opened")

    def _enter(self, write: bool) -> Any:
        with _lock:
            _lock.wait_for(lambda: not _forking)
            if self._env is not None and _identity(self.path) != self._file:
                _lock.wait_for(lambda: not self._active)
                self._close()
            if self._env is None:
                if not write and _identity(self.path) is None:
                    return None
                self._open()
            self._active += 1
            _opened.pop(self, None)
            _opened[self] = None  # last in the order
            return self._env

    def _leave(self) -> None:
        with _lock:
            self._active -= 1
            _lock.notify_all()

    def _exclusive(self, function: Any) -> None:
        """Call a function with the LMDB environment while this process has no transaction open in it."""
        with _lock:
            _lock.wait_for(lambda: not self._active)
            if self._env is not None:
                function(self._env)

    def _adopt_map_size(self, env: Any) -> None:
        env.set_mapsize(0)
        self.map_size = env.info()["map_size"]

    def _open(self) -> None:
        _close_least_recently_used()
        for attempt in range(ATTEMPTS):
            folder = None
            try:
                self.readonly = not _make_writable(self.path)
                folder = _folder_identity(self.path)
                self._env = self._open_readonly() if self.readonly else self._open_writable()
            except (lmdb.Error, FileExistsError, FileNotFoundError):
                # Another process may have deleted the folder after it was created here, and made a new one.
                is_same = folder is not None and _folder_identity(self.path) == folder
                if is_same or attempt == ATTEMPTS - 1:
                    raise
            else:
                self._file = _identity(self.path)
                # The files that were opened are those of the path only if the folder is still the same.
                if self._file is not None and _folder_identity(self.path) == folder:
                    return
                self._close()
        raise lmdb.InvalidError(f"{self.path} is deleted faster than it can be opened")

    def _open_writable(self) -> Any:
        # A mapped page without a disk block would kill the process with SIGBUS when the disk is full.
        _allocate(self.path / "lock.mdb", LOCK_BYTES)
        # metasync=False still syncs pages before the root that points to them. A crash of the machine loses the last
        # commits, and never leaves a root that points to unwritten pages.
        env = lmdb.open(str(self.path), map_size=self.map_size, metasync=False)
        try:
            # Reading a mapped page beyond the end of a truncated file is a SIGBUS. Pages of zeros are reported by LMDB.
            # An empty file is one that another process has just created again, and must stay empty for it.
            if (self.path / "data.mdb").stat().st_size:
                _allocate(self.path / "data.mdb", _end(env))
            env.reader_check()
        except BaseException:
            env.close()
            raise
        return env

    def _open_readonly(self) -> Any:
        file = self.path / "data.mdb"
        map_size = max(self.map_size, file.stat().st_size)
        env = lmdb.open(str(self.path), map_size=map_size, readonly=True, lock=False, create=False)
        if _end(env) > file.stat().st_size:
            env.close()
            raise lmdb.CorruptedError(f"{file} is cut short")
        return env

    def _close(self) -> None:
        if self._env is not None:
            self._env.close()
        self._env = self._file = None
        _opened.pop(self, None)

    def close(self) -> None:
        """Close the database until the next transaction."""
        self._exclusive(lambda env: self._close())

    def resize(self, map_size: int) -> None:
        """Set the bytes that the file may grow to. A larger file keeps its size and does not grow."""
        if map_size != self.map_size:
            self.map_size = map_size
            self._exclusive(lambda env: None if self.readonly else env.set_mapsize(map_size))

    def free_readers(self) -> int:
        """Free the reader slots of dead processes, which keep old pages in use, and return their number."""
        n_freed = [0]
        self._exclusive(lambda env: n_freed.append(env.reader_check()))
        return n_freed[-1]

    def delete(self) -> None:
        """Delete the folder.

        The folder is renamed first, because deleting the lock file alone would let two processes write at once. A
        process that has the database open keeps reading the deleted file, and sees at its next transaction that the
        file is gone.

        Raises
        ------
        OSError
            If the folder cannot be renamed.
        """
        self.close()
        target = self.path.with_name(_DELETED + secrets.token_hex(8))
        with suppress(FileNotFoundError):  # another process has deleted it
            self.path.rename(target)
        shutil.rmtree(target, ignore_errors=True)


def get_environment(path: Path) -> Environment:
    """Return the environment of a folder, one per process."""
    name = os.path.realpath(path)
    with _lock:
        environment = _environments.get(name)
        if environment is None:
            environment = _environments[name] = Environment(path)
        return environment


def _close_least_recently_used() -> None:
    """Close idle environments until another one may be opened."""
    n_excess = len(_opened) - MAX_OPEN + 1
    idle = [environment for environment in _opened if not environment._active]
    for environment in idle[: max(0, n_excess)]:
        environment._close()


def _make_writable(path: Path) -> bool:
    """Create a folder and return whether the database in it can be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not path.is_dir():
            raise
    files = [file for file in (path / "data.mdb", path / "lock.mdb") if file.exists()]
    return all(os.access(file, os.W_OK) for file in [path, *files])


def _allocate(path: Path, size: int) -> None:
    """Allocate disk blocks of a file up to a size and keep its content."""
    if not hasattr(os, "posix_fallocate") or (path.exists() and path.stat().st_size >= size):
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o664)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # not supported by the file system
            raise
    finally:
        os.close(descriptor)


def _end(env: Any) -> int:
    size: int = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    return size


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a database file, None if there is none."""
    with suppress(OSError):
        status = os.stat(f"{path}/data.mdb")  # noqa: PTH116, called for every transaction
        return status.st_dev, status.st_ino
    return None


def _folder_identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a folder, None if there is none."""
    with suppress(OSError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None


def _before_fork() -> None:
    """Close every environment, because a child can neither use nor close those of its parent."""
    global _forking
    _lock.acquire()
    _forking = True
    _lock.wait_for(lambda: not any(environment._active for environment in _opened))
    for environment in list(_opened):
        environment._close()


def _after_fork() -> None:
    global _forking
    _forking = False
    _lock.notify_all()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def namespace_path(folder: Path, namespace: CacheNamespace) -> Path:
    """Return the subfolder of a namespace."""
    return folder / LAYOUT / namespace.digest.hex()


def namespace_sizes(folder: Path) -> dict[Path, int]:
    """Return the size in bytes of each namespace's database file, by subfolder.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    sizes = {}
    with suppress(FileNotFoundError):
        for name in os.listdir(folder / LAYOUT):  # noqa: PTH208, called for every write
            path = folder / LAYOUT / name
            if re.fullmatch("[0-9a-f]{32}", name):
                with suppress(FileNotFoundError, NotADirectoryError):  # deleted meanwhile, or not a namespace
                    sizes[path] = os.stat(path / "data.mdb").st_size  # noqa: PTH116
    return sizes


def add_counts(transaction: Any, namespace: CacheNamespace, n_entries: int, n_bytes: int) -> None:
    """Add the entries and bytes that a transaction has written to the counts of its namespace."""
    info = _read_info(transaction.get(_INFO))
    for name in ("backbone", "stage", "pooling", "dtype"):
        info[name] = getattr(namespace, name)
    info["n_entries"] = info.get("n_entries", 0) + n_entries
    info["n_bytes"] = info.get("n_bytes", 0) + n_bytes
    transaction.put(_INFO, json.dumps(info).encode())


def _read_info(record: Any) -> dict[str, Any]:
    if record is None:
        return {}
    try:
        info: dict[str, Any] = json.loads(bytes(record))
    except ValueError as error:
        raise lmdb.CorruptedError(f"the description of a namespace cannot be read: {error}") from error
    return info


def mark_used(folder: Path, namespace: CacheNamespace) -> None:
    """Record that a namespace was used now, without waiting for writers."""
    with suppress(OSError):  # a folder that cannot be written is not pruned either
        os.utime(namespace_path(folder, namespace))


def list_namespaces(folder: Path) -> list[NamespaceInfo]:
    """Return the namespaces of a folder store, the most recently used first.

    Raises
    ------
    lmdb.Error, OSError
        If a database cannot be read.
    """
    infos = []
    for path in namespace_sizes(folder):
        with get_environment(path).transaction() as transaction:
            info = {} if transaction is None else _read_info(transaction.get(_INFO))
        if info:  # a process that was killed before its first commit leaves none
            n_entries, n_bytes = info.pop("n_entries"), info.pop("n_bytes")
            namespace = CacheNamespace(bytes.fromhex(path.name), **info)
            infos.append(NamespaceInfo(namespace, n_entries, n_bytes, _last_use(path)))
    return sorted(infos, key=lambda info: -info.used)


def _last_use(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def prune(folder: Path, *, size: int | None = None, days: float | None = None) -> list[NamespaceInfo]:
    """Delete namespaces, the least recently used first.

    Parameters
    ----------
    folder : Path
        Folder of the store.
    size : int, default=None
        Bytes that the remaining entries may take.
    days : float, default=None
        Age in days. Namespaces that were not used since then are deleted.

    Returns
    -------
    deleted : list of NamespaceInfo

    Raises
    ------
    lmdb.Error, OSError
        If a database cannot be read or the folder cannot be written.
    """
    infos = list_namespaces(folder)
    n_bytes = sum(info.n_bytes for info in infos)
    deleted = []
    for info in reversed(infos):
        expired = days is not None and info.used < time.time() - days * 86400
        if expired or (size is not None and n_bytes > size):
            deleted.append(info)
            n_bytes -= info.n_bytes
    forget(folder, [info.namespace for info in deleted])
    return deleted


def forget(folder: Path, namespaces: Iterable[CacheNamespace]) -> None:
    """Delete namespaces, and folders that a killed process has not finished deleting.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    for namespace in namespaces:
        get_environment(namespace_path(folder, namespace)).delete()
    for path in (folder / LAYOUT).glob(f"{_DELETED}*"):
        shutil.rmtree(path, ignore_errors=True)


def clear(folder: Path) -> None:
    """Delete all namespaces of this layout, damaged ones included.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    for path in namespace_sizes(folder):
        get_environment(path).delete()
    forget(folder, [])


def other_layouts(folder: Path) -> list[str]:
    """Return the names of subfolders that other versions of sktransfer have written."""
    prefix = LAYOUT.rpartition("-")[0] + "-"
    with suppress(OSError):
        return sorted(name for name in os.listdir(folder) if name.startswith(prefix) and name != LAYOUT)  # noqa: PTH208
    return []
