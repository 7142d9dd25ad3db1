"""The database of one folder, as this process has it open."""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lmdb

__all__ = ["Environment", "LAYOUT"]

LAYOUT = "sktransfer-store-1"  # the folder in the user's; what a version cannot read must lie in another one
LOCK_BYTES = 64 * 1024  # room for about 1,000 processes that read at once
ATTEMPTS = 5

_all: weakref.WeakSet[Environment] = weakref.WeakSet()


class Environment:
    """An LMDB environment that is opened on first use, and again after a fork and when its files were replaced.

    Parameters
    ----------
    folder : Path
        The user's; the database lies in a folder of its own in there.
    limit : int
        Bytes that the file may grow to.

    Attributes
    ----------
    readonly : bool
        Whether the folder, once it is open, can only be read. Reading is without locks there.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit, self.readonly = folder, limit, False
        self.layout = folder / LAYOUT
        self.database = self.layout / "lmdb"
        self._env: Any = None
        self._file: tuple[int, int] | None = None
        self._active = 0
        self._changed = threading.Condition(threading.Lock())
        _all.add(self)

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[Any]:
        """Enter a transaction; one that writes is kept if the block ends without an error.

        Raises
        ------
        lmdb.Error, OSError
            If the database cannot be opened, read or written.
        """
        transaction = self._begin(write)
        try:
            with transaction:
                yield transaction
        finally:
            self._leave()

    def _begin(self, write: bool) -> Any:
        for attempt in range(ATTEMPTS):
            env = self._enter()
            try:
                return env.begin(write=write, buffers=True)
            except lmdb.MapResizedError:  # another process may have a greater limit
                self._leave()
                self._alone(lambda env: env.set_mapsize(0))
            except lmdb.ReadersFullError:
                freed = env.reader_check()
                self._leave()
                if not freed or attempt == ATTEMPTS - 1:
                    raise
            except BaseException:
                self._leave()
                raise
        raise lmdb.MapResizedError(f"{self.database} grows faster than it can be opened")

    def _enter(self) -> Any:
        with self._changed:
            if self._env is not None and _identity(self.database) != self._file:
                self._changed.wait_for(lambda: not self._active)
                self._close()
            if self._env is None:
                self._open()
            self._active += 1
            return self._env

    def _leave(self) -> None:
        with self._changed:
            self._active -= 1
            self._changed.notify_all()

    def _alone(self, act: Any) -> None:
        """Do something that no transaction of this process may be open for."""
        with self._changed:
            self._changed.wait_for(lambda: not self._active)
            if self._env is not None:
                act(self._env)

    def _open(self) -> None:
        for attempt in range(ATTEMPTS):
            try:
                self.readonly = not _writable(self.database)
                self._env = self._open_readonly() if self.readonly else self._open_writable()
                break
            except lmdb.Error:  # cleared by another process between two of our steps
                if self.database.exists() or attempt == ATTEMPTS - 1:
                    raise
        self._file = _identity(self.database)

    def _open_writable(self) -> Any:
        # Memory that is mapped from a file without blocks behind it ends the process when the disk is full.
        _reserve(self.database / "lock.mdb", LOCK_BYTES)
        # Pages reach the disk before what points to them: a crash of the machine loses the end, and tears nothing.
        env = lmdb.open(str(self.database), map_size=self.limit, metasync=False)
        try:
            missing = _end(env) > (self.database / "data.mdb").stat().st_size
            if missing:  # a file cut short: read as zeros, pages are seen to be damaged; beyond its end, they kill
                _reserve(self.database / "data.mdb", _end(env))
            env.reader_check()
        except BaseException:
            env.close()
            raise
        return env

    def _open_readonly(self) -> Any:
        file = self.database / "data.mdb"
        size = max(self.limit, file.stat().st_size)
        env = lmdb.open(str(self.database), map_size=size, readonly=True, lock=False, create=False)
        if _end(env) > file.stat().st_size:
            env.close()
            raise lmdb.CorruptedError(f"{file} is cut short")
        return env

    def _close(self) -> None:
        if self._env is not None:
            self._env.close()
        self._env = self._file = None

    def close(self) -> None:
        """Close the database until it is asked for again."""
        self._alone(lambda env: self._close())

    def resize(self, limit: int) -> None:
        """Set the limit; a file that is greater stays as it is, and grows no more."""
        if limit != self.limit:
            self.limit = limit
            self._alone(lambda env: None if self.readonly else env.set_mapsize(limit))

    def free_readers(self) -> int:
        """Give up what dead processes had begun to read; return how many there were."""
        freed = [0]
        self._alone(lambda env: freed.append(env.reader_check()))
        return freed[-1]

    def used(self) -> int:
        """Return the bytes of the file that are in use, or were."""
        used = [0]
        self._alone(lambda env: used.append(_end(env)))
        return used[-1]

    def copy_compact(self, target: Path) -> None:
        """Write what is kept to another folder, without the space of what is gone."""
        target.mkdir()
        with self._changed:
            env, self._active = self._env, self._active + 1
        try:
            env.copy(str(target), compact=True)
        finally:
            self._leave()
        with (target / "data.mdb").open("rb") as file:
            os.fsync(file.fileno())


def _writable(database: Path) -> bool:
    """Make the folder; return whether files in it can be written."""
    try:
        database.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not database.is_dir():
            raise
    files = [path for path in (database / "data.mdb", database / "lock.mdb") if path.exists()]
    return all(os.access(path, os.W_OK) for path in [database, *files])


def _reserve(path: Path, size: int) -> None:
    """Give a file blocks up to a size; its content stays."""
    if not hasattr(os, "posix_fallocate") or (path.exists() and path.stat().st_size >= size):
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o664)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot
            raise
    finally:
        os.close(descriptor)


def _end(env: Any) -> int:
    size: int = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    return size


def _identity(database: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        status = os.stat(database / "data.mdb")  # noqa: PTH116, on the way of every transaction
        return status.st_dev, status.st_ino
    return None


_forking = threading.Lock()
_held: list[Environment] = []


def _before_fork() -> None:
    """Close what is open, and let no thread open it: a child can neither use nor close what its parent has open."""
    _forking.acquire()
    for environment in list(_all):
        environment._changed.acquire()
        environment._changed.wait_for(lambda: not environment._active)  # noqa: B023, called at once
        environment._close()
        _held.append(environment)


def _after_fork() -> None:
    while _held:
        _held.pop()._changed.release()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
