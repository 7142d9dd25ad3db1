"""Claims of the samples that a pass computes now, so that other passes compute other samples first.

Values are right without claims. Passes that start together then compute the same samples.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on this platform: claims then hold in one process
    fcntl = None  # type: ignore[assignment]

__all__ = ["Claims"]

_lock = threading.Lock()
_all: weakref.WeakSet[Claims] = weakref.WeakSet()


def _forget_claims() -> None:
    """Forget the claims of threads that a forked process does not have."""
    for claims in _all:
        claims.names.clear()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget_claims)


class Claims:
    """Claims of the threads of this process, and of all processes that use the same file.

    Processes share claims by locks on single bytes of an empty file, at the positions that the names give. The system
    releases the locks of a process that ends, so that a crash blocks no other process.

    Parameters
    ----------
    file : Path, default=None
        File of the locks, created by the first claim. None for claims within this process. If the file cannot be
        written, claims hold within this process.

    Examples
    --------
    >>> from sktransfer.cache.claims import Claims
    >>> claims = Claims()
    >>> claims.claim([b"sample 1", b"sample 2"])
    [True, True]
    >>> claims.claim([b"sample 2", b"sample 3"])
    [False, True]
    >>> claims.release([b"sample 2"])
    >>> claims.claim([b"sample 2"])
    [True]
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = None if fcntl is None else file
        self.names: set[bytes] = set()
        self._descriptor: int | None = None
        _all.add(self)

    def claim(self, names: Sequence[bytes]) -> list[bool]:
        """Claim names, and return for each one whether it was free.

        Parameters
        ----------
        names : sequence of bytes of length 8 or more
            Hashes of the samples.
        """
        with _lock:
            descriptor = self._open()
            return [self._claim(name, descriptor) for name in names]

    def release(self, names: Iterable[bytes]) -> None:
        """Release names. Those that are not claimed stay as they are.

        Parameters
        ----------
        names : iterable of bytes
            Names to release.
        """
        with _lock:
            for name in names:
                if name in self.names:
                    self.names.remove(name)
                    if self._descriptor is not None:
                        with suppress(OSError):
                            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _position(name))

    def _claim(self, name: bytes, descriptor: int | None) -> bool:
        if name in self.names:
            return False
        if descriptor is not None:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _position(name))
            except (BlockingIOError, PermissionError):  # another process has it; the error depends on the platform
                return False
            except OSError:  # a file system without locks
                pass
        self.names.add(name)
        return True

    def _open(self) -> int | None:
        """Return the descriptor of the file, the same one for all claims: closing any would release all locks."""
        if self.file is None:
            return None
        if self._descriptor is not None:
            if os.fstat(self._descriptor).st_nlink:
                return self._descriptor
            os.close(self._descriptor)  # the folder was deleted
            self._descriptor = None
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
        except OSError:
            return None
        return self._descriptor


def _position(name: bytes) -> int:
    return int.from_bytes(name[:8], "big") >> 2  # offsets of files have 63 bits
