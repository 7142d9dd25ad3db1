"""Validation of sentences, which are lists of words, and of values per word, such as tags."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sktransfer.exceptions import InvalidSampleError, name_row
from sktransfer.samples.base import Rows, content_hash
from sktransfer.samples.columns import as_column, is_frame, is_missing, quoted
from sktransfer.samples.containers import as_list
from sktransfer.samples.labels import label_of, labelled_rows, row_labels
from sktransfer.samples.validation import remember_columns

__all__ = ["Sentences", "check_sentences", "check_word_values"]


class Sentences(Rows):
    """Validated sentences.

    Parameters
    ----------
    sentences : list of tuple of str
        Words of each sentence. A sentence may have no words, and a word no characters.
    """

    def __init__(self, sentences: list[tuple[str, ...]]) -> None:
        super().__init__(len(sentences))
        self._sentences = sentences

    def _load(self, row: int) -> tuple[str, ...]:
        return self._sentences[row]

    def _hash(self, row: int) -> bytes:
        return content_hash("sentence", *self._sentences[row])

    @property
    def n_words(self) -> np.ndarray:
        """Number of words per sentence (n_sentences,)."""
        return np.array([len(self._sentences[row]) for row in self._rows], np.int64)


def check_sentences(X: Any, estimator: Any = None, *, reset: bool = True) -> Sentences:
    """Validate X as sentences.

    Parameters
    ----------
    X : list, Series, one-column DataFrame or object array of n_samples lists of str
        Words of each sentence, as lists, tuples or arrays. A sentence may have no words, and a word no characters.
    estimator : estimator, default=None
        Estimator that stores or compares the columns of X, as scikit-learn does. None for no estimator.
    reset : bool, default=True
        True in `fit`, to store the columns; False elsewhere, to compare with them.

    Returns
    -------
    sentences : Sentences of length n_samples

    Raises
    ------
    InvalidSampleError
        If a sentence is missing or is a str, or a word is missing or not a `str`. The error names the row, and the
        position of the word.
    ValueError
        If X is empty, a str, an array of words, or has several columns.

    Examples
    --------
    >>> from sktransfer.sentences.checks import check_sentences
    >>> sentences = check_sentences([["EU", "rejects", "German", "call"], []])
    >>> sentences.load(0), sentences.n_words.tolist()
    (('EU', 'rejects', 'German', 'call'), [4, 0])
    >>> check_sentences(["EU rejects German call"])
    Traceback (most recent call last):
        ...
    sktransfer.exceptions.InvalidSampleError: row 0: 'EU rejects German call' is a str, and a sentence is a list of \
