"""Formats of word-vector files: detection by content, and readers.

To add a format, add an entry to `FORMATS`. Detection, reading and error messages derive from it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from sktransfer.exceptions import WeightsError
from sktransfer.words.fasttext import MAGIC, read_fasttext
from sktransfer.words.subwords import Subwords
from sktransfer.words.vectors import WordBlock

__all__ = [
    "FORMATS",
    "Format",
    "Head",
    "ParsedVectors",
    "is_gzipped",
    "list_formats",
    "open_file",
    "read_binary",
    "read_head",
    "read_text",
    "sniff",
]

_GZIP = b"\x1f\x8b"
_LINE = 1 << 20  # longest line of a vector file, in bytes
_DIGITS = 18  # longest count in a header
_NUMBERS = frozenset(b"0123456789+-.eE naifNAIF\r\n\t")
_BLOCK = 4096  # words per block
_CHUNK = 1 << 20  # bytes per read of a binary file
_LONGEST = 10_000  # longest word of a binary file, in bytes


class ParsedVectors(NamedTuple):
    """Content of a file of word vectors.

    Parameters
    ----------
    blocks : iterator of (list of str, ndarray of shape (n, n_dims))
        Words and their vectors, read lazily.
    subwords : Subwords, default=None
        Vectors of character n-grams, if the format has them.
    """

    blocks: Iterator[WordBlock]
    subwords: Subwords | None = None


class Head(NamedTuple):
    """Beginning of a file, from which its format is detected.

    Parameters
    ----------
    name : str
        Path, for messages.
    first : bytes
        First line.
    rest : bytes
        The 4,096 bytes after it.
    """

    name: str
    first: bytes
    rest: bytes

    def counts(self) -> tuple[int, int] | None:
        """Return the number of words and dimensions in the header, or None if there is no header.

        Raises
        ------
        WeightsError
            If the header states numbers that no file can have.
        """
        fields = self.first.split()
        if len(fields) != 2 or not all(field.isdigit() for field in fields):
            return None
        n_words, n_dims = (int(field) if len(field) <= _DIGITS else 0 for field in fields)
        if n_words < 1 or not 1 <= n_dims < _LINE:
            promised = " words of ".join(str(field[:_DIGITS], "ascii") for field in fields)
            raise WeightsError(f"{self.name}: its first line promises {promised} dimensions, and both must be positive")
        return n_words, n_dims


@dataclass(frozen=True)
class Format:
    """Format of a file of word vectors.

    Parameters
    ----------
    name : str
        Short name.
    description : str
        Description for messages that list the formats.
    matches : callable
        `matches(head)` returns whether a file has this format.
    read : callable
        `read(path)` returns the file's `ParsedVectors`.
    is_mapped : bool, default=False
        Whether `read` maps the file into memory. A gzipped file is decompressed on disk first.
    """

    name: str
    description: str
    matches: Callable[[Head], bool]
    read: Callable[[Path], ParsedVectors]
    is_mapped: bool = False


def is_gzipped(path: Path) -> bool:
    """Return whether a file is compressed by gzip."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, and decompress it if it is gzipped.

    Raises
    ------
    WeightsError
        If the part of the archive that is read inside the block is damaged.
    """
    with cast(BinaryIO, gzip.open(path, "rb")) if is_gzipped(path) else path.open("rb") as file:
        try:
            yield file
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise WeightsError(f"{path}: {error}. The archive is truncated or damaged. Download it again") from error


def read_head(path: Path) -> Head:
    """Return the beginning of a file, decompressed if it is gzipped."""
    with open_file(path) as file:
        return Head(str(path), file.readline(_LINE), file.read(4096))


def sniff(path: Path) -> Format:
    """Return the format of a file, detected by its content.

    Raises
    ------
    WeightsError
        If the file has none of the formats in `FORMATS`.
    """
    head = read_head(path)
    for candidate in FORMATS:
        if candidate.matches(head):
            return candidate
    raise WeightsError(
        f"{path} is not a file of word vectors. It starts with {head.first[:60]!r}. Supported formats: {list_formats()}"
    )


def list_formats() -> str:
    """Return the supported formats, for messages."""
    return "; ".join(candidate.description for candidate in FORMATS)


def read_text(file: BinaryIO, name: str, *, n_words: int | None, n_dims: int) -> Iterator[WordBlock]:
    """Yield blocks of a text file, which has one word and its numbers per line.

    Parameters
    ----------
    file : binary file
        Positioned at its start.
    name : str
        Path, for messages.
    n_words : int or None
        Number of words in the header; None if there is no header.
    n_dims : int
        Number of values per word. The text before them is the word, including any blanks.

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
    n_read, words, rows = 0, [], []
    for number, line in enumerate(file, first):
        stripped = line.rstrip()
        if not stripped and n_read == n_words:
            continue  # blank lines at the end
        word, row = _parse_line(stripped, name, number, n_dims)
        words.append(word)
        rows.append(row)
        n_read += 1
        if len(words) == _BLOCK:
            yield words, np.stack(rows)  # (n, n_dims)
            words, rows = [], []
    if words:
        yield words, np.stack(rows)  # (n, n_dims)
    if n_words is not None and n_read != n_words:
        raise WeightsError(
            f"{name} ends at line {first + n_read - 1} with {n_read:,} words, its first line promises {n_words:,}. "
            "The file is truncated or was assembled incorrectly. Download it again"
        )


