"""Word vectors: a shared, read-only table, and subword vectors for words outside it."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np

from sktransfer._deferred import Deferred, defer
from sktransfer._validation import require_field
from sktransfer.exceptions import InvalidParameterError, LoadError, SaveError, WeightsError, did_you_mean
from sktransfer.words.export import make_keyed_vectors, write_word2vec
from sktransfer.words.subwords import Subwords

__all__ = ["Source", "WordBlock", "WordVectors"]

_BLOCK = 65_536  # words compared at once in a neighbour search
_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")

WordBlock = tuple[list[str], np.ndarray]  # words, and their vectors (n, n_dims) of float32


@dataclass(frozen=True)
class Source:
    """File of word vectors, identified by path, size and modification time.

    Parameters
    ----------
    path : str
        Absolute path.
    size : int
        Size in bytes.
    modified : int
        Time of the last write, in nanoseconds.
    loader : callable
        Module-level function `loader(path, digest)` that loads the vectors again. Pickles refer to it by name.
    """

    path: str
    size: int
    modified: int
    loader: Callable[[str, str], WordVectors]

    def key(self, version: int) -> str:
        """Return the name of the cache entry for this file and this version of the code."""
        parts = f"{version}|{self.path}|{self.size}|{self.modified}"
        return hashlib.blake2b(parts.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def digest(self) -> str:
        """Return the hash of the file's content.

        Raises
        ------
        WeightsError
            If the file is missing or has changed since it was read.
        """
        path = Path(self.path)
        status = path.stat() if path.is_file() else None
        if status is None or (status.st_size, status.st_mtime_ns) != (self.size, self.modified):
            raise WeightsError(
                f"{self.path} is missing or has changed since its vectors were read. Fit the estimator again before "
                "pickling it"
            )
        if self not in _digests:
            with path.open("rb") as file:
                _digests[self] = hashlib.file_digest(file, "blake2b").hexdigest()
        return _digests[self]


_digests: dict[Source, str] = {}  # hashing gigabytes takes seconds, so each file is hashed once per process


class VectorBuilder(Protocol):
    """Builder of vectors for words outside the table."""

    def vectors(self, words: Sequence[str]) -> np.ndarray: ...


class WordVectors(Deferred):
    """Shared, read-only word vectors; `sklearn.clone` returns the same object, not a copy.

    Returned by `load_vectors`, and `embedding_` of a fitted `WordEmbedder`.

    Parameters
    ----------
    words : sequence of str
        The words, most frequent first.
    matrix : ndarray of shape (n_words, n_dims), float32
        Their vectors, in memory or memory-mapped.
    subwords : Subwords, default=None
        Builds vectors of words outside the table.
    index : dict of str to int, default=None
        Row of each word. None builds it from `words`; of a repeated word, the first row counts.
    source : Source, default=None
        File that the vectors were read from. A pickle then holds the file's path and hash, not the vectors. The file
        is read and verified when the unpickled object is first used.

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

    _ATTRIBUTES = frozenset({"words", "subwords", "source", "matrix", "index"})

    def __init__(
        self,
        words: Sequence[str],
        matrix: np.ndarray,
        *,
        subwords: VectorBuilder | None = None,
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
        return isinstance(word, str) and self.row_of(word) is not None

    def row_of(self, word: str) -> int | None:
        """Return the row of a word, or None if it has none.

        If the table lacks the word as it is written, it is looked up in Unicode's composed and decomposed forms, NFC
        and NFD, because files of vectors have words in either.
        """
        row = self.index.get(word)
        if row is None and not word.isascii():
            forms = [self.index.get(unicodedata.normalize(form, word)) for form in _FORMS]
            return next((one for one in forms if one is not None), None)
        return row

    @property
    def n_dims(self) -> int:
        """Length of a vector."""
        return int(self.matrix.shape[1])

    def __getitem__(self, word: str) -> np.ndarray:
        row = self.row_of(word)
        if row is not None:
            vector: np.ndarray = self.matrix[row]
            return vector
        built: np.ndarray | None = None if self.subwords is None else self.subwords.vectors([word])[0]
        if built is None or not built.any():
            raise KeyError(f"{word!r} is not among the {len(self):,} words.{did_you_mean(word, self.words[:20_000])}")
        return built

    def nearest(self, vector: np.ndarray, k: int, without: Sequence[str] = ()) -> list[tuple[str, float]]:
        """Return the words whose vectors have the largest cosine with a vector.

        Parameters
        ----------
        vector : ndarray of shape (n_dims,)
            The vector.
        k : int
            Number of words.
        without : sequence of str, default=()
            Words to exclude.

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
        excluded = sorted({row for row in map(self.row_of, without) if row is not None})
        cosines[excluded] = -np.inf
        nearest = np.argsort(-cosines, kind="stable")[: min(k, len(self) - len(excluded))]
        return [(self.words[row], float(cosines[row])) for row in nearest]

    def similar(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """Return the k words nearest to a word, by cosine.

        Raises
        ------
        InvalidParameterError
            If the word has no vector.
        """
        return self.nearest(self._vector_of(word), k, [word])

    def analogy(self, a: str, b: str, c: str, k: int = 1) -> list[tuple[str, float]]:
        """Return the k words nearest to b - a + c, computed on vectors of unit length.

        The answer d completes "a is to b as c is to d".

        Raises
        ------
        InvalidParameterError
            If one of the words has no vector.
        """
        units = [vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in map(self._vector_of, (a, b, c))]
        return self.nearest(units[1] - units[0] + units[2], k, [a, b, c])

    def to_word2vec(self, path: str | os.PathLike[str]) -> None:
        """Write the words and their vectors in word2vec's text format, which gensim, spaCy and `load_vectors` read.

        Numbers have nine digits, so that the same float32 values are read back. The format has no subwords: words
        outside the table have no vector then. An existing file is replaced.

        Parameters
        ----------
        path : str or path
            File to write, such as "words.vec".

        Raises
        ------
        InvalidParameterError
            If a word is empty or holds a blank, which the format cannot express.
        SaveError
            If the file cannot be written.

        Examples
        --------
        >>> import numpy as np
        >>> from sktransfer import load_vectors
        >>> from sktransfer.words.vectors import WordVectors
        >>> WordVectors(["up", "down"], np.array([[1, 2], [3, 4]], dtype=np.float32)).to_word2vec("two.vec")
        >>> load_vectors("two.vec")["down"]
        array([3., 4.], dtype=float32)
        """
        write_word2vec(self._blocks(), len(self.index), self.n_dims, Path(path))

    def to_gensim(self) -> Any:
        """Return the words and their vectors as `KeyedVectors` of gensim. Subwords are left out.

        Returns
        -------
        vectors : gensim.models.KeyedVectors
            A copy. `load_vectors` takes it.

        Raises
        ------
        ImportError
            If the package gensim is missing.
        """
        return make_keyed_vectors(self._blocks(), self.n_dims)

    def _blocks(self) -> Iterator[WordBlock]:
        """Yield words and vectors. A repeated word occurs once."""
        for start in range(0, len(self), _BLOCK):
            rows = [row for row in range(start, min(start + _BLOCK, len(self))) if self.index[self.words[row]] == row]
            yield [self.words[row] for row in rows], np.asarray(self.matrix[rows], np.float32)  # (n_rows, n_dims)

    def _vector_of(self, word: str) -> np.ndarray:
        try:
            return self[word]
        except KeyError as error:
            raise InvalidParameterError(error.args[0]) from None

    def __sklearn_clone__(self) -> Self:
        return self

    def _origin(self) -> tuple[Callable[..., WordVectors], tuple[Any, ...]]:
        """Return a function and arguments that make these vectors again."""
        if self.source is not None:
            return self.source.loader, (self.source.path, self.source.digest())
        return _rebuild, (list(self.words), np.asarray(self.matrix), self.subwords)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if (reference := self._reference()) is not None:
            return reference
        origin = self._origin()
        return origin if self.source is None else (defer, (WordVectors, *origin, {}))

    def __getstate__(self) -> dict[str, Any]:
        """Return what skops writes: a function and its arguments."""
        function, arguments = self._origin()
        return {"function": function, "arguments": list(arguments)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(vars(state["function"](*state["arguments"])))

    def __repr__(self) -> str:
        built = ", and of others by subwords" if self.subwords is not None else ""
        return f"WordVectors({len(self):,} words, {self.n_dims} dimensions{built})"

    def to_state(self) -> dict[str, Any]:
        """Return the words and all vectors.

        Raises
        ------
        SaveError
            If `subwords` is an object other than `Subwords`.
        """
        if self.subwords is not None and type(self.subwords) is not Subwords:
            kind = type(self.subwords).__name__
            raise SaveError(f"vectors of unknown words built by {kind} can only be saved by pickle")
        # The matrix may be mapped from a file, or quantized and unpacked by indexing.
        matrix = np.array(self.matrix[np.arange(len(self.matrix))], dtype=np.float32)
        return {"words": list(self.words), "matrix": matrix, "subwords": self.subwords}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> WordVectors:
        """Return the word vectors of a state.

        Raises
        ------
        LoadError
            If a field is missing, or the number of words or dimensions is inconsistent.
        """
        words, matrix = require_field(state, "words", list), require_field(state, "matrix", np.ndarray)
        subwords = require_field(state, "subwords", (Subwords, type(None)))
        if not all(type(word) is str for word in words) or matrix.dtype != np.float32 or matrix.ndim != 2:
            raise LoadError(
                f"its words are not all str, or its vectors {matrix.shape} of {matrix.dtype} are not a table"
            )
        if not 0 < len(words) <= len(matrix):
            raise LoadError(f"it holds {len(words)} words and {len(matrix)} vectors")
        if subwords is not None and subwords.rows.shape[1] != matrix.shape[1]:
            raise LoadError(
                f"its vectors have {matrix.shape[1]} dimensions, those of subwords {subwords.rows.shape[1]}"
            )
        return cls(words, matrix, subwords=subwords)


def _rebuild(words: list[str], matrix: np.ndarray, subwords: VectorBuilder | None) -> WordVectors:
    return WordVectors(words, matrix, subwords=subwords)


def _index(words: Sequence[str]) -> dict[str, int]:
    index: dict[str, int] = dict(zip(words, range(len(words))))
    if len(index) < len(words):
        index = dict(zip(reversed(words), range(len(words) - 1, -1, -1)))  # the first row of a repeated word counts
    return index
