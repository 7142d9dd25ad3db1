"""Values per word: pooled from the values of its tokens, and stacked over sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sktransfer.engine.forward import Outputs
from sktransfer.exceptions import InvalidParameterError
from sktransfer.sentences.checks import check_word_values
from sktransfer.sentences.windows import Windows

__all__ = ["SUBWORDS", "collect_words", "pool_words", "stack_words"]

SUBWORDS = ("first", "last", "mean")


def pool_words(values: Tensor, first: np.ndarray, last: np.ndarray, subword: str) -> Tensor:
    """Return one vector per word from the values of a window's tokens.

    Parameters
    ----------
    values : Tensor of shape (n_tokens, n_features)
        Values of the tokens of a window.
    first, last : ndarray of shape (n_words,), int64
        Positions of the first and the last token of each word.
    subword : {"first", "last", "mean"}
        Token of a word that gives its vector, or the mean of all of them.

    Returns
    -------
    vectors : Tensor of shape (n_words, n_features), float32

    Raises
    ------
    InvalidParameterError
        If the layer has pooled the tokens to one vector per text.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sktransfer.sentences.values import pool_words
    >>> values = torch.tensor([[0.0], [1.0], [2.0], [6.0]])
    >>> pool_words(values, np.array([0, 1]), np.array([0, 3]), "mean").tolist()
    [[0.0], [3.0]]
    """
    if values.ndim != 2:
        raise InvalidParameterError(
            "a layer gives one vector per text, and features per word need one per token: set layer to a stage before "
            "those that pool, by index or by name"
        )
    if subword != "mean":
        return values[torch.from_numpy(first if subword == "first" else last)].float()  # (n_words, n_features)
    vectors = values[torch.from_numpy(first)].float()  # (n_words, n_features)
    size = last - first + 1  # (n_words,)
    for n_tokens in np.unique(size[size > 1]).tolist():
        words = np.flatnonzero(size == n_tokens)  # (n_some,)
        tokens = torch.from_numpy(first[words, None] + np.arange(n_tokens))  # (n_some, n_tokens)
        vectors[torch.from_numpy(words)] = values[tokens].mean(1, dtype=torch.float32)  # (n_some, n_features)
    return vectors


def collect_words(
    outputs: Iterator[Outputs], windows: Windows, subword: str, selected: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, list[Tensor]]]:
    """Yield the vectors of words from the outputs of windows, for some words at a time.

    Parameters
    ----------
    outputs : iterator of Outputs
        Values of the tokens of windows, as `forward` yields them.
    windows : Windows
        The windows.
    subword : {"first", "last", "mean"}
        Token of a word that gives its vector, or the mean of all of them.
    selected : ndarray of shape (n_words,), bool, default=None
        Words to return; None for all.

    Yields
    ------
    words : ndarray of int64
        Numbers of the words, counted through all sentences. Each word comes once.
    vectors : list of Tensor of shape (n, n_features), float32
        Per layer one vector per word.
    """
    for rows, layers in outputs:
        words = [windows.words_of(row) for row in rows]
        if selected is not None:
            words = [some[selected[some]] for some in words]
        places = [(windows.first[some], windows.last[some]) for some in words]
        vectors = [
            torch.cat([pool_words(values, first, last, subword) for values, (first, last) in zip(layer, places)])
            for layer in layers
        ]  # each (n, n_features)
        yield np.concatenate(words), vectors


def stack_words(X: Sequence[Any], y: Any = None, *, return_groups: bool = False) -> Any:
    """Stack the words of all sentences to one table, for classifiers of single rows.

    Parameters
    ----------
    X : list of n_samples ndarray of shape (n_words, n_features)
        Features of the words of each sentence, as `TokenFeaturizer.transform` returns them.
    y : list, Series or object array of n_samples lists, default=None
        One value per word of each sentence, such as its tag. Words whose value is not known (None, NaN) are left out.
    return_groups : bool, default=False
        Whether to return the row of each word's sentence as well, as `groups` of `GroupKFold` and
        `cross_validate`. Words of one sentence resemble each other, so they belong into the same fold.

    Returns
    -------
    words : ndarray of shape (n_words, n_features)
        Words of all sentences in order.
    values : ndarray of shape (n_words,)
        Values of the words. Only if y is given.
    groups : ndarray of shape (n_words,), int64
        Row of each word's sentence. Only if `return_groups`.

    Raises
    ------
    ValueError
        If y has another number of sentences or of words than X, or X has no sentence.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sktransfer import TokenFeaturizer, stack_words
    >>> sentences = [["EU", "rejects", "German", "call"], ["Peter", "calls"]]
    >>> tags = [["NOUN", "VERB", "ADJ", "NOUN"], ["NOUN", "VERB"]]
    >>> features = TokenFeaturizer().fit_transform(sentences)
    >>> words, values, groups = stack_words(features, tags, return_groups=True)
    >>> words.shape, values.tolist()[:2], groups.tolist()
    ((6, 160), ['NOUN', 'VERB'], [0, 0, 0, 0, 1, 1])
    >>> classifier = LogisticRegression(max_iter=1000).fit(words, values)
    >>> tags = classifier.predict(stack_words(features))
    >>> [part.tolist() for part in np.split(tags, np.cumsum([len(one) for one in features])[:-1])]
    [['NOUN', 'VERB', 'ADJ', 'NOUN'], ['NOUN', 'VERB']]
    """
    parts = [np.asarray(one) for one in X]
    if not parts:
        raise ValueError("X has no sentences; stack_words takes the features of at least one")
    if any(one.ndim == 1 and one.dtype.kind in "OU" for one in parts):
        raise ValueError("X holds words or tags; give the features that TokenFeaturizer.transform(sentences) returns")
    shapes = {one.shape[1:] for one in parts}
    if len(shapes) > 1 or parts[0].ndim != 2:
        raise ValueError(
            f"X holds arrays of shapes {sorted({one.shape for one in parts})[:4]}; give arrays (n_words, n_features) "
            "with the same features, as TokenFeaturizer returns them"
        )
    words = np.concatenate(parts)  # (n_words, n_features)
    lengths = np.array([len(one) for one in parts])  # (n_samples,)
    groups = np.repeat(np.arange(len(parts), dtype=np.int64), lengths)  # (n_words,)
    if y is None:
        return (words, groups) if return_groups else words
    flat = [value for one in check_word_values(y, lengths) for value in one]
    known = np.array([value is not None for value in flat], bool)  # (n_words,)
    values = np.asarray([value for value in flat if value is not None])  # (n_known,)
    if not known.all():
        words, groups = words[known], groups[known]  # (n_known, n_features), (n_known,)
    return (words, values, groups) if return_groups else (words, values)
