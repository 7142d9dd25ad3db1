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
from sktransfer.words.subwords import Subwords
from sktransfer.words.text_format import Block

__all__ = ["MAGIC", "FastTextFile", "QuantizedRows", "Reader", "read_fasttext", "read_quantized"]

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


_CENTROIDS = 256  # of each part: a code is a byte


@dataclass(frozen=True)
class _Quantizer:
    """A product quantizer [1]_: a vector is cut into parts, and each stands for one of 256 centroids.

    References
    ----------
    .. [1] H. Jégou et al., "Product Quantization for Nearest Neighbor Search", TPAMI 2011.
    """

    n_dims: int
    parts: list[np.ndarray]  # (256, width) each; the last may be narrower

    def rows(self, codes: np.ndarray) -> np.ndarray:
        """Return vectors (n, n_dims) for codes (n, n_parts)."""
        return np.concatenate([part[codes[:, i]] for i, part in enumerate(self.parts)], axis=1)  # (n, n_dims)


class QuantizedRows:
    """A matrix whose rows are unpacked where they are asked for, so that it takes no more than its file.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_parts), uint8
        Which centroid each part of a row is.
    quantizer : _Quantizer
        Of the rows.
    norms : ndarray of shape (n_rows,), float32, default=None
        What each row is multiplied by.
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
        Where it begins.

    Raises
    ------
    WeightsError
        If it ends too early or contradicts itself.
    """
    has_norms, n_rows, n_dims, n_codes = reader.values("?2qi", "the quantized matrix")
    codes = _octets(reader, n_codes, "the quantized matrix")
    quantizer = _quantizer(reader)
    if quantizer.n_dims != n_dims or n_codes != n_rows * len(quantizer.parts):
        raise reader.damaged(f"its quantized matrix of {n_rows:,} rows and {n_dims:,} columns has {n_codes:,} codes")
    norms = None
    if has_norms:
        of_norms = _octets(reader, n_rows, "the quantized norms")
        of_one = _quantizer(reader)
        if of_one.n_dims != 1:
            raise reader.damaged(f"its norms are of {of_one.n_dims} dimensions")
        norms = of_one.rows(of_norms[:, None])[:, 0]  # (n_rows,)
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


def _octets(reader: Reader, n: int, what: str) -> np.ndarray:
    start = reader.skip(n, what)
    return np.frombuffer(reader.content, np.uint8, n, start).copy()  # (n,)


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
