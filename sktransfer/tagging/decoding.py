"""Best sequence of tags that a scheme allows (Viterbi)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from sktransfer.tagging.schemes import OUTSIDE, SCHEMES

__all__ = ["Transitions", "best_sequences", "scheme_transitions"]

_MAX_VALUES = 2**20  # of a step, sentences x classes x classes; bounds memory
_LOWEST = float(np.log(np.finfo(np.float64).tiny))  # of a log-probability; a probability of 0 is not forbidden


@dataclasses.dataclass(frozen=True)
class Transitions:
    """Classes that may begin a sentence, follow each other, and end a sentence.

    Parameters
    ----------
    start, end : ndarray of shape (n_classes,), bool
        Whether a class may be the first, or the last, of a sentence.
    between : ndarray of shape (n_classes, n_classes), bool
        Whether the class of the column may follow the class of the row.
    """

    start: np.ndarray
    between: np.ndarray
    end: np.ndarray


def scheme_transitions(classes: Sequence[Any] | np.ndarray, scheme: str) -> Transitions:
    """Return the transitions between classes that a scheme allows.

    Parameters
    ----------
    classes : sequence of n_classes tags
        Tags of a tagger. A tag that is not of the scheme is a word outside of spans, like "O".
    scheme : {"IO", "IOB1", "IOB2", "BIOES", "BILOU"}
        Scheme of the tags.

    Examples
    --------
    >>> from sktransfer.tagging.decoding import scheme_transitions
    >>> allowed = scheme_transitions(["B-PER", "I-PER", "O"], "IOB2")
    >>> allowed.start.tolist(), allowed.between[2].tolist()
    ([True, False, True], [True, False, True])
    """
    known = SCHEMES[scheme]
    parts = [(known.parse(tag) if isinstance(tag, str) else None) or OUTSIDE for tag in classes]
    return Transitions(
        start=np.array([known.allows(OUTSIDE, part) for part in parts], dtype=bool),
        between=np.array([[known.allows(before, part) for part in parts] for before in parts], dtype=bool),
        end=np.array([known.allows(part, OUTSIDE) for part in parts], dtype=bool),
    )


def best_sequences(log_probabilities: Sequence[np.ndarray], transitions: Transitions) -> list[np.ndarray]:
    """Return the allowed sequence of classes with the largest sum of log-probabilities, for each sentence.

    Sentences are decoded together, and the result of one does not depend on the others. Of equal sequences, the one
    whose last words have the first classes is returned. If the classes admit no allowed sequence of a sentence's
    length, each word gets its most likely class.

    Parameters
    ----------
    log_probabilities : sequence of n_sentences ndarrays of shape (n_words, n_classes)
        Logarithms of the probabilities of each word's classes. Any scores that may be added up are allowed.
    transitions : Transitions
        Transitions that are allowed.

    Returns
    -------
    sequences : list of n_sentences ndarrays of shape (n_words,), int
        Positions of the classes.

    References
    ----------
    Viterbi (1967), Error bounds for convolutional codes and an asymptotically optimum decoding algorithm.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.tagging.decoding import best_sequences, scheme_transitions
    >>> probabilities = np.array([[0.1, 0.4, 0.5], [0.2, 0.7, 0.1]])  # B-PER, I-PER, O
    >>> best_sequences([np.log(probabilities)], scheme_transitions(["B-PER", "I-PER", "O"], "IOB2"))[0].tolist()
    [2, 0]
    """
    scores = [np.maximum(np.asarray(one, dtype=np.float64), _LOWEST) for one in log_probabilities]
    results: list[np.ndarray] = [np.empty(0, dtype=np.intp)] * len(scores)
    order = sorted((row for row in range(len(scores)) if len(scores[row])), key=lambda row: -len(scores[row]))
    step = max(1, _MAX_VALUES // max(1, transitions.between.size))
    for first in range(0, len(order), step):
        rows = order[first : first + step]
        for row, sequence in zip(rows, _decode([scores[row] for row in rows], transitions), strict=True):
            results[row] = sequence
    return results


def _decode(scores: Sequence[np.ndarray], transitions: Transitions) -> list[np.ndarray]:
    """Return the sequences of sentences that have at least one word, longest sentence first."""
    lengths = np.array([len(one) for one in scores])
    n_classes = len(transitions.start)
    penalty = np.where(transitions.between, 0.0, -np.inf)  # (n_classes, n_classes)
    words = np.zeros((lengths[0], len(scores), n_classes))
    for row, one in enumerate(scores):
        words[: len(one), row] = one
    best = words[0] + np.where(transitions.start, 0.0, -np.inf)  # (n, n_classes)
    came_from = np.zeros(words.shape, dtype=np.int32)
    for t in range(1, lengths[0]):
        n = int((lengths > t).sum())  # sentences that have this word are the first ones
        sums = best[:n, :, None] + penalty  # (n, n_classes before, n_classes)
        came_from[t, :n] = sums.argmax(1)
        best[:n] = sums.max(1) + words[t, :n]
    best += np.where(transitions.end, 0.0, -np.inf)
    sequences = np.zeros((len(scores), lengths[0]), dtype=np.intp)
    current = best.argmax(1)  # (n,)
    sequences[np.arange(len(scores)), lengths - 1] = current
    for t in range(lengths[0] - 1, 0, -1):
        n = int((lengths > t).sum())
        current[:n] = came_from[t, np.arange(n), current[:n]]
        sequences[:n, t - 1] = current[:n]
    possible = np.isfinite(best.max(1))
    return [
        sequences[row, :length].copy() if possible[row] else scores[row].argmax(1) for row, length in enumerate(lengths)
    ]
