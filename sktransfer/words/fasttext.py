"""Reader of fastText's binary models (`.bin`, and `.ftz` with a quantized matrix).

The input matrix of a `.bin` file is mapped into memory. fastText's own loader reads the whole file and loops endlessly
on a truncated one, so this reader checks the size of each part before reading it.
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
from sktransfer.words.subwords import Subwords
from sktransfer.words.vectors import WordBlock

__all__ = ["MAGIC", "FastTextFile", "QuantizedRows", "Reader", "read_fasttext", "read_quantized"]

MAGIC = struct.pack("<i", 793712314)
_MAX_NGRAM = 255  # longest plausible character n-gram
_MAX_BUCKETS = 2**26  # largest plausible number of buckets in a pruned model; fastText's default is 2,000,000
_VERSIONS = (11, 12)
_SUPERVISED, _WORD = 3, 0
_BLOCK = 4096  # words per block


@dataclass(frozen=True)
class FastTextFile:
    """Content of a fastText model.

    Parameters
    ----------
    words : list of str
        Words, most frequent first, without labels. They include "</s>", which fastText reads at the end of each line.
    rows : ndarray of shape (n_rows, n_dims) or QuantizedRows
        Input matrix, with the vectors of words first and those of n-grams after them. An ndarray is memory-mapped.
    subwords : Subwords or None
        Vectors of character n-grams; None if the model has none.
    n_dims : int
        Length of a vector.
    name : str
        Path, for messages.
    """

    words: list[str]
    rows: np.ndarray | QuantizedRows
    subwords: Subwords | None
    n_dims: int
    name: str

    def blocks(self) -> Iterator[WordBlock]:
        """Yield words and their vectors, bit-equal to fastText's `get_word_vector`.

        Raises
        ------
        WeightsError
            If a vector is not finite.
        """
        for start in range(0, len(self.words), _BLOCK):
            words = self.words[start : start + _BLOCK]
            if self.subwords is None:
                # The values start after the words, rarely at a multiple of four bytes. The copy is aligned.
                vectors = np.array(self.rows[start : start + len(words)], dtype=np.float32)  # (n, n_dims)
            else:
                vectors = self.subwords.compose(words, start)
            finite = np.isfinite(vectors).all(1)  # (n,)
            if not finite.all():
                word = words[int(finite.argmin())]
                raise WeightsError(
                    f"{self.name}: the vector of {word!r} is not finite. The file is damaged. Download it again"
                )
            yield words, vectors


def read_fasttext(path: Path) -> FastTextFile:
    """Return the content of a fastText model, with its matrix memory-mapped or quantized.

    Parameters
    ----------
    path : Path
        A `.bin` or `.ftz` file, not gzipped.

    Returns
    -------
    file : FastTextFile

    Raises
    ------
    WeightsError
        If the file is truncated (names the byte), has inconsistent settings or an unsupported version.
    """
    with path.open("rb") as file:
        reader = Reader(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), str(path))
    _, version = reader.values("2i", "the header")
    if version not in _VERSIONS:
        raise WeightsError(f"{path} is a fastText model of version {version}. Supported versions: {_VERSIONS}")
    n_dims, *_, model, n_buckets, min_n, max_n, _ = reader.values("12i", "the settings")
    reader.skip(8, "the settings")
    if version == 11 and model == _SUPERVISED:
        max_n = 0  # these models have no character n-grams, regardless of the setting
    if max_n > 0 and not 0 <= min_n <= max_n <= _MAX_NGRAM:
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
    n_ngrams = 0 if subwords is None else n_buckets if slots is None else 1 + int(slots.max()) - len(words)
    least = len(words) + n_ngrams
    if len(rows) < least:
        raise reader.damaged(f"its matrix has {len(rows):,} rows for {least:,} words and n-grams")
    return FastTextFile(words, rows, subwords, n_dims, str(path))


def _vocabulary(reader: Reader, n_buckets: int) -> tuple[list[str], np.ndarray | None]:
    """Return the words, and in a pruned model the row of each bucket of n-grams (-1 for a pruned bucket)."""
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
    if n_pruned < 0:  # not pruned
        return words, None
    start = reader.skip(8 * n_pruned, "the pruned n-grams")
    pairs = np.frombuffer(reader.content, np.dtype("<i4"), 2 * n_pruned, start).reshape(n_pruned, 2)  # (n_pruned, 2)
    if not n_buckets:
        return words, None
    if n_buckets > _MAX_BUCKETS:
        raise reader.damaged(f"its settings ask for {n_buckets:,} buckets of n-grams")
    if ((pairs < 0) | (pairs >= [n_buckets, len(pairs)])).any():
        raise reader.damaged("its pruned n-grams refer to buckets or rows that do not exist")
    slots = np.full(n_buckets, -1, np.int32)
    slots[pairs[:, 0]] = len(words) + pairs[:, 1]
    return words, slots


def _matrix(reader: Reader, path: Path) -> np.ndarray:
    n_rows, n_columns = reader.values("2q", "the matrix")
    if n_rows < 1 or n_columns < 1:
        raise reader.damaged(f"its matrix has {n_rows:,} rows and {n_columns:,} columns")
    start = reader.skip(4 * n_rows * n_columns, "the matrix")
    return np.memmap(path, np.dtype("<f4"), "r", start, (n_rows, n_columns))  # (n_rows, n_columns)


def _skip_output(reader: Reader, *, quantized: bool) -> None:
    (output_quantized,) = reader.values("?", "the kind of output matrix")
    if quantized and output_quantized:
        read_quantized(reader)
        return
    n_rows, n_columns = reader.values("2q", "the output matrix")
    reader.skip(4 * n_rows * n_columns, "the output matrix")


_CENTROIDS = 256  # per part, because a code is one byte


@dataclass(frozen=True)
class _Quantizer:
    """Product quantizer [1]_, which splits a vector into parts and replaces each by one of 256 centroids.

    References
    ----------
    .. [1] H. Jégou et al., "Product Quantization for Nearest Neighbor Search", TPAMI 2011.
    """

    n_dims: int
    parts: list[np.ndarray]  # each (256, width); the last may be narrower

    def rows(self, codes: np.ndarray) -> np.ndarray:
        """Return vectors (n, n_dims) for codes (n, n_parts)."""
        return np.concatenate([part[codes[:, i]] for i, part in enumerate(self.parts)], axis=1)  # (n, n_dims)


class QuantizedRows:
    """Quantized matrix whose rows are decoded on access, so that it takes no more memory than its file.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_parts), uint8
        Index of the centroid for each part of each row.
    quantizer : _Quantizer
        Quantizer of the rows.
    norms : ndarray of shape (n_rows,), float32, default=None
        Factor of each row.
    """

    def __init__(self, codes: np.ndarray, quantizer: _Quantizer, norms: np.ndarray | None = None) -> None:
        self._codes, self._quantizer, self._norms = codes, quantizer, norms
        self.shape = len(codes), quantizer.n_dims

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = self._quantizer.rows(self._codes[index])  # (n, n_dims)
        return rows if self._norms is None else rows * self._norms[index, None]


def read_quantized(reader: Reader) -> QuantizedRows:
    """Read a quantized matrix.

    Parameters
    ----------
    reader : Reader
        Reader positioned at the start of the matrix.

    Raises
    ------
    WeightsError
        If the matrix is truncated or inconsistent.
    """
    has_norms, n_rows, n_dims, n_codes = reader.values("?2qi", "the quantized matrix")
    codes = _bytes(reader, n_codes, "the quantized matrix")
    quantizer = _quantizer(reader)
    if quantizer.n_dims != n_dims or n_codes != n_rows * len(quantizer.parts):
        raise reader.damaged(f"its quantized matrix of {n_rows:,} rows and {n_dims:,} columns has {n_codes:,} codes")
    norms = None
    if has_norms:
        norm_codes = _bytes(reader, n_rows, "the quantized norms")
        norm_quantizer = _quantizer(reader)
        if norm_quantizer.n_dims != 1:
            raise reader.damaged(f"its norms have {norm_quantizer.n_dims} dimensions, not 1")
        norms = norm_quantizer.rows(norm_codes[:, None])[:, 0]  # (n_rows,)
    return QuantizedRows(codes.reshape(n_rows, len(quantizer.parts)), quantizer, norms)


def _quantizer(reader: Reader) -> _Quantizer:
    n_dims, n_parts, width, last = reader.values("4i", "the quantizer")
    if not (n_parts >= 1 and width >= 1 and 1 <= last <= width and (n_parts - 1) * width + last == n_dims):
        raise reader.damaged(f"its quantizer cuts {n_dims} dimensions into {n_parts} parts of {width}, the last {last}")
    start = reader.skip(4 * n_dims * _CENTROIDS, "the quantizer")
    values = np.frombuffer(reader.content, np.dtype("<f4"), n_dims * _CENTROIDS, start).astype(np.float32)
    cuts = [width * _CENTROIDS * part for part in range(1, n_parts)]
    parts = [part.reshape(_CENTROIDS, -1) for part in np.split(values, cuts)]  # (256, width) each
    return _Quantizer(n_dims, parts)


def _bytes(reader: Reader, n: int, part: str) -> np.ndarray:
    start = reader.skip(n, part)
    return np.frombuffer(reader.content, np.uint8, n, start).copy()  # (n,)


class Reader:
    """Sequential, bounds-checked reader of a little-endian binary file.

    Parameters
    ----------
    content : mmap
        The file.
    name : str
        Path, for messages.
    """

    def __init__(self, content: mmap.mmap, name: str) -> None:
        self.content, self.name, self.at = content, name, 0

    def skip(self, n_bytes: int, part: str) -> int:
        """Advance by some bytes, and return the position of the first of them.

        Raises
        ------
        WeightsError
            If the file ends before that; names the part of the file.
        """
        start = self.at
        if n_bytes < 0 or start + n_bytes > len(self.content):
            raise self.damaged(f"{part} should take {n_bytes:,} bytes from byte {start:,} on")
        self.at += n_bytes
        return start

    def values(self, fmt: str, part: str) -> tuple[int, ...]:
        """Return the next numbers, in a format of `struct`."""
        start = self.skip(struct.calcsize("<" + fmt), part)
        return struct.unpack_from("<" + fmt, self.content, start)

    def word(self, number: int) -> bytes:
        """Return the bytes up to the next zero byte."""
        end = self.content.find(b"\0", self.at)
        if end < 0:
            raise self.damaged(f"word {number:,} has no end")
        start, self.at = self.at, end + 1
        return self.content[start:end]

    def damaged(self, problem: str) -> WeightsError:
        """Return the error for a damaged file."""
        return WeightsError(
            f"{self.name} ends at byte {len(self.content):,}, {problem}. The file is truncated or damaged. Download it "
            "again"
        )
