"""Which format a file of vectors has, told by its content, not by its name."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from sktransfer.exceptions import WeightsError
from sktransfer.words.binary_format import read_binary
from sktransfer.words.fasttext import MAGIC
from sktransfer.words.text_format import Block, read_text

__all__ = ["Format", "is_gzipped", "open_file", "read_blocks", "sniff"]

_GZIP = b"\x1f\x8b"
_LINE = 1 << 20  # no line of vectors is longer
_DIGITS = 18  # no count is longer
_NUMBERS = frozenset(b"0123456789+-.eE naifNAIF\r\n\t")


@dataclass(frozen=True)
class Format:
    """The format of a file.

    Parameters
    ----------
    kind : {"fasttext", "text", "binary"}
        fastText's model, or a table as text or in word2vec's binary format.
    n_words : int or None
        Words that the header promises; None without a header.
    n_dims : int
        Length of a vector; 0 for fastText's models, which say it further on.
    """

    kind: str
    n_words: int | None
    n_dims: int


def is_gzipped(path: Path) -> bool:
    """Return whether a file is compressed by gzip."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, unpacked where it is gzipped.

    Raises
    ------
    WeightsError
        If the archive is damaged, as far as it is read inside the block.
    """
    with cast(BinaryIO, gzip.open(path, "rb")) if is_gzipped(path) else path.open("rb") as file:
        try:
            yield file
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise WeightsError(f"{path}: {error}. The archive was cut or is damaged: fetch it anew") from error


def sniff(path: Path) -> Format:
    """Return the format of a file.

    Raises
    ------
    WeightsError
        If it is none that can be read.
    """
    with open_file(path) as file:
        first = file.readline(_LINE)
        second = file.read(4096)
    if first.startswith(MAGIC):
        return Format("fasttext", None, 0)
    fields = first.split()
    if len(fields) == 2 and all(field.isdigit() for field in fields):
        n_words, n_dims = (int(field) if len(field) <= _DIGITS else 0 for field in fields)
        if n_words < 1 or not 1 <= n_dims < _LINE:
            promised = " words of ".join(str(field[:_DIGITS], "ascii") for field in fields)
            raise WeightsError(f"{path}: its first line promises {promised} dimensions")
        return Format("text" if _is_text(second) else "binary", n_words, n_dims)
    if len(fields) > 2 and _are_numbers(fields[1:]):
        return Format("text", None, len(fields) - 1)
    raise WeightsError(
        f"{path} is no file of word vectors: it starts with {first[:60]!r}. Readable are fastText's .bin and .ftz, and "
        "word2vec's and GloVe's formats, text (a word and its numbers on each line) or binary"
    )


def read_blocks(path: Path, form: Format) -> Iterator[Block]:
    """Yield blocks of words and vectors of a table.

    Parameters
    ----------
    path : Path
        The file.
    form : Format
        What `sniff` says of it.

    Raises
    ------
    WeightsError
        If the file is damaged; names the line or byte.
    """
    with open_file(path) as file:
        if form.kind == "text":
            yield from read_text(file, str(path), n_words=form.n_words, n_dims=form.n_dims)
        else:
            yield from read_binary(file, str(path), n_words=form.n_words or 0, n_dims=form.n_dims)


def _is_text(content: bytes) -> bool:
    """Return whether what follows the first word is numbers written out."""
    _, blank, values = content.lstrip().partition(b" ")
    return bool(blank) and all(byte in _NUMBERS for byte in values.split(b"\n")[0][:400])


def _are_numbers(fields: list[bytes]) -> bool:
    try:
        with np.errstate(over="ignore"):
            np.array(fields, dtype=np.float32)
    except ValueError:
        return False
    return True
