"""Validation of y as tags: one sequence of tags per sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any

from sktransfer.exceptions import name_row
from sktransfer.samples.columns import as_series, column_names, is_frame, is_missing
from sktransfer.samples.labels import label_of, row_labels

__all__ = ["check_pair", "check_tags"]


def check_tags(y: Any, name: str = "y", noun: str = "tag") -> list[list[Any]]:
    """Return the tags of each sentence as a list.

    Parameters
    ----------
    y : list, tuple, Series, one-column DataFrame or 1-D object array of n_sentences
        One sequence of tags per sentence: a list, a tuple, a 1-D array or a Series. None and NaN are tags that are not
        known.
    name : str, default="y"
        Name of the argument, for messages.
    noun : str, default="tag"
        Name of the values, for messages.

    Returns
    -------
    tags : list of n_sentences lists of n_words tags
        Tags as Python objects. A tag that is not known is None.

    Raises
    ------
    ValueError
        If `y` has another form. The message names the row and the way out.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.tagging.sequences import check_tags
    >>> check_tags([np.array(["B-PER", "O"]), ("O",)])
    [['B-PER', 'O'], ['O']]
    >>> check_tags(["B-PER", "O"])
    Traceback (most recent call last):
        ...
    ValueError: y[0] is 'B-PER', and must be a list of tags, one per word; for a single sentence pass [y]
    """
    labels, series = row_labels(y), as_series(y)
    if series is not None:
        y = series.to_list()
    elif hasattr(y, "to_pylist"):  # arrays of pyarrow
        y = y.to_pylist()
    if isinstance(y, (str, bytes, Mapping)) or is_frame(y) or not hasattr(y, "__iter__") or not hasattr(y, "__len__"):
        hint = f"; pass one of its columns, {name}[{next(iter(column_names(y)), 'tags')!r}]" if is_frame(y) else ""
        raise ValueError(
            f"{name} is a {type(y).__name__}, and must be a list with a list of {noun}s per sentence{hint}"
        )
    if getattr(y, "ndim", 1) != 1:
        raise ValueError(
            f"{name} is an array of shape {tuple(y.shape)}, and must be a list with a list of {noun}s per sentence; "
            f"pass {name}.tolist() if no row is padded, else [row[:len(words)] for words, "
            f"row in zip(X, {name}.tolist())]"
        )
    return [_check_row(row, name_row(i, label_of(labels, i), name), name, noun) for i, row in enumerate(y)]


def _check_row(row: Any, where: str, name: str, noun: str) -> list[Any]:
    if isinstance(row, (str, bytes, Mapping)) or not hasattr(row, "__iter__") or not hasattr(row, "__len__"):
        per_word = ", one per word" if noun == "tag" else ""
        hint = f"; for a single sentence pass [{name}]" if isinstance(row, str) else ""
        if isinstance(row, str) and any(map(str.isspace, row)):
            hint += f", and for sentences as str [one.split() for one in {name}]"
        raise ValueError(f"{where} is {row!r}, and must be a list of {noun}s{per_word}{hint}")
    if getattr(row, "ndim", 1) != 1:
        raise ValueError(f"{where} is an array of shape {tuple(row.shape)}, and must be a list of {noun}s")
    values = row.tolist() if hasattr(row, "tolist") else list(row)
    for position, value in enumerate(values):
        if is_missing(value):
            values[position] = None
        elif isinstance(value, Sized) and not isinstance(value, (str, bytes)):
            raise ValueError(f"{where}, position {position}: {value!r} is not a {noun}")
    return values


def check_pair(y_true: Any, y_pred: Any) -> tuple[list[list[Any]], list[list[Any]]]:
    """Return true and predicted tags as lists, of the same lengths.

    Parameters
    ----------
    y_true, y_pred : list, tuple, Series or 1-D object array of n_sentences
        One sequence of tags per sentence.

    Raises
    ------
    ValueError
        If they differ in the number of sentences, or in the number of words of a sentence.

    Examples
    --------
    >>> from sktransfer.tagging.sequences import check_pair
    >>> check_pair([["O", "O"]], [["O"]])
    Traceback (most recent call last):
        ...
    ValueError: y_true[0] has 2 tags and y_pred[0] has 1; give a tag per word in both
    """
    labels, true, predicted = row_labels(y_true), check_tags(y_true, "y_true"), check_tags(y_pred, "y_pred")
    if len(true) != len(predicted):
        raise ValueError(
            f"y_true has {len(true)} sentences and y_pred has {len(predicted)}; give tags of the same sentences in both"
        )
    for row, (tags, others) in enumerate(zip(true, predicted, strict=True)):
        if len(tags) != len(others):
            where = name_row(row, label_of(labels, row), "y_true")
            raise ValueError(
                f"{where} has {len(tags)} tags and y_pred[{row}] has {len(others)}; give a tag per word in both"
            )
    return true, predicted
