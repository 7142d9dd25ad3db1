"""Subword vectors: a word as the mean of the vectors of its character n-grams, as in fastText."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from sktransfer._validation import require_field
from sktransfer.exceptions import LoadError

__all__ = ["END_OF_LINE", "Subwords", "buckets", "character_ngrams"]

_OFFSET, _PRIME = np.uint32(2166136261), np.uint32(16777619)  # FNV-1a
_LEADING = np.array([0, 0, 0xC0, 0xE0, 0xF0], np.uint32)  # first byte of characters of 1 to 4 bytes
END_OF_LINE = "</s>"  # word that fastText reads at the end of each line


def character_ngrams(word: str, min_n: int, max_n: int) -> set[str]:
    """Return the distinct character n-grams of a word, with "<" and ">" as its boundary marks.

    Parameters
    ----------
    word : str
        The word.
    min_n, max_n : int
        Shortest and longest n-gram, in characters.

    Examples
    --------
    >>> from sktransfer.words.subwords import character_ngrams
    >>> sorted(character_ngrams("cat", 3, 3))
    ['<ca', 'at>', 'cat']
    """
    marked = f"<{word}>"
    length = len(marked)
    return {
        marked[start:end]
        for start in range(length)
        for end in range(start + min_n, min(start + max_n, length) + 1)
        if not (end == start + 1 and (start == 0 or end == length))  # boundary marks alone are excluded
    }


def buckets(words: Sequence[str], min_n: int, max_n: int, n_buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bucket of each character n-gram of some words, in fastText's order and with repetitions.

    Parameters
    ----------
    words : sequence of str
        The words.
    min_n, max_n : int
        Shortest and longest n-gram, in characters.
    n_buckets : int
        Number of buckets shared by the n-grams.

    Returns
    -------
    hashed : ndarray of shape (n_ngrams,), int64
        Buckets of all words, concatenated. Within a word, they are sorted by the n-gram's start, then by its length.
    lengths : ndarray of shape (n_words,), int64
        Number of n-grams per word.

    Examples
    --------
    >>> from sktransfer.words.subwords import buckets
    >>> buckets(["cat", "a"], 3, 6, 1000)[1].tolist()  # <ca cat at> <cat cat> <cat>, and <a>
    [6, 1]
    """
    marked = [f"<{word}>" for word in words]
    sizes = np.array([len(word) for word in marked], dtype=np.int64)  # (n_words,)
    characters = np.frombuffer("".join(marked).encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))  # (n_characters,)
    of_word = np.repeat(np.arange(len(words)), sizes)  # (n_characters,)
    ends = np.cumsum(sizes)[of_word]  # (n_characters,)
    starts = ends - sizes[of_word]
    positions = np.arange(len(characters))
    encoded = _utf8(characters)
    codes = np.full(len(characters), _OFFSET, np.uint32)  # hash of the n-gram that starts at each character
    hashed = np.zeros((len(characters), max_n + 1 - min_n), np.int64)  # (n_characters, n_sizes)
    is_ngram = np.zeros(hashed.shape, bool)
    for n in range(1, max_n + 1):
        last = np.minimum(positions + n - 1, len(characters) - 1)
        for values, exists in encoded:
            codes = np.where(exists[last], (codes ^ values[last]) * _PRIME, codes)
        if n >= min_n:
            hashed[:, n - min_n] = codes % np.uint32(n_buckets)
            is_ngram[:, n - min_n] = positions + n <= ends
            if n == 1:  # boundary marks alone are excluded
                is_ngram[:, 0] = (positions > starts) & (positions + 1 < ends)
    lengths = np.bincount(of_word, is_ngram.sum(axis=1), minlength=len(words)).astype(np.int64)  # (n_words,)
    return hashed[is_ngram], lengths


