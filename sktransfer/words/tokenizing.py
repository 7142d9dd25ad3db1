"""Tokenization: validation of texts and token lists, and the default tokenizer."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sktransfer.exceptions import InvalidParameterError, InvalidSampleError
from sktransfer.samples.columns import as_column, is_missing, quoted
from sktransfer.samples.containers import as_list
from sktransfer.samples.labels import label_of, labelled_rows, row_labels
from sktransfer.samples.texts import check_texts
from sktransfer.samples.validation import remember_columns

__all__ = ["Documents", "Tokenizer", "check_documents", "split_words"]

Tokenizer = Callable[[str], Sequence[str]]
# Splits as the Penn Treebank and GloVe do: "it's" into "it" and "'s", "don't" into "do" and "n't". Drops punctuation.
_WORD = re.compile(r"\w+?(?=n't\b)|n't\b|'(?:s|re|ve|d|ll|m)\b|\w+", re.IGNORECASE)
_BEYOND_LATIN = re.compile("[\u0300-\u1dff\u200c\u200d\u20d0-\U0010ffff]")  # holds all marks and joiners
_JOINERS = "\u200c\u200d"  # ZWNJ and ZWJ, which belong to a word between two of its characters
_OF_EMOJI = "\ufe0e\ufe0f\u20e3"  # marks that make an emoji of a character, such as a keycap of a digit
_PLANES_WITH_MARKS = (range(0x300, 0x20000), range(0xE0100, 0xE01F0))  # the other planes hold no combining marks


def split_words(text: str) -> list[str]:
    """Return the words of a text, with endings such as "n't" and "'s" separate and without punctuation.

    A word is a run of letters and digits with their combining marks, such as the vowel signs of Hindi. The words are
    in Unicode's composed form, NFC.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    words : list of str

    Examples
    --------
    >>> from sktransfer.words.tokenizing import split_words
    >>> split_words("It's good, don't miss it!")
    ['It', "'s", 'good', 'do', "n't", 'miss', 'it']
    >>> split_words("हिन्दी फ़िल्में")
    ['हिन्दी', 'फ़िल्में']
    """
    if text.isascii():
        return _WORD.findall(text)
    text = unicodedata.normalize("NFC", text.replace("’", "'"))  # noqa: RUF001
    if not _BEYOND_LATIN.search(text):
        return _WORD.findall(text)
    marks, marked_word = _with_marks()
    return (_WORD if marks.isdisjoint(text) else marked_word).findall(text)


@functools.cache
def _with_marks() -> tuple[frozenset[str], re.Pattern[str]]:
    """Return the combining marks and joiners, and the counterpart of `_WORD` for texts that hold some of them."""
    codes = (code for plane in _PLANES_WITH_MARKS for code in plane)
    marks = [one for one in map(chr, codes) if unicodedata.category(one)[0] == "M" and one not in _OF_EMOJI]
    first = "".join(one for one in marks if one < "\U00010000")
    others = "".join(one for one in marks if one >= "\U00010000")
    mark = rf"(?:[{first}]|(?=[\U00010000-\U0010ffff])[{others}])"  # `re` searches a class of the latter one by one
    inner = rf"(?:{mark}|[{_JOINERS}](?=\w|{mark}))"
    end = rf"(?!\w|{mark})"
    negation, ending = rf"(?i:n't){end}", rf"(?i:'(?:s|re|ve|d|ll|m)){end}"
    word = rf"\w(?:\w|{inner})*?(?={negation})|{negation}|{ending}|\w+(?:{inner}\w*)*"
    return frozenset([*marks, *_JOINERS]), re.compile(word)


class Documents:
    """Validated documents, each of them a text or a list of tokens.

    Parameters
    ----------
    items : list of (str or list of str)
        The samples of X.
    tokenizer : callable or None
        Function from a text to its tokens. None means `split_words`.
    lowercase : bool
        Whether tokens are lowercased.
    labels : Index, default=None
        Result of `row_labels` for X, which errors name.
    """

    def __init__(
        self, items: list[str | list[str]], tokenizer: Tokenizer | None, lowercase: bool, labels: Any = None
    ) -> None:
        self.items, self.tokenizer, self.lowercase, self.labels = items, tokenizer, lowercase, labels

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[list[str]]:
        for row, item in enumerate(self.items):
            if isinstance(item, list):
                yield [token.lower() for token in item] if self.lowercase else item
            else:
                yield self._tokens(item.lower() if self.lowercase else item, row)

    def _tokens(self, text: str, row: int) -> list[str]:
        if self.tokenizer is None:
            return split_words(text)
        found: Any = self.tokenizer(text)
        tokens = list(found) if isinstance(found, Iterable) else None
        if tokens is None or not all(issubclass(kind, str) for kind in set(map(type, tokens))):
            returned = quoted(found if tokens is None else tokens, 80)
            problem = f"the tokenizer returned {returned}. It must return a list of str"
            raise InvalidSampleError(row, problem, label_of(self.labels, row))
        return tokens

    def blocks(self, n_tokens: int) -> Iterator[tuple[int, list[list[str]]]]:
        """Yield blocks of consecutive documents with about `n_tokens` tokens, and the row of the first document."""
        start, block, size = 0, [], 0
        for row, tokens in enumerate(self):
            block.append(tokens)
            size += len(tokens) + 1  # an empty document takes memory as well
            if size >= n_tokens:
                yield start, block
                start, block, size = row + 1, [], 0
        if block:
            yield start, block


def check_documents(estimator: Any, X: Any, *, tokenizer: Tokenizer | None, lowercase: bool, reset: bool) -> Documents:
    """Validate X as texts or lists of tokens.

    Parameters
    ----------
    estimator : estimator
        Estimator that receives `n_features_in_` and `feature_names_in_` if X has columns.
    X : list, tuple, Series, one-column DataFrame, or object array
        Each sample is a `str`, or a list, tuple or array of `str`.
    tokenizer : callable or None
        Function from a text to its tokens. None means `split_words`.
    lowercase : bool
        Whether tokens are lowercased.
    reset : bool
        True in `fit`, to store the columns; False elsewhere, to compare with them.

    Returns
    -------
    documents : Documents

    Raises
    ------
    InvalidSampleError
        If a sample is missing or of another type; names the row.
    InvalidParameterError
        If the tokenizer is not callable.
    ValueError
        If X is empty or has several columns.
    """
    if tokenizer is not None and not callable(tokenizer):
        raise InvalidParameterError(f"tokenizer={tokenizer!r} must be a function from a str to a list of str, or None")
    X, labels = as_list(X, "text"), row_labels(X)
    remember_columns(estimator, X, reset=reset)
    values = as_column(X, "text")
    with labelled_rows(labels):
        lists = {row: _token_list(value, row) for row, value in enumerate(values) if _is_list(value)}
        texts = check_texts(["" if row in lists else value for row, value in enumerate(values)])
    items = [lists[row] if row in lists else texts.load(row) for row in range(len(values))]
    return Documents(items, tokenizer, bool(lowercase), labels)


def _is_list(value: Any) -> bool:
    return (
        not isinstance(value, (str, bytes, bytearray, Mapping))
        and hasattr(value, "__len__")
        and hasattr(value, "__iter__")
    )


def _token_list(value: Any, row: int) -> list[str]:
    tokens = list(value)
    for position, token in enumerate(tokens):
        if not isinstance(token, str):
            problem = "is missing" if is_missing(token) else f"is {quoted(token, 40)}"
            raise InvalidSampleError(row, f"token {position} {problem}. Every token must be a str")
    return tokens
