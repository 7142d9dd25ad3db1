"""A walk through a binary file that notices where it ends too early."""

from __future__ import annotations

import mmap
import struct

from sktransfer.exceptions import WeightsError

__all__ = ["Reader"]


class Reader:
    """Walks through a file, little end first.

    Parameters
    ----------
    content : mmap
        The file.
    name : str
        For errors.
    """

    def __init__(self, content: mmap.mmap, name: str) -> None:
        self.content, self.name, self.at = content, name, 0

    def skip(self, n_bytes: int, what: str) -> int:
        """Return the place of the next bytes, and go on behind them."""
        start = self.at
        if n_bytes < 0 or start + n_bytes > len(self.content):
            raise self.damaged(f"{what} should take {n_bytes:,} bytes from byte {start:,} on")
        self.at += n_bytes
        return start

    def values(self, form: str, what: str) -> tuple[int, ...]:
        """Return numbers packed as `struct` writes their form."""
        start = self.skip(struct.calcsize("<" + form), what)
        return struct.unpack_from("<" + form, self.content, start)

    def word(self, number: int) -> bytes:
        """Return the bytes up to the next zero."""
        end = self.content.find(b"\0", self.at)
        if end < 0:
            raise self.damaged(f"word {number:,} has no end")
        start, self.at = self.at, end + 1
        return self.content[start:end]

    def damaged(self, what: str) -> WeightsError:
        """Return the error that says so."""
        return WeightsError(
            f"{self.name} ends at byte {len(self.content):,}, {what}: the file was cut or is damaged. Fetch it anew"
        )
