"""Out-of-vocabulary words: policies, coverage reports and warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sktransfer._validation import check_option
from sktransfer.exceptions import InvalidParameterError, UnknownWordsWarning, warn
from sktransfer.words.vectors import WordVectors

__all__ = ["POLICIES", "OovReport", "report", "resolve_policy", "unknown_vector", "warn_of_unknown"]

POLICIES = ("auto", "subword", "unk", "zero", "skip", "error")
WARN_SHARE = 0.2  # of all tokens
WARN_TOKENS = 100  # fewer tokens do not show the vocabulary of the texts
_RARE = 0.1  # share of the words, from the rare end of the list, whose mean is the "unk" vector


def resolve_policy(oov: str, vectors: WordVectors) -> str:
    """Return the policy for these vectors, with "auto" resolved to "subword" if they have subwords, else "skip".

    Parameters
    ----------
    oov : str
        One of `POLICIES`.
    vectors : WordVectors
        Vectors used for lookup.

    Raises
    ------
    InvalidParameterError
        If the policy is unknown, or is "subword" and the vectors have no subwords.
    """
    check_option("oov", oov, POLICIES)
    if oov == "auto":
        return "skip" if vectors.subwords is None else "subword"
    if oov == "subword" and vectors.subwords is None:
        raise InvalidParameterError(
            'oov="subword" needs vectors of n-grams, and these vectors have none. Use model="fasttext", a fastText '
            'model file, or oov="auto"'
        )
    return oov


def unknown_vector(vectors: WordVectors, policy: str) -> np.ndarray:
    """Return the vector used for unknown words: zeros, or for "unk" the mean of the rarest tenth of the words."""
    if policy != "unk":
        return np.zeros(vectors.n_dims, np.float32)
    rare = vectors.matrix[-max(1, int(_RARE * len(vectors))) :]
    return np.asarray(np.mean(rare, axis=0, dtype=np.float64), np.float32)  # (n_dims,)


@dataclass(frozen=True)
class OovReport:
    """Coverage of texts by a vocabulary.

    Parameters
    ----------
    n_texts, n_tokens, n_types : int
        Number of texts, of tokens, and of distinct tokens.
    unknown_tokens, unknown_types : float
        Share of tokens, and of distinct tokens, outside the vocabulary, regardless of the policy.
    nothing_known : float
        Share of texts without any token of the vocabulary.
    most_frequent : list of (str, int)
        Unknown words and their counts, most frequent first.
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
    """Return the coverage of documents by word vectors.

    Parameters
    ----------
    documents : iterable of sequences of str
        Tokens of each document.
    vectors : WordVectors
        Vectors used for lookup.
    k : int, default=20
        Number of unknown words to list.
    """
    counts: Counter[str] = Counter()
    n_texts = n_uncovered = 0
    for tokens in documents:
        n_texts += 1
        counts.update(tokens)
        n_uncovered += not any(token in vectors for token in tokens)
    unknown = Counter({word: count for word, count in counts.items() if word not in vectors})
    n_tokens, n_types = counts.total(), len(counts)
    return OovReport(
        n_texts,
        n_tokens,
        n_types,
        unknown.total() / max(n_tokens, 1),
        len(unknown) / max(n_types, 1),
        n_uncovered / max(n_texts, 1),
        unknown.most_common(k),
    )


def warn_of_unknown(
    n_unknown: int,
    n_tokens: int,
    policy: str,
    vectors: WordVectors,
    *,
    lowercase: bool,
    n_texts: int = 0,
    n_uncovered: int = 0,
) -> None:
    """Warn if many words or texts have no vector, unless the policy is "subword" or "error".

    Many are more than a fifth of at least 100 words, or more than a fifth of the texts, and at least two, without
    any known word.

    Parameters
    ----------
    n_unknown, n_tokens : int
        Number of words without a vector, and of all words.
    policy : str
        One of `POLICIES`, except "auto".
    vectors : WordVectors
        Vectors used for lookup.
    lowercase : bool
        Whether words were lowercased.
    n_texts, n_uncovered : int, default=0
        Number of all texts, and of those that hold words, none of which has a vector.
    """
    many_words = n_tokens >= WARN_TOKENS and n_unknown > WARN_SHARE * n_tokens
    many_texts = n_uncovered > max(1, WARN_SHARE * n_texts)  # one text alone is confused with no other
    if policy in ("subword", "error") or not (many_words or many_texts):
        return
    cased = lowercase and any(word != word.lower() for word in vectors.words[:1000])
    hint = "set lowercase=False, because these vectors distinguish capital letters; " if cased else ""
    same = f", and {n_uncovered:,} of {n_texts:,} texts hold no word that has one and get equal features"
    warn(
        f"{n_unknown / n_tokens:.0%} of {n_tokens:,} words have no vector{same if n_uncovered else ''} "
        f"(oov={policy!r}). oov_report(X) lists them. "
        f'Possible remedies: {hint}train on these texts, model="fasttext"; continue training from general vectors, '
        "continue_from=<vectors>; use the tokenizer that the vectors were trained with",
        UnknownWordsWarning,
    )
