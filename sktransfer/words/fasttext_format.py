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
from typing import Any

import numpy as np

from sktransfer.exceptions import WeightsError
from sktransfer.words.quantized import QuantizedRows, read_quantized
from sktransfer.words.reader import Reader
from sktransfer.words.subwords import Subwords
from sktransfer.words.text_format import Block

__all__ = ["MAGIC", "FastTextFile", "read_fasttext"]

MAGIC = struct.pack("<i", 793712314)
_LONGEST = 255  # n-gram of characters that is believed
_BUCKETS = 2**26  # and how many there may be where some were pruned: fastText's default is 2,000,000
_VERSIONS = (11, 12)
_SUPERVISED, _WORD = 3, 0
_WORDS = 4096  # a block


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
    name : str
        The file, for errors.
    """

    words: list[str]
    rows: np.ndarray | QuantizedRows
    subwords: Subwords | None
    n_dims: int
    name: str

    def blocks(self) -> Iterator[Block]:
        """Yield words and their vectors, to the bit as fastText's `get_word_vector` gives them.

        Raises
        ------
        WeightsError
            If a vector is not finite.
        """
        for start in range(0, len(self.words), _WORDS):
            words = self.words[start : start + _WORDS]
            if self.subwords is None:
                # A copy: in the file, values stand where the words end, which is seldom a multiple of four bytes.
                vectors = np.array(self.rows[start : start + len(words)], dtype=np.float32)
            else:
                vectors = self.subwords.compose(words, start)
            finite = np.isfinite(vectors).all(1)  # (n,)
            if not finite.all():
                word = words[int(finite.argmin())]
                raise WeightsError(
                    f"{self.name}: the vector of {word!r} is not finite. The file is damaged: fetch it anew"
                )
            yield words, vectors


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
        reader = Reader(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), str(path))
    _, version = reader.values("2i", "the header")
    if version not in _VERSIONS:
        raise WeightsError(f"{path} is a fastText model of version {version}; {_VERSIONS} can be read")
    n_dims, *_, model, n_buckets, min_n, max_n, _ = reader.values("12i", "the settings")
    reader.skip(8, "the settings")
    if version == 11 and model == _SUPERVISED:
        max_n = 0  # such models have no n-grams of characters, whatever they say
    if max_n > 0 and not 0 <= min_n <= max_n <= _LONGEST:
        raise reader.damaged(f"its settings ask for parts of words of {min_n:,} to {max_n:,} characters")
    words, slots = _vocabulary(reader, n_buckets if max_n > 0 else 0)
    is_quantized = bool(reader.values("?", "the kind of matrix")[0])
    rows: Any = read_quantized(reader) if is_quantized else _matrix(reader, path)
    if rows.shape[1] != n_dims:
        raise reader.damaged(f"its matrix has {rows.shape[1]} columns, its settings say {n_dims}")
    _skip_output(reader, quantized=is_quantized)
    subwords = None
    if max_n > 0 and n_buckets > 0:
        subwords = Subwords(rows, min_n, max_n, n_buckets, first=len(words), slots=slots)
    least = len(words) + (0 if subwords is None else n_buckets if slots is None else 1 + int(slots.max()) - len(words))
    if len(rows) < least:
        raise reader.damaged(f"its matrix has {len(rows):,} rows for {least:,} words and n-grams")
    return FastTextFile(words, rows, subwords, n_dims, str(path))


def _vocabulary(reader: Reader, n_buckets: int) -> tuple[list[str], np.ndarray | None]:
    """Return the words, and the row of each bucket of n-grams, -1 for none, where some were pruned."""
    size, n_words, _ = reader.values("3i", "the vocabulary")
    _, n_pruned = reader.values("2q", "the vocabulary")
    words = []
    for number in range(1, size + 1):
        text = reader.word(number)
        _, kind = reader.values("qb", f"word {number:,}")
        if kind == _WORD:
            words.append(text.decode("utf-8", "surrogateescape"))
    if len(words) != n_words or not words:
        raise reader.damaged(f"its vocabulary has {len(words):,} words of {n_words:,}")
    if n_pruned < 0:  # nothing was pruned
        return words, None
    start = reader.skip(8 * n_pruned, "the pruned n-grams")
    pairs = np.frombuffer(reader.content, np.dtype("<i4"), 2 * n_pruned, start).reshape(n_pruned, 2)  # (n_pruned, 2)
    if not n_buckets:
        return words, None
    if n_buckets > _BUCKETS:
        raise reader.damaged(f"its settings ask for {n_buckets:,} buckets of n-grams")
    if ((pairs < 0) | (pairs >= [n_buckets, len(pairs)])).any():
        raise reader.damaged("its pruned n-grams are of no bucket or of no row")
    slots = np.full(n_buckets, -1, np.int32)
    slots[pairs[:, 0]] = len(words) + pairs[:, 1]
    return words, slots


def _matrix(reader: Reader, path: Path) -> np.ndarray:
    n_rows, n_columns = reader.values("2q", "the matrix")
    if n_rows < 1 or n_columns < 1:
        raise reader.damaged(f"its matrix has {n_rows:,} rows and {n_columns:,} columns")
    start = reader.skip(4 * n_rows * n_columns, "the matrix")
    return np.memmap(path, np.dtype("<f4"), "r", start, (n_rows, n_columns))


def _skip_output(reader: Reader, *, quantized: bool) -> None:
    (output_quantized,) = reader.values("?", "the kind of output matrix")
    if quantized and output_quantized:
        read_quantized(reader)
        return
    n_rows, n_columns = reader.values("2q", "the output matrix")
    reader.skip(4 * n_rows * n_columns, "the output matrix")
