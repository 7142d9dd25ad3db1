"""Vectors as text: word2vec's (a header of two numbers) and GloVe's (none). One word a line, then its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from sktransfer.exceptions import WeightsError

__all__ = ["Block", "read_text"]

Block = tuple[list[str], np.ndarray]  # words, and their vectors (n, n_dims) of float32
_LINES = 4096  # a block


def read_text(file: BinaryIO, name: str, *, n_words: int | None, n_dims: int) -> Iterator[Block]:
    """Yield blocks of words and vectors.

    Parameters
    ----------
    file : binary file
        At its start.
    name : str
        The file's name, for messages.
    n_words : int or None
        What the header says; None where there is none.
    n_dims : int
        How many numbers follow each word. What stands before them is the word, blanks in it included.

    Yields
    ------
    words, vectors : list of str, ndarray of shape (n, n_dims), float32

    Raises
    ------
    WeightsError
        If a line is not a word and `n_dims` finite numbers, or lines are missing; names the line.
    """
    first = 1 if n_words is None else 2
    if n_words is not None:
        file.readline()
    read, words, rows = 0, [], []
    for number, line in enumerate(file, first):
        stripped = line.rstrip()
        if not stripped and read == n_words:
            continue  # blank lines at the end
        word, row = _parse(stripped, name, number, n_dims)
        words.append(word)
        rows.append(row)
        read += 1
        if len(words) == _LINES:
            yield words, np.stack(rows)
            words, rows = [], []
    if words:
        yield words, np.stack(rows)
    if n_words is not None and read != n_words:
        raise WeightsError(
            f"{name} ends at line {first + read - 1} with {read:,} words, its first line promises {n_words:,}: the "
            "file was cut or put together wrongly. Fetch it anew"
        )


def _parse(line: bytes, name: str, number: int, n_dims: int) -> tuple[str, np.ndarray]:
    parts = line.rsplit(b" ", n_dims)
    if len(parts) != n_dims + 1:
        raise WeightsError(
            f"{name}, line {number}: {len(parts) - 1} numbers after the word, {n_dims} expected. The file was cut or "
            "is damaged: fetch it anew"
        )
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told of below
            row = np.array(parts[1:], dtype=np.float32)
    except ValueError as error:
        raise WeightsError(f"{name}, line {number}: {error}. The file is damaged: fetch it anew") from None
    if not np.isfinite(row).all():
        raise WeightsError(f"{name}, line {number}: a number is not finite. The file is damaged: fetch it anew")
    return parts[0].decode("utf-8", "surrogateescape"), row