words: split it into words, [x.split() for x in X] if blanks separate all words
    """
    if isinstance(X, str):
        raise ValueError(
            f"X is one str, {quoted(X, 80)}, not a list of sentences, which are lists of words: split it into words, "
            "[X.split()] if blanks separate all words"
        )
    X, labels = as_list(X, "sentence"), row_labels(X)
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "OUST" and X.shape[1] != 1:
        raise ValueError(
            f"X is an array of shape {X.shape}, and sentences of different lengths need lists: pass "
            "[list(x) for x in X], without the words that pad the rows to one length if there are any"
        )
    if estimator is not None:
        remember_columns(estimator, X, reset=reset)
    with labelled_rows(labels):
        column = as_column(X, "sentence")
        is_one = _is_one_sentence(X, column)
        sentences = Sentences([_sentence(value, row, is_one) for row, value in enumerate(column)])
    sentences.labels = labels
    return sentences


def _is_one_sentence(X: Any, column: Sequence[Any]) -> bool:
    """Return whether X looks like the words of one sentence."""
    return (
        not is_frame(X)
        and len(column) > 1
        and all(isinstance(one, str) and not any(map(str.isspace, one)) for one in column)
    )


def _sentence(value: Any, row: int, is_one: bool) -> tuple[str, ...]:
    if isinstance(value, str):
        way = "split it into words, [x.split() for x in X] if blanks separate all words"
        if is_one:
            way = "if X is one sentence, pass [X]; if it holds sentences, [x.split() for x in X]"
        raise InvalidSampleError(row, f"{quoted(value, 80)} is a str, and a sentence is a list of words: {way}")
    if is_missing(value):
        raise InvalidSampleError(
            row,
            f"the sentence is missing ({value!r}). Pass an empty list in its place, or drop this row from X and y",
        )
    if isinstance(value, (bytes, dict, set)) or not _is_sequence(value):
        raise InvalidSampleError(
            row, f"{quoted(value, 80)} is a {type(value).__name__}, and a sentence is a list of words"
        )
    return tuple(_word(word, row, position) for position, word in enumerate(value))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Iterable) and hasattr(value, "__len__") and getattr(value, "ndim", 1) == 1


def _word(word: Any, row: int, position: int) -> str:
    if isinstance(word, str):
        return str.__str__(word)  # converts np.str_ and members of a str enumeration to plain str
    if is_missing(word):
        raise InvalidSampleError(
            row, f"word {position} is missing ({word!r}). Pass an empty str in its place, or drop the word and its tag"
        )
    way = "pass [[str(word) for word in x] for x in X]"
    if isinstance(word, bytes):
        way = "pass [[word.decode() for word in x] for x in X]"
    if isinstance(word, (list, tuple)) and word and isinstance(word[0], str):
        way = "pass [[word[0] for word in x] for x in X] if the words are the first of their parts"
    raise InvalidSampleError(row, f"word {position}, {quoted(word, 80)}, is a {type(word).__name__}, not a str: {way}")


def check_word_values(y: Any, n_words: Sequence[int] | np.ndarray, labels: Any = None, name: str = "y") -> list[Any]:
    """Validate values per word, such as tags, and return them as lists.

    Parameters
    ----------
    y : list, Series or object array of n_samples lists
        One value per word of each sentence. A missing value, such as NaN, is None in the result.
    n_words : sequence of int
        Number of words of each sentence.
    labels : Index, default=None
        Index labels of the rows of X, if it has any.
    name : str, default="y"
        Name of the values in messages.

    Returns
    -------
    values : list of n_samples lists
        As many values as the sentence has words.

    Raises
    ------
    ValueError
        If y is a table of one length, such as padded tags, or has another number of sentences or of words. The error
        names the row and both lengths.

    Examples
    --------
    >>> from sktransfer.sentences.checks import check_word_values
    >>> check_word_values([["B-ORG", "O"]], [2])
    [['B-ORG', 'O']]
    >>> check_word_values([["B-ORG"]], [2])
    Traceback (most recent call last):
        ...
    ValueError: row 0: y has 1 value, and X has 2 words; give one value per word
    """
    if getattr(y, "ndim", 1) != 1 and not is_frame(y):
        raise ValueError(
            f"{name} is an array of shape {tuple(y.shape)}, which has one length for all sentences; give a list of "
            f"lists without padding, [list(tags[:len(words)]) for words, tags in zip(X, {name})]"
        )
    found = row_labels(y)
    rows = as_column(as_list(y, "list of value"), "list of value")
    if len(rows) != len(n_words):
        raise ValueError(f"{name} has {len(rows)} sentences, and X has {len(n_words)}; they must agree")
    values = []
    for row, (value, n) in enumerate(zip(rows, map(int, n_words))):
        where = name_row(row, label_of(labels if found is None else found, row))
        if isinstance(value, (str, bytes, dict, set)) or not _is_sequence(value):
            raise ValueError(
                f"{where}: {quoted(value, 80)} in {name} is a {type(value).__name__}; give a list with one value per "
                "word"
            )
        if len(value) != n:
            has, words = f"{len(value)} value{'s' * (len(value) != 1)}", f"{n} word{'s' * (n != 1)}"
            raise ValueError(f"{where}: {name} has {has}, and X has {words}; give one value per word")
        values.append([None if is_missing(one) else one for one in value])
    return values
