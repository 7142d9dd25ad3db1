"""From the vectors of a text's words to one vector a text, a block of texts at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress, repeat
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from sktransfer._validation import require_field
from sktransfer.exceptions import InvalidSampleError, LoadError
from sktransfer.words.oov import unknown_vector
from sktransfer.words.vectors import WordVectors

__all__ = ["POOLINGS", "Block", "Lookup", "Weights", "idf_weights", "pool", "sif_weights", "top_direction"]

POOLINGS = ("mean", "tfidf", "sif", "max", "mean+max", None)
_SIF_A = 1e-3  # Arora et al. 2017


@dataclass(frozen=True)
class Weights:
    """A weight for each word.

    Parameters
    ----------
    known : dict of str to float
        Weights of words of the training texts.
    other : float
        The weight of all others.
    """

    known: dict[str, float]
    other: float

    def of(self, tokens: Sequence[str]) -> np.ndarray:
        """Return the weight of each token, float64."""
        return np.fromiter(map(self.known.get, tokens, repeat(self.other)), np.float64, len(tokens))

    def to_state(self) -> dict[str, Any]:
        """Return the words, their weights, and the weight of others."""
        values = np.array(list(self.known.values()), dtype=np.float64)
        return {"words": list(self.known), "values": values, "other": float(self.other)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Weights:
        """Return the weights of a state.

        Raises
        ------
        LoadError
            If a field is missing, or there is not one weight per word.
        """
        words, values = require_field(state, "words", list), require_field(state, "values", np.ndarray)
        if values.dtype != np.float64 or values.shape != (len(words),) or not all(type(word) is str for word in words):
            raise LoadError(f"{len(words)} words do not fit weights {values.shape} of {values.dtype}")
        return cls(dict(zip(words, values.tolist())), require_field(state, "other", float))


def idf_weights(documents: Iterable[Sequence[str]]) -> Weights:
    """Return smooth inverse document frequencies, log((1 + n) / (1 + df)) + 1, as scikit-learn has them."""
    frequency: Counter[str] = Counter()
    n = 0
    for tokens in documents:
        frequency.update(set(tokens))
        n += 1
    return Weights({word: float(np.log((1 + n) / (1 + df)) + 1) for word, df in frequency.items()}, np.log(1 + n) + 1)


def sif_weights(documents: Iterable[Sequence[str]]) -> Weights:
    """Return a / (a + p) with p the share of a word in the documents; 1 for words that they have not.

    References
    ----------
    .. [1] Arora, Liang, Ma, "A simple but tough-to-beat baseline for sentence embeddings", ICLR 2017.
    """
    counts: Counter[str] = Counter()
    for tokens in documents:
        counts.update(tokens)
    total = counts.total()
    return Weights({word: _SIF_A / (_SIF_A + count / total) for word, count in counts.items()}, 1.0)


def top_direction(features: np.ndarray) -> np.ndarray:
    """Return the direction of unit length that rows have most in common: the first right singular vector."""
    wide = features.astype(np.float64)
    _, vectors = np.linalg.eigh(wide.T @ wide)  # ascending
    direction: np.ndarray = vectors[:, -1]
    return direction


@dataclass(frozen=True)
class Block:
    """The words of some texts, found or built.

    Parameters
    ----------
    tokens : list of str
        Tokens that take part, text after text.
    ends : ndarray of shape (n_texts + 1,)
        Where each text's tokens start, and the last ones end.
    places : ndarray of shape (n_tokens,)
        Row of the table, or -1 - (row of `built`).
    built : ndarray of shape (n_built, n_dims), float32
        Vectors of words that the table has not.
    n_unknown, n_seen : int
        Unknown words and all words, before any was left out.
    """

    tokens: list[str]
    ends: np.ndarray
    places: np.ndarray
    built: np.ndarray
    n_unknown: int
    n_seen: int


class Lookup:
    """Finds vectors of words, and stands in for unknown ones.

    Parameters
    ----------
    vectors : WordVectors
        The table.
    policy : {"subword", "unk", "zero", "skip", "error"}
        What stands for a word that the table has not.
    """

    def __init__(self, vectors: WordVectors, policy: str) -> None:
        self.vectors, self.policy = vectors, policy
        self._unknown = unknown_vector(vectors, policy)[None]  # (1, n_dims)

    def __call__(self, texts: Sequence[Sequence[str]], first_row: int = 0) -> Block:
        """Look up the words of some texts.

        Parameters
        ----------
        texts : sequence of sequences of str
            Tokens of each text.
        first_row : int, default=0
            The row of the first text, for messages.

        Raises
        ------
        InvalidSampleError
            If the policy is "error" and a word is unknown; names the row.
        """
        tokens = list(chain.from_iterable(texts))
        get = self.vectors.index.get
        places = np.fromiter(map(get, tokens, repeat(-1)), np.int64, len(tokens))
        ends = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
        unknown = np.flatnonzero(places < 0)
        n_seen, built = len(tokens), self._unknown
        if len(unknown) and self.policy == "error":
            row = int(np.searchsorted(ends, unknown[0], side="right")) - 1
            raise InvalidSampleError(
                first_row + row, f"{tokens[unknown[0]]!r} has no vector, and oov='error' forbids that"
            )
        if len(unknown) and self.policy == "subword":
            distinct = {tokens[at]: None for at in unknown}
            numbers = {word: number for number, word in enumerate(distinct)}
            places[unknown] = [-1 - numbers[tokens[at]] for at in unknown]
            assert self.vectors.subwords is not None
            built = self.vectors.subwords.vectors(list(distinct))
        if len(unknown) and self.policy == "skip":
            kept = places >= 0
            tokens = list(compress(tokens, kept.tolist()))
            ends = np.concatenate([[0], np.cumsum(kept)])[ends]
            places = places[kept]
        return Block(tokens, ends, places, built, len(unknown), n_seen)

    def values(self, block: Block) -> np.ndarray:
        """Return the vector of each token, (n_tokens, n_dims)."""
        known = block.places >= 0
        values = np.empty((len(block.places), self.vectors.n_dims), np.float32)
        values[known] = self.vectors.matrix[block.places[known]]
        values[~known] = block.built[-1 - block.places[~known]]
        return values

    def mean(self, block: Block, weights: Weights | None = None) -> np.ndarray:
        """Return the mean of each text's vectors, weighted or not: (n_texts, n_dims); zeros for a text without any."""
        n_texts, lengths = len(block.ends) - 1, np.diff(block.ends)
        texts = np.repeat(np.arange(n_texts), lengths)  # (n_tokens,)
        shares = np.ones(len(block.tokens)) if weights is None else weights.of(block.tokens)
        sums = np.bincount(texts, shares, minlength=n_texts)
        shares = (shares / np.maximum(sums, 1e-12)[texts]).astype(np.float32)
        known = block.places >= 0
        mean: np.ndarray = _sum(shares, block.places, block.ends, known, self.vectors.matrix)
        if not known.all():
            mean += _sum(shares, -1 - block.places, block.ends, ~known, block.built)
        return mean

    def max(self, block: Block) -> np.ndarray:
        """Return the largest value of each dimension over each text's vectors; zeros for a text without any."""
        largest = np.zeros((len(block.ends) - 1, self.vectors.n_dims), np.float32)
        filled = np.flatnonzero(np.diff(block.ends))
        if len(filled):
            largest[filled] = np.maximum.reduceat(self.values(block), block.ends[filled], axis=0)
        return largest


def _sum(shares: np.ndarray, rows: np.ndarray, ends: np.ndarray, use: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return weighted sums of rows of a table, in the order of the tokens: (n_texts, n_dims)."""
    ends = np.concatenate([[0], np.cumsum(use)])[ends]
    summed: np.ndarray = csr_array((shares[use], rows[use], ends), shape=(len(ends) - 1, len(table))) @ table
    return summed


def pool(lookup: Lookup, block: Block, pooling: str | None, weights: Weights | None) -> np.ndarray | list[np.ndarray]:
    """Return features of a block of texts, by the pooling's name; for None one array (n_tokens, n_dims) a text."""
    if pooling is None:
        return np.split(lookup.values(block), block.ends[1:-1])
    if pooling == "max":
        return lookup.max(block)
    mean = lookup.mean(block, weights)
    return np.concatenate([mean, lookup.max(block)], axis=1) if pooling == "mean+max" else mean
