"""A table of word vectors: shared, read-only, with a way to build vectors of other words where it has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from sktransfer._validation import require_field
from sktransfer.exceptions import InvalidParameterError, LoadError, SaveError, did_you_mean
from sktransfer.words.files import Source
from sktransfer.words.subwords import Subwords

__all__ = ["WordVectors"]

_BLOCK = 65_536  # words compared at once when neighbours are looked for


class Builder(Protocol):
    """Builds vectors of words that the table has not."""

    def vectors(self, words: Sequence[str]) -> np.ndarray: ...


class WordVectors:
    """Vectors of words, shared and read-only: `sklearn.clone` returns the same object, not a copy.

    Made by `load_vectors`, or `embedding_` of a fitted `WordEmbedder`.

    Parameters
    ----------
    words : sequence of str
        The words, the frequent first.
    matrix : ndarray of shape (n_words, n_dims), float32
        Their vectors, in memory or mapped.
    subwords : Subwords, default=None
        Builds vectors of words that are not listed.
    index : dict of str to int, default=None
        Word -> row; made of `words` where it is None. Of a word listed twice the first row counts.
    source : Source, default=None
        The file that all this was read from: a pickle then holds the file's path and hash, not the vectors.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.words.vectors import WordVectors
    >>> vectors = WordVectors(["up", "down"], np.array([[1, 2], [3, 4]], dtype=np.float32))
    >>> vectors["down"]
    array([3., 4.], dtype=float32)
    >>> vectors
    WordVectors(2 words, 2 dimensions)
    """

    def __init__(
        self,
        words: Sequence[str],
        matrix: np.ndarray,
        *,
        subwords: Builder | None = None,
        index: dict[str, int] | None = None,
        source: Source | None = None,
    ) -> None:
        self.words, self.subwords, self.source = words, subwords, source
        self.matrix: np.ndarray = matrix.view()
        self.matrix.flags.writeable = False
        self.index = _index(words) if index is None else index

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.index

    @property
    def n_dims(self) -> int:
        """The length of a vector."""
        return int(self.matrix.shape[1])

    def __getitem__(self, word: str) -> np.ndarray:
        row = self.index.get(word)
        if row is not None:
            found: np.ndarray = self.matrix[row]
            return found
        built: np.ndarray | None = None if self.subwords is None else self.subwords.vectors([word])[0]
        if built is None or not built.any():
            raise KeyError(f"{word!r} is not among the {len(self):,} words.{did_you_mean(word, self.words[:20_000])}")
        return built

    def nearest(self, vector: np.ndarray, k: int, without: Sequence[str] = ()) -> list[tuple[str, float]]:
        """Return the words whose vectors have the largest cosine with a vector.

        Parameters
        ----------
        vector : ndarray of shape (n_dims,)
            What to look near.
        k : int
            How many words.
        without : sequence of str, default=()
            Words that are no answer.

        Returns
        -------
        neighbours : list of (word, cosine)
        """
        cosines = np.full(len(self), -np.inf, np.float32)
        unit = vector / max(float(np.linalg.norm(vector)), 1e-12)
        for start in range(0, len(self), _BLOCK):
            block = self.matrix[start : start + _BLOCK]
            lengths = np.maximum(np.linalg.norm(block, axis=1), 1e-12)
            cosines[start : start + _BLOCK] = block @ unit.astype(np.float32) / lengths
        cosines[[self.index[word] for word in without if word in self.index]] = -np.inf
        best = np.argsort(-cosines, kind="stable")[: min(k, len(self) - len(set(without) & self.index.keys()))]
        return [(self.words[row], float(cosines[row])) for row in best]

    def similar(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """Return the k nearest words of a word, by cosine.

        Raises
        ------
        InvalidParameterError
            If the word has no vector.
        """
        return self.nearest(self._vector_of(word), k, [word])

    def analogy(self, a: str, b: str, c: str, k: int = 1) -> list[tuple[str, float]]:
        """Return words d such that a is to b as c is to d: nearest to b - a + c, of vectors scaled to length one.

        Raises
        ------
        InvalidParameterError
            If one of the words has no vector.
        """
        units = [vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in map(self._vector_of, (a, b, c))]
        return self.nearest(units[1] - units[0] + units[2], k, [a, b, c])

    def _vector_of(self, word: str) -> np.ndarray:
        try:
            return self[word]
        except KeyError as error:
            raise InvalidParameterError(error.args[0]) from None

    def __sklearn_clone__(self) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source is not None:
            from sktransfer.words.loading import load_the_same  # it imports this module

            return load_the_same, (self.source.path, self.source.digest())
        return _rebuild, (list(self.words), np.asarray(self.matrix), self.subwords)

    def __repr__(self) -> str:
        built = ", and of others by subwords" if self.subwords is not None else ""
        return f"WordVectors({len(self):,} words, {self.n_dims} dimensions{built})"

    def to_state(self) -> dict[str, Any]:
        """Return the words and all vectors.

        Raises
        ------
        SaveError
            If vectors of unknown words are built by an object other than `Subwords`.
        """
        if self.subwords is not None and type(self.subwords) is not Subwords:
            kind = type(self.subwords).__name__
            raise SaveError(f"vectors of unknown words made by {kind} can only be saved by pickle")
        # The matrix may be mapped from a file, or quantized and unpacked by indexing.
        matrix = np.array(self.matrix[np.arange(len(self.matrix))], dtype=np.float32)
        return {"words": list(self.words), "matrix": matrix, "subwords": self.subwords}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> WordVectors:
        """Return the word vectors of a state.

        Raises
        ------
        LoadError
            If a field is missing, or words and vectors do not fit each other.
        """
        words, matrix = require_field(state, "words", list), require_field(state, "matrix", np.ndarray)
        subwords = require_field(state, "subwords", (Subwords, type(None)))
        if not all(type(word) is str for word in words) or matrix.dtype != np.float32 or matrix.ndim != 2:
            raise LoadError(f"its words are not all str, or its vectors {matrix.shape} of {matrix.dtype} are no table")
        if not 0 < len(words) <= len(matrix):
            raise LoadError(f"it holds {len(words)} words and {len(matrix)} vectors")
        if subwords is not None and subwords.rows.shape[1] != matrix.shape[1]:
            raise LoadError(
                f"its vectors have {matrix.shape[1]} dimensions, those of subwords {subwords.rows.shape[1]}"
            )
        return cls(words, matrix, subwords=subwords)


def _rebuild(words: list[str], matrix: np.ndarray, subwords: Builder | None) -> WordVectors:
    return WordVectors(words, matrix, subwords=subwords)


def _index(words: Sequence[str]) -> dict[str, int]:
    index: dict[str, int] = dict(zip(words, range(len(words))))
    if len(index) < len(words):
        index = dict(zip(reversed(words), range(len(words) - 1, -1, -1)))  # the first of equal words wins
    return index