def _utf8(characters: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the first, second, ... UTF-8 bytes of characters, sign-extended, and whether each character has them."""
    codes = characters.astype(np.uint32)
    is_raw = (codes >= 0xDC80) & (codes <= 0xDCFF)  # a byte that is not UTF-8, decoded by "surrogateescape"
    lengths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    lengths[is_raw] = 1
    encoded = []
    for position in range(int(lengths.max(initial=1))):
        shift = np.maximum(6 * (lengths - 1 - position), 0).astype(np.uint32)
        bits = codes >> shift
        value = np.where(position == 0, _LEADING[lengths] | bits, 0x80 | (bits & 0x3F))
        value = np.where((lengths == 1) & is_raw, codes & 0xFF, value).astype(np.uint32)
        # fastText hashes signed bytes, so bytes from 128 on are sign-extended to 32 bits.
        encoded.append((np.where(value < 0x80, value, value | np.uint32(0xFFFFFF00)), lengths > position))
    return encoded


class Subwords:
    """Vectors of character n-grams, and of words composed of them.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_dims), float32
        Vectors of n-grams. Vectors of listed words may precede them.
    min_n, max_n : int
        Shortest and longest n-gram, in characters.
    n_buckets : int
        Number of buckets shared by the n-grams.
    first : int, default=0
        Row of bucket 0.
    slots : ndarray of shape (n_buckets,), int32, default=None
        Row of each bucket, or -1 for a bucket without trained n-grams, which is excluded from a word's mean. None
        means that bucket b has row `first + b`.
    """

    def __init__(
        self,
        rows: np.ndarray,
        min_n: int,
        max_n: int,
        n_buckets: int,
        *,
        first: int = 0,
        slots: np.ndarray | None = None,
    ) -> None:
        self.rows, self.min_n, self.max_n, self.n_buckets = rows, min_n, max_n, n_buckets
        self.first, self.slots = first, slots

    def vectors(self, words: Sequence[str]) -> np.ndarray:
        """Return the vectors of words from their n-grams alone, and zeros for a word without known n-grams.

        Parameters
        ----------
        words : sequence of str
            The words.

        Returns
        -------
        vectors : ndarray of shape (n_words, n_dims), float32
        """
        return self._means(*self.rows_of(words))

    def compose(self, words: Sequence[str], start: int = 0) -> np.ndarray:
        """Return the vectors of listed words, which also have rows of their own at the start of `rows`.

        Parameters
        ----------
        words : sequence of str
            Consecutive words of the list.
        start : int, default=0
            Row of the first word.

        Returns
        -------
        vectors : ndarray of shape (n_words, n_dims), float32
        """
        rows, lengths = self.rows_of(words)
        if END_OF_LINE in words:  # it has no n-grams
            keep = np.repeat(np.array([word != END_OF_LINE for word in words]), lengths)
            rows, lengths = rows[keep], np.where([word == END_OF_LINE for word in words], 0, lengths)
        firsts = np.cumsum(lengths) - lengths
        return self._means(np.insert(rows, firsts, np.arange(start, start + len(words))), lengths + 1)

    def rows_of(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the n-grams of words, concatenated, and the number of n-grams per word."""
        hashed, lengths = buckets(words, self.min_n, self.max_n, self.n_buckets)
        if self.slots is None:
            return self.first + hashed, lengths
        rows = self.slots[hashed]
        trained = rows >= 0
        of_word = np.repeat(np.arange(len(words)), lengths)
        return rows[trained], np.bincount(of_word, trained, minlength=len(words)).astype(np.int64)

    def _means(self, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the mean of rows per word, bit-equal to fastText: the sum in the given order, times 1/n."""
        ends = np.concatenate([[0], np.cumsum(lengths)])
        # Copy the needed rows first, because a memory-mapped matrix is large and rarely aligned.
        needed, positions = np.unique(rows, return_inverse=True)
        sums = np.zeros((len(lengths), self.rows.shape[1]), np.float32)
        if len(needed):
            ones = csr_array((np.ones(len(positions), np.float32), positions, ends), shape=(len(lengths), len(needed)))
            sums = ones @ np.array(self.rows[needed], dtype=np.float32)  # (n_words, n_dims)
        means: np.ndarray = sums * (1.0 / np.maximum(lengths, 1)).astype(np.float32)[:, None]
        return means

    def to_state(self) -> dict[str, Any]:
        """Return the vectors and the settings that map n-grams to rows."""
        return {
            # Rows may be memory-mapped, or quantized and decoded by indexing.
            "rows": np.array(self.rows[np.arange(len(self.rows))], dtype=np.float32),
            "slots": None if self.slots is None else np.array(self.slots, dtype=np.int32),
            **{name: int(getattr(self, name)) for name in ("min_n", "max_n", "n_buckets", "first")},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Subwords:
        """Return the subword vectors of a state.

        Raises
        ------
        LoadError
            If a field is missing, or the settings are inconsistent with the vectors.
        """
        rows, slots = require_field(state, "rows", np.ndarray), require_field(state, "slots", (np.ndarray, type(None)))
        min_n, max_n, n_buckets, first = (
            require_field(state, name, int) for name in ("min_n", "max_n", "n_buckets", "first")
        )
        fits = rows.dtype == np.float32 and rows.ndim == 2
        fits = fits and 1 <= min_n <= max_n <= 100 and n_buckets >= 1 and first >= 0
        if slots is None:
            fits = fits and first + n_buckets <= len(rows)
        else:
            fits = fits and slots.dtype == np.int32 and slots.shape == (n_buckets,)
            fits = fits and bool((slots >= -1).all() and (slots < len(rows)).all())
        if not fits:
            raise LoadError(
                f"subword vectors {rows.shape} of {rows.dtype} do not fit n-grams of {min_n} to {max_n} characters in "
                f"{n_buckets} buckets from row {first}"
            )
        return cls(rows, min_n, max_n, n_buckets, first=first, slots=slots)
