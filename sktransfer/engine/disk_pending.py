"""Records that wait to be written together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from sktransfer.engine.store import Column

__all__ = ["Pending", "Waiting"]

SECONDS = 0.5  # a commit costs a few milliseconds, whatever it writes: so often, it takes about one in a hundred
N_BYTES = 32 * 1024**2

Waiting = tuple[Column, bytes, bytes]  # column, key, record


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

    def add(self, column: Column, records: Iterable[tuple[bytes, bytes]]) -> bool:
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
