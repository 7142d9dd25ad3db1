"""word2vec's binary format: a header of two numbers, then each word, a blank, and its float32 values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from sktransfer.exceptions import WeightsError
from sktransfer.words.text_format import Block

__all__ = ["read_binary"]

_CHUNK = 1 << 20  # bytes read at once
_WORDS = 4096  # a block
_LONGEST = 10_000  # bytes of a word; more means that this is no such file


def read_binary(file: BinaryIO, name: str, *, n_words: int, n_dims: int) -> Iterator[Block]:
    """Yield blocks of words and vectors.

    Parameters
    ----------
    file : binary file
        At its start.
    name : str
        The file's name, for messages.
    n_words, n_dims : int
        What the header says.

    Yields
    ------
    words, vectors : list of str, ndarray of shape (n, n_dims), float32

    Raises
    ------
    WeightsError
        If the file ends too early, or a word has no end or a value that is not finite; names the byte.
    """
    consumed, buffer, position = len(file.readline()), b"", 0
    words: list[str] = []
    rows: list[np.ndarray] = []
    for number in range(n_words):
        while True:
            blank = buffer.find(b" ", position)
            end = blank + 1 + 4 * n_dims
            if blank >= 0 and end <= len(buffer):
                break
            if blank < 0 and len(buffer) - position > _LONGEST:
                raise _damaged(name, consumed + position, f"word {number + 1:,} has no end")
            more = file.read(_CHUNK)
            if not more:
                raise _damaged(name, consumed + len(buffer), f"it ends in word {number + 1:,} of {n_words:,}")
            consumed, buffer, position = consumed + position, buffer[position:] + more, 0
        row = np.frombuffer(buffer, np.dtype("<f4"), n_dims, blank + 1).astype(np.float32)
        if not np.isfinite(row).all():
            raise _damaged(name, consumed + blank + 1, f"a value of word {number + 1:,} is not finite")
        words.append(buffer[position:blank].lstrip(b"\n").decode("utf-8", "surrogateescape"))
        rows.append(row)
        position = end
        if len(words) == _WORDS:
            yield words, np.stack(rows)
            words, rows = [], []
    if words:
        yield words, np.stack(rows)


def _damaged(name: str, byte: int, what: str) -> WeightsError:
    return WeightsError(f"{name}, byte {byte:,}: {what}. The file was cut or is damaged: fetch it anew")
