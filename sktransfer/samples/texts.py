"""Validation of texts in a list, Series, array or one-column frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.arrays import tensor_to_array
from sktransfer.samples.base import Rows, content_hashes
from sktransfer.samples.columns import as_column, is_missing, is_tensor, quoted
from sktransfer.samples.containers import as_list, column_of, item_hint
from sktransfer.samples.flat import is_flat
from sktransfer.samples.folders import refuse_names_of_images

__all__ = ["TextSamples", "check_texts"]


class TextSamples(Rows):
    """Validated texts.

    Parameters
    ----------
    texts : list of str
        The texts of X.
    """

    def __init__(self, texts: list[str]) -> None:
        super().__init__(len(texts))
        self._texts = texts

    def _load(self, row: int) -> str:
        return self._texts[row]

    def _hashes(self, rows: list[int]) -> list[bytes]:
        return content_hashes("text", map(self._texts.__getitem__, rows))


def check_texts(X: Any, missing: str = "raise") -> TextSamples:
    """Validate X as texts.

    Parameters
    ----------
    X : list or other sequence of str, Series, one-column DataFrame, or array of shape (n,) or (n, 1)
        The texts; pandas, polars and numpy in any type that holds strings. An empty text is a text.
    missing : {"raise", "empty"}, default="raise"
        Treatment of a missing text, None or NaN: an error, or an empty text in its place.

    Returns
    -------
    samples : TextSamples of length n

    Raises
    ------
    InvalidSampleError
        If a text is missing, unless `missing="empty"`, or not a `str`. The error names the row.
    ValueError
        If X is empty, a single text, or has several columns.

    Examples
    --------
    >>> from sktransfer.samples.texts import check_texts
    >>> samples = check_texts(["a good film", "a bad film"])
    >>> len(samples), samples.load(1)
    (2, 'a bad film')
    >>> check_texts(["a good film", None])
    Traceback (most recent call last):
        ...
    sktransfer.exceptions.InvalidSampleError: row 1: the text is missing (None). Fill missing texts, X.fillna("") \
in pandas, X.fill_null("") in polars or [x if isinstance(x, str) else "" for x in X], or drop these rows from X and y
    """
    X = as_list(X, "text")
    _refuse_vectors(X)
    texts, column = as_column(X, "text"), column_of(X)
    if missing == "empty":
        texts = ["" if is_missing(value) else value for value in texts]
    plain = set(map(type, texts)) == {str}
    checked = texts if plain else [_text(value, row, column) for row, value in enumerate(texts)]
    refuse_names_of_images(checked)
    return TextSamples(checked)


def _refuse_vectors(X: Any) -> None:
    """Raise an error if X is a table of floats, such as the features of a featurizer."""
    shape = getattr(X, "shape", (0, 2))
    if len(shape) != 2 or shape[1] < 2 or not is_flat(X):
        return
    try:
        table = X if issparse(X) else tensor_to_array(X) if is_tensor(X) else np.asarray(X)
    except (TypeError, ValueError):  # rows of different lengths, columns without a common type
        return
    if table.ndim == 2 and table.shape[1] > 1 and table.dtype.kind == "f":
        raise ValueError(
            f"X holds vectors of {table.shape[1]} numbers, and this estimator takes texts: do not featurize before it. "
            "Pass it the texts, or fit an estimator of vectors, such as LogisticRegression, on the features"
        )


def _text(value: Any, row: int, column: str) -> str:
    if isinstance(value, str):
        return str.__str__(value)  # converts np.str_ and members of a str enumeration to plain str
    if is_missing(value):
        raise InvalidSampleError(
            row,
            f'the text is missing ({value!r}). Fill missing texts, X.fillna("") in pandas, X.fill_null("") in polars '
            f'or [x if isinstance(x, str) else "" for x in {column}], or drop these rows from X and y',
        )
    raise InvalidSampleError(
        row, f"{quoted(value, 80)} is a {type(value).__name__}, not a str: {item_hint(value, 'text', column)}"
    )
