"""Words without a vector: what stands for them, how many there are, and when to say so."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sktransfer.exceptions import InvalidParameterError, UnknownWordsWarning, did_you_mean
from sktransfer.words.vectors import WordVectors

__all__ = ["POLICIES", "OovReport", "report", "resolve_policy", "unknown_vector", "warn_of_unknown"]

POLICIES = ("auto", "subword", "unk", "zero", "skip", "error")
WARN_SHARE = 0.2  # of all tokens
WARN_TOKENS = 100  # fewer say little of a text's vocabulary
_RARE = 0.1  # the share of words, rarest last in the list, that "unk" is the mean of


def resolve_policy(oov: str, vectors: WordVectors) -> str:
    """Return the policy that is meant for these vectors: "auto" is "subword" where they allow it, else "skip".

    Parameters
    ----------
    oov : str
        One of `POLICIES`.
    vectors : WordVectors
        What words are looked up in.

    Raises
    ------
    InvalidParameterError
        If there is no such policy, or it asks for subwords that the vectors have not.
    """
    if not isinstance(oov, str) or oov not in POLICIES:
        raise InvalidParameterError(f"oov={oov!r} is not allowed; one of {POLICIES}.{did_you_mean(str(oov), POLICIES)}")
    if oov == "auto":
        return "skip" if vectors.subwords is None else "subword"
    if oov == "subword" and vectors.subwords is None:
        raise InvalidParameterError(
            'oov="subword" needs vectors of n-grams, which these have not: take model="fasttext" or a fastText .bin, '
            'or oov="auto"'
        )
    return oov


def unknown_vector(vectors: WordVectors, policy: str) -> np.ndarray:
    """Return the one vector that stands for each unknown word: zeros, or for "unk" the mean of the rarest tenth."""
    if policy != "unk":
        return np.zeros(vectors.n_dims, np.float32)
    rare = vectors.matrix[-max(1, int(_RARE * len(vectors))) :]
    return np.asarray(np.mean(rare, axis=0, dtype=np.float64), np.float32)


@dataclass(frozen=True)
class OovReport:
    """How well a vocabulary covers texts.

    Parameters
    ----------
    n_texts, n_tokens, n_types : int
        Texts, words in them, different words among these.
    unknown_tokens, unknown_types : float
        Shares of words and of different words that are not in the vocabulary, whatever stands for them.
    nothing_known : float
        Share of texts without a single word of the vocabulary.
    most_frequent : list of (str, int)
        Unknown words and how often they occur, the most frequent first.
    """

    n_texts: int
    n_tokens: int
    n_types: int
    unknown_tokens: float
    unknown_types: float
    nothing_known: float
    most_frequent: list[tuple[str, int]]

    def __str__(self) -> str:
        words = ", ".join(f"{word} ({count})" for word, count in self.most_frequent[:10])
        return (
            f"{self.unknown_tokens:.1%} of {self.n_tokens:,} words and {self.unknown_types:.1%} of {self.n_types:,} "
            f"different words are unknown; {self.nothing_known:.1%} of {self.n_texts:,} texts hold no known word. "
            f"Most frequent: {words or 'none'}"
        )


def report(documents: Iterable[Sequence[str]], vectors: WordVectors, k: int = 20) -> OovReport:
    """Return how well vectors cover documents.

    Parameters
    ----------
    documents : iterable of sequences of str
        Tokens of each document.
    vectors : WordVectors
        What words are looked up in.
    k : int, default=20
        How many of the most frequent unknown words are listed.
    """
    counts: Counter[str] = Counter()
    n_texts = nothing = 0
    for tokens in documents:
        n_texts += 1
        counts.update(tokens)
        nothing += not any(token in vectors for token in tokens)
    unknown = Counter({word: count for word, count in counts.items() if word not in vectors})
    n_tokens, n_types = counts.total(), len(counts)
    return OovReport(
        n_texts,
        n_tokens,
        n_types,
        unknown.total() / max(n_tokens, 1),
        len(unknown) / max(n_types, 1),
        nothing / max(n_texts, 1),
        unknown.most_common(k),
    )


def warn_of_unknown(n_unknown: int, n_tokens: int, policy: str, vectors: WordVectors, *, lowercase: bool) -> None:
    """Warn where more than a fifth of at least a hundred words is unknown and nothing builds vectors for them."""
    if policy in ("subword", "error") or n_tokens < WARN_TOKENS or n_unknown <= WARN_SHARE * n_tokens:
        return
    cased = lowercase and any(word != word.lower() for word in vectors.words[:1000])
    hint = "lowercase=False, since these vectors tell capital letters; or " if cased else ""
    warnings.warn(
        f"{n_unknown / n_tokens:.0%} of {n_tokens:,} words have no vector (oov={policy!r}). See which by "
        f'oov_report(X). What helps: {hint}vectors of these texts, model="fasttext"; or general ones trained on, '
        "continue_from=<vectors>; or a tokenizer that splits as that of the vectors did",
        UnknownWordsWarning,
        stacklevel=4,
    )
