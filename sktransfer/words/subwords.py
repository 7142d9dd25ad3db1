"""Vectors of words that nobody has listed: the mean of the vectors of their character n-grams, as fastText has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from sktransfer._validation import require_field
from sktransfer.exceptions import LoadError

__all__ = ["Subwords", "buckets", "character_ngrams"]

_OFFSET, _PRIME = np.uint32(2166136261), np.uint32(16777619)  # FNV-1a
_LEADING = np.array([0, 0, 0xC0, 0xE0, 0xF0], np.uint32)  # the first byte of a character that takes 1, 2, 3, 4
_END_OF_LINE = "</s>"


def character_ngrams(word: str, min_n: int, max_n: int) -> set[str]:
    """Return the distinct character n-grams of a word, its ends marked by "<" and ">".

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
        if not (end == start + 1 and (start == 0 or end == length))  # the marks alone are no n-grams
    }


def buckets(words: Sequence[str], min_n: int, max_n: int, n_buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bucket of each character n-gram of some words, in fastText's order, repeats kept.

    Parameters
    ----------
    words : sequence of str
        The words.
    min_n, max_n : int
        Shortest and longest n-gram, in characters.
    n_buckets : int
        How many buckets the n-grams share.

    Returns
    -------
    found : ndarray of shape (n_found,), int64
        Buckets, word after word; in a word by where the n-gram starts, then by its length.
    lengths : ndarray of shape (n_words,), int64
        How many of them each word has.

    Examples
    --------
    >>> from sktransfer.words.subwords import buckets
    >>> buckets(["cat", "a"], 3, 6, 1000)[1].tolist()  # <ca cat at> <cat cat> <cat>, and <a>
    [6, 1]
    """
    marked = [f"<{word}>" for word in words]
    sizes = np.array([len(word) for word in marked], dtype=np.int64)
    characters = np.frombuffer("".join(marked).encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))
    of_word = np.repeat(np.arange(len(words)), sizes)  # (n_characters,)
    ends = np.cumsum(sizes)[of_word]
    starts = ends - sizes[of_word]
    places = np.arange(len(characters))
    octets = _utf8(characters)
    codes = np.full(len(characters), _OFFSET, np.uint32)  # of the n-grams that start here
    found = np.zeros((len(characters), max_n + 1 - min_n), np.int64)
    real = np.zeros(found.shape, bool)
    for n in range(1, max_n + 1):
        last = np.minimum(places + n - 1, len(characters) - 1)
        for values, there in octets:
            codes = np.where(there[last], (codes ^ values[last]) * _PRIME, codes)
        if n >= min_n:
            found[:, n - min_n] = codes % np.uint32(n_buckets)
            real[:, n - min_n] = places + n <= ends
            if n == 1:  # the marks alone are no n-grams
                real[:, 0] = (places > starts) & (places + 1 < ends)
    lengths = np.bincount(of_word, real.sum(axis=1), minlength=len(words)).astype(np.int64)
    return found[real], lengths


def _utf8(characters: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return first, second, ... bytes of characters in UTF-8, as fastText widens them, and where there are such."""
    codes = characters.astype(np.uint32)
    raw = (codes >= 0xDC80) & (codes <= 0xDCFF)  # a byte that was no UTF-8, kept by "surrogateescape"
    lengths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    lengths[raw] = 1
    octets = []
    for place in range(int(lengths.max(initial=1))):
        shift = np.maximum(6 * (lengths - 1 - place), 0).astype(np.uint32)
        bits = codes >> shift
        value = np.where(place == 0, _LEADING[lengths] | bits, 0x80 | (bits & 0x3F))
        value = np.where((lengths == 1) & raw, codes & 0xFF, value).astype(np.uint32)
        # fastText hashes signed bytes: those from 128 on are widened to 32 bits with their sign.
        octets.append((np.where(value < 0x80, value, value | np.uint32(0xFFFFFF00)), lengths > place))
    return octets


class Subwords:
    """Vectors of character n-grams, and the words that they make.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_dims), float32
        Vectors of n-grams; those of listed words may stand before them.
    min_n, max_n : int
        Shortest and longest n-gram, in characters.
    n_buckets : int
        How many buckets the n-grams share.
    first : int, default=0
        The row of bucket 0.
    slots : ndarray of shape (n_buckets,), int32, default=None
        The row of each bucket, -1 where none of its n-grams was ever trained: these take no part in a word's mean.
        None: bucket b has row `first + b`.
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
        """Return the vectors of words by their n-grams alone; zeros where no n-gram is known.

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
        """Return the vectors of listed words, whose own rows stand first in `rows`.

        Parameters
        ----------
        words : sequence of str
            Words that follow each other in the list.
        start : int, default=0
            The row of the first of them.

        Returns
        -------
        vectors : ndarray of shape (n_words, n_dims), float32
        """
        rows, lengths = self.rows_of(words)
        if _END_OF_LINE in words:  # it has no n-grams
            keep = np.repeat(np.array([word != _END_OF_LINE for word in words]), lengths)
            rows, lengths = rows[keep], np.where([word == _END_OF_LINE for word in words], 0, lengths)
        firsts = np.cumsum(lengths) - lengths
        return self._means(np.insert(rows, firsts, np.arange(start, start + len(words))), lengths + 1)

    def rows_of(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the n-grams of words, word after word, and how many each word has."""
        found, lengths = buckets(words, self.min_n, self.max_n, self.n_buckets)
        if self.slots is None:
            return self.first + found, lengths
        rows = self.slots[found]
        trained = rows >= 0
        of_word = np.repeat(np.arange(len(words)), lengths)
        return rows[trained], np.bincount(of_word, trained, minlength=len(words)).astype(np.int64)

    def _means(self, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the mean of some rows for each word: the sum in the order given, times 1/n, to the bit as fastText."""
        ends = np.concatenate([[0], np.cumsum(lengths)])
        # Rows that are needed are copied out first: a mapped matrix is large, and seldom aligned.
        needed, places = np.unique(rows, return_inverse=True)
        sums = np.zeros((len(lengths), self.rows.shape[1]), np.float32)
        if len(needed):
            ones = csr_array((np.ones(len(places), np.float32), places, ends), shape=(len(lengths), len(needed)))
            sums = ones @ np.array(self.rows[needed], dtype=np.float32)  # (n_words, n_dims)
        means: np.ndarray = sums * (1.0 / np.maximum(lengths, 1)).astype(np.float32)[:, None]
        return means

    def to_state(self) -> dict[str, Any]:
        """Return the vectors and the sizes that tell which n-gram has which row."""
        return {
            # Rows may be mapped from a file, or quantized and unpacked by indexing.
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
            If a field is missing, or the sizes do not fit the vectors.
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
