"""Lookup of word vectors and pooling to one vector per text, in blocks of texts."""

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

__all__ = ["POOLINGS", "Lookup", "TokenBlock", "Weights", "idf_weights", "pool", "sif_weights", "top_direction"]

POOLINGS = ("mean", "tfidf", "sif", "max", "mean+max", None)
_SIF_A = 1e-3  # as in Arora et al. 2017


@dataclass(frozen=True)
class Weights:
    """Weights of words.

    Parameters
    ----------
    known : dict of str to float
        Weights of the words of the training texts.
    other : float
        Weight of all other words.
    """

    known: dict[str, float]
    other: float

    def of(self, tokens: Sequence[str]) -> np.ndarray:
        """Return the weight of each token, (n_tokens,) of float64."""
        return np.fromiter(map(self.known.get, tokens, repeat(self.other)), np.float64, len(tokens))

    def to_state(self) -> dict[str, Any]:
        """Return the words, their weights, and the weight of other words."""
        values = np.array(list(self.known.values()), dtype=np.float64)
        return {"words": list(self.known), "values": values, "other": float(self.other)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Weights:
        """Return the weights of a state.

        Raises
        ------
        LoadError
            If a field is missing, or there is not exactly one weight per word.
        """
        words, values = require_field(state, "words", list), require_field(state, "values", np.ndarray)
        if values.dtype != np.float64 or values.shape != (len(words),) or not all(type(word) is str for word in words):
            raise LoadError(f"{len(words)} words are inconsistent with weights {values.shape} of {values.dtype}")
        return cls(dict(zip(words, values.tolist())), require_field(state, "other", float))


def idf_weights(documents: Iterable[Sequence[str]]) -> Weights:
    """Return smooth inverse document frequencies, log((1 + n) / (1 + df)) + 1, as in scikit-learn."""
    frequency: Counter[str] = Counter()
    n = 0
    for tokens in documents:
        frequency.update(set(tokens))
        n += 1
    return Weights({word: float(np.log((1 + n) / (1 + df)) + 1) for word, df in frequency.items()}, np.log(1 + n) + 1)


def sif_weights(documents: Iterable[Sequence[str]]) -> Weights:
    """Return the SIF weights a / (a + p), where p is a word's share of all tokens, and 1 for other words.

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
    """Return the first right singular vector of features, (n_features,)."""
    wide = features.astype(np.float64)
    _, vectors = np.linalg.eigh(wide.T @ wide)  # eigenvalues in ascending order
    direction: np.ndarray = vectors[:, -1]
    return direction


@dataclass(frozen=True)
class TokenBlock:
    """Tokens of a block of texts, with the positions of their vectors.

    Parameters
    ----------
    tokens : list of str
        Tokens of all texts, concatenated.
    ends : ndarray of shape (n_texts + 1,)
        Index of the first token of each text, and the number of tokens.
    rows : ndarray of shape (n_tokens,)
        Row of the table, or -1 - (row of `built`).
    built : ndarray of shape (n_built, n_dims), float32
        Vectors of words outside the table.
    n_unknown, n_seen : int
        Number of unknown tokens and of all tokens, before unknown ones are skipped.
    n_uncovered : int
        Number of texts with tokens, all of them unknown.
    """

    tokens: list[str]
    ends: np.ndarray
    rows: np.ndarray
    built: np.ndarray
    n_unknown: int
    n_seen: int
    n_uncovered: int


class Lookup:
    """Lookup of the vectors of words, with a policy for unknown words.

    Parameters
    ----------
    vectors : WordVectors
        The table.
    policy : {"subword", "unk", "zero", "skip", "error"}
        Treatment of words outside the table.
    """

    def __init__(self, vectors: WordVectors, policy: str) -> None:
        self.vectors, self.policy = vectors, policy
        self._unknown = unknown_vector(vectors, policy)[None]  # (1, n_dims)

    def __call__(self, texts: Sequence[Sequence[str]], first_row: int = 0) -> TokenBlock:
        """Look up the words of some texts.

        Parameters
        ----------
        texts : sequence of sequences of str
            Tokens of each text.
        first_row : int, default=0
            Row of the first text, for messages.

        Raises
        ------
        InvalidSampleError
            If the policy is "error" and a word is unknown; names the row.
        """
        tokens = list(chain.from_iterable(texts))
        get = self.vectors.index.get
        rows = np.fromiter(map(get, tokens, repeat(-1)), np.int64, len(tokens))
        for position in np.flatnonzero(rows < 0):
            if not tokens[position].isascii() and (row := self.vectors.row_of(tokens[position])) is not None:
                rows[position] = row
        ends = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
        unknown = np.flatnonzero(rows < 0)
        n_seen, built = len(tokens), self._unknown
        n_uncovered = 0
        if len(unknown):
            n_known = np.diff(np.concatenate([[0], np.cumsum(rows >= 0)])[ends])  # (n_texts,)
            n_uncovered = int(np.count_nonzero((n_known == 0) & (np.diff(ends) > 0)))
        if len(unknown) and self.policy == "error":
            row = int(np.searchsorted(ends, unknown[0], side="right")) - 1
            raise InvalidSampleError(
                first_row + row,
                f"{tokens[unknown[0]]!r} has no vector, which oov='error' does not allow. Choose another policy, "
                "oov='zero' or oov='skip', or drop the word",
            )
        if len(unknown) and self.policy == "subword":
            distinct = {tokens[position]: None for position in unknown}
            built_rows = {word: row for row, word in enumerate(distinct)}
            rows[unknown] = [-1 - built_rows[tokens[position]] for position in unknown]
            assert self.vectors.subwords is not None
            built = self.vectors.subwords.vectors(list(distinct))
        if len(unknown) and self.policy == "skip":
            kept = rows >= 0
            tokens = list(compress(tokens, kept.tolist()))
            ends = np.concatenate([[0], np.cumsum(kept)])[ends]
            rows = rows[kept]
        return TokenBlock(tokens, ends, rows, built, len(unknown), n_seen, n_uncovered)

    def values(self, block: TokenBlock) -> np.ndarray:
        """Return the vector of each token, (n_tokens, n_dims)."""
        known = block.rows >= 0
        values = np.empty((len(block.rows), self.vectors.n_dims), np.float32)
        values[known] = self.vectors.matrix[block.rows[known]]
        values[~known] = block.built[-1 - block.rows[~known]]
        return values

    def mean(self, block: TokenBlock, weights: Weights | None = None) -> np.ndarray:
        """Return the mean of each text's vectors, optionally weighted, (n_texts, n_dims); zeros for an empty text."""
        n_texts, lengths = len(block.ends) - 1, np.diff(block.ends)
        texts = np.repeat(np.arange(n_texts), lengths)  # (n_tokens,)
        shares = np.ones(len(block.tokens)) if weights is None else weights.of(block.tokens)
        sums = np.bincount(texts, shares, minlength=n_texts)
        shares = (shares / np.maximum(sums, 1e-12)[texts]).astype(np.float32)
        known = block.rows >= 0
        mean: np.ndarray = _sum(shares, block.rows, block.ends, known, self.vectors.matrix)
        if not known.all():
            mean += _sum(shares, -1 - block.rows, block.ends, ~known, block.built)
        return mean

    def max(self, block: TokenBlock) -> np.ndarray:
        """Return the maximum of each text's vectors, (n_texts, n_dims); zeros for an empty text."""
        largest = np.zeros((len(block.ends) - 1, self.vectors.n_dims), np.float32)
        filled = np.flatnonzero(np.diff(block.ends))  # indices of texts that are not empty
        if len(filled):
            largest[filled] = np.maximum.reduceat(self.values(block), block.ends[filled], axis=0)  # (n_filled, n_dims)
        return largest


def _sum(shares: np.ndarray, rows: np.ndarray, ends: np.ndarray, use: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return weighted sums of rows of a table, added in the order of the tokens, (n_texts, n_dims)."""
    ends = np.concatenate([[0], np.cumsum(use)])[ends]
    summed: np.ndarray = csr_array((shares[use], rows[use], ends), shape=(len(ends) - 1, len(table))) @ table
    return summed


def pool(
    lookup: Lookup, block: TokenBlock, pooling: str | None, weights: Weights | None
) -> np.ndarray | list[np.ndarray]:
    """Return the pooled features of a block of texts, or for None one array (n_tokens, n_dims) per text."""
    if pooling is None:
        return np.split(lookup.values(block), block.ends[1:-1])
    if pooling == "max":
        return lookup.max(block)
    mean = lookup.mean(block, weights)
    return np.concatenate([mean, lookup.max(block)], axis=1) if pooling == "mean+max" else mean
