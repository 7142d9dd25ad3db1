"""fastText's models (`.bin`, `.ftz`): their parts found in the file, so that its matrix can be mapped into memory.

fastText's own loader reads the whole file, and one that was cut sends it into a loop without end; so every part is
measured here before anything is read.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sktransfer.exceptions import WeightsError
from sktransfer.words.subwords import Subwords
from sktransfer.words.text_format import Block

__all__ = ["MAGIC", "FastTextFile", "read_fasttext"]

MAGIC = struct.pack("<i", 793712314)
_VERSIONS = (11, 12)
_SUPERVISED, _WORD = 3, 0
_WORDS = 4096  # a block
_CENTROIDS = 256  # of a product quantizer, per dimension


@dataclass(frozen=True)
class FastTextFile:
    """What a fastText model holds.

    Parameters
    ----------
    words : list of str
        Words, the frequent first, without labels. Where lines end, fastText reads a word "</s>": it is one of them.
    rows : ndarray of shape (n_rows, n_dims) or None
        The input matrix, mapped: vectors of words, then of n-grams. None where it is quantized.
    subwords : Subwords or None
        None where the model has no n-grams of characters, or is quantized.
    n_dims : int
        The length of a vector.
    """

    words: list[str]
    rows: np.ndarray | None
    subwords: Subwords | None
    n_dims: int

    def blocks(self) -> Iterator[Block]:
        """Yield words and their vectors, to the bit as fastText's `get_word_vector` gives them."""
        assert self.rows is not None
        for start in range(0, len(self.words), _WORDS):
            words = self.words[start : start + _WORDS]
            if self.subwords is None:
                # A copy: in the file, values stand where the words end, which is seldom a multiple of four bytes.
                yield words, np.array(self.rows[start : start + len(words)], dtype=np.float32)
            else:
                yield words, self.subwords.compose(words, start)


class _Reader:
    """Walks through the file, and says where it ends too early."""

    def __init__(self, content: mmap.mmap, name: str) -> None:
        self.content, self.name, self.at = content, name, 0

    def skip(self, n_bytes: int, what: str) -> int:
        start = self.at
        if n_bytes < 0 or start + n_bytes > len(self.content):
            raise self.damaged(f"{what} should take {n_bytes:,} bytes from byte {start:,} on")
        self.at += n_bytes
        return start

    def values(self, form: str, what: str) -> tuple[int, ...]:
        start = self.skip(struct.calcsize("<" + form), what)
        return struct.unpack_from("<" + form, self.content, start)

    def word(self, number: int) -> bytes:
        end = self.content.find(b"\0", self.at)
        if end < 0:
            raise self.damaged(f"word {number:,} has no end")
        start, self.at = self.at, end + 1
        return self.content[start:end]

    def damaged(self, what: str) -> WeightsError:
        return WeightsError(
            f"{self.name} ends at byte {len(self.content):,}, {what}: the file was cut or is damaged. Fetch it anew"
        )


def read_fasttext(path: Path) -> FastTextFile:
    """Return the parts of a fastText model; large ones are mapped, not read.

    Parameters
    ----------
    path : Path
        A `.bin` or `.ftz` file.

    Returns
    -------
    file : FastTextFile

    Raises
    ------
    WeightsError
        If the file ends too early or is of another version; names the byte.
    """
    with path.open("rb") as file:
        reader = _Reader(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), str(path))
    _, version = reader.values("2i", "the header")
    if version not in _VERSIONS:
        raise WeightsError(f"{path} is a fastText model of version {version}; {_VERSIONS} can be read")
    n_dims, *_, model, n_buckets, min_n, max_n, _ = reader.values("12i", "the settings")
    reader.skip(8, "the settings")
    if version == 11 and model == _SUPERVISED:
        max_n = 0  # such models have no n-grams of characters, whatever they say
    words = _words(reader)
    if reader.values("?", "the kind of matrix")[0]:
        _skip_quantized(reader)
        rows = None
    else:
        rows = _matrix(reader, path, n_dims)
    _skip_output(reader, quantized=rows is None)
    subwords = None
    if rows is not None and max_n > 0 and n_buckets > 0:
        subwords = Subwords(rows, min_n, max_n, n_buckets, first=len(words))
    return FastTextFile(words, rows, subwords, n_dims)


def _words(reader: _Reader) -> list[str]:
    size, n_words, _ = reader.values("3i", "the vocabulary")
    _, n_pruned = reader.values("2q", "the vocabulary")
    words = []
    for number in range(1, size + 1):
        text = reader.word(number)
        _, kind = reader.values("qb", f"word {number:,}")
        if kind == _WORD:
            words.append(text.decode("utf-8", "surrogateescape"))
    if len(words) != n_words:
        raise reader.damaged(f"its vocabulary has {len(words):,} words of {n_words:,}")
    reader.skip(8 * max(n_pruned, 0), "the pruned n-grams")
    return words


def _matrix(reader: _Reader, path: Path, n_dims: int) -> np.ndarray:
    n_rows, n_columns = reader.values("2q", "the matrix")
    if n_columns != n_dims:
        raise reader.damaged(f"its matrix has {n_columns} columns, its settings say {n_dims}")
    start = reader.skip(4 * n_rows * n_columns, "the matrix")
    return np.memmap(path, np.dtype("<f4"), "r", start, (n_rows, n_columns))


def _skip_quantized(reader: _Reader) -> None:
    has_norms, n_rows, _, n_codes = reader.values("?2qi", "the quantized matrix")
    reader.skip(n_codes, "the quantized matrix")
    _skip_quantizer(reader)
    if has_norms:
        reader.skip(n_rows, "the quantized norms")
        _skip_quantizer(reader)


def _skip_quantizer(reader: _Reader) -> None:
    n_dims, *_ = reader.values("4i", "the quantizer")
    reader.skip(4 * n_dims * _CENTROIDS, "the quantizer")


def _skip_output(reader: _Reader, *, quantized: bool) -> None:
    (output_quantized,) = reader.values("?", "the kind of output matrix")
    if quantized and output_quantized:
        _skip_quantized(reader)
        return
    n_rows, n_columns = reader.values("2q", "the output matrix")
    reader.skip(4 * n_rows * n_columns, "the output matrix")