def _parse_line(line: bytes, name: str, number: int, n_dims: int) -> tuple[str, np.ndarray]:
    parts = line.rsplit(b" ", n_dims)
    if len(parts) != n_dims + 1:
        raise WeightsError(
            f"{name}, line {number}: {len(parts) - 1} numbers after the word, {n_dims} expected. The file is "
            "truncated or damaged. Download it again"
        )
    try:
        with np.errstate(over="ignore"):  # numbers out of range become infinite, which raises below
            row = np.array(parts[1:], dtype=np.float32)
    except ValueError as error:
        raise WeightsError(f"{name}, line {number}: {error}. The file is damaged. Download it again") from None
    if not np.isfinite(row).all():
        raise WeightsError(f"{name}, line {number}: a number is not finite. The file is damaged. Download it again")
    return parts[0].decode("utf-8", "surrogateescape"), row


def read_binary(file: BinaryIO, name: str, *, n_words: int, n_dims: int) -> Iterator[WordBlock]:
    """Yield blocks of word2vec's binary format.

    The header holds two numbers. After it, each entry is a word, a blank and the word's float32 values.

    Parameters
    ----------
    file : binary file
        Positioned at its start.
    name : str
        Path, for messages.
    n_words, n_dims : int
        Number of words and dimensions in the header.

    Yields
    ------
    words, vectors : list of str, ndarray of shape (n, n_dims), float32

    Raises
    ------
    WeightsError
        If the file is truncated, a word is not terminated or a value is not finite; names the byte.
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
            chunk = file.read(_CHUNK)
            if not chunk:
                raise _damaged(name, consumed + len(buffer), f"it ends in word {number + 1:,} of {n_words:,}")
            consumed, buffer, position = consumed + position, buffer[position:] + chunk, 0
        row = np.frombuffer(buffer, np.dtype("<f4"), n_dims, blank + 1).astype(np.float32)  # (n_dims,)
        if not np.isfinite(row).all():
            raise _damaged(name, consumed + blank + 1, f"a value of word {number + 1:,} is not finite")
        words.append(buffer[position:blank].lstrip(b"\n").decode("utf-8", "surrogateescape"))
        rows.append(row)
        position = end
        if len(words) == _BLOCK:
            yield words, np.stack(rows)  # (n, n_dims)
            words, rows = [], []
    if words:
        yield words, np.stack(rows)  # (n, n_dims)


def _damaged(name: str, byte: int, problem: str) -> WeightsError:
    return WeightsError(f"{name}, byte {byte:,}: {problem}. The file is truncated or damaged. Download it again")


def _is_text(content: bytes) -> bool:
    """Return whether the first word is followed by numbers written as text."""
    _, blank, values = content.lstrip().partition(b" ")
    return bool(blank) and all(byte in _NUMBERS for byte in values.split(b"\n")[0][:400])


def _is_glove(head: Head) -> bool:
    fields = head.first.split()
    if len(fields) < 3:
        return False
    try:
        with np.errstate(over="ignore"):
            np.array(fields[1:], dtype=np.float32)
    except ValueError:
        return False
    return True


def _read_fasttext(path: Path) -> ParsedVectors:
    model = read_fasttext(path)
    return ParsedVectors(model.blocks(), model.subwords)


def _read_table(path: Path, reader: Callable[..., Iterator[WordBlock]]) -> ParsedVectors:
    head = read_head(path)
    n_words, n_dims = head.counts() or (None, len(head.first.split()) - 1)

    def blocks() -> Iterator[WordBlock]:
        with open_file(path) as file:
            yield from reader(file, head.name, n_words=n_words, n_dims=n_dims)

    return ParsedVectors(blocks())


# The first format that matches is used.
FORMATS = (
    Format(
        "fasttext",
        "fastText's .bin and .ftz models",
        matches=lambda head: head.first.startswith(MAGIC),
        read=_read_fasttext,
        is_mapped=True,
    ),
    Format(
        "word2vec-text",
        "word2vec's text format (a header of two numbers, then a word and its numbers per line)",
        matches=lambda head: head.counts() is not None and _is_text(head.rest),
        read=partial(_read_table, reader=read_text),
    ),
    Format(
        "word2vec-binary",
        "word2vec's binary format",
        matches=lambda head: head.counts() is not None,
        read=partial(_read_table, reader=read_binary),
    ),
    Format(
        "glove",
        "GloVe's text format (a word and its numbers per line)",
        matches=_is_glove,
        read=partial(_read_table, reader=read_text),
    ),
)
