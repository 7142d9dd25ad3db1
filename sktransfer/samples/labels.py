"""Index labels of the rows of pandas objects, for messages that name a row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import narwhals as nw
import numpy as np

from sktransfer.exceptions import InvalidSampleError, name_row

__all__ = ["add_label", "label_of", "labelled_rows", "named_row", "row_labels"]


def row_labels(X: Any) -> Any:
    """Return the index of a pandas object, or None if X has none or the default one, whose labels are positions.

    Parameters
    ----------
    X : object
        Input of an estimator.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer.samples.labels import row_labels
    >>> texts = pd.Series(["a", "b", "c"])
    >>> row_labels(texts) is None, list(row_labels(texts[1:]))
    (True, [1, 2])
    """
    if isinstance(X, (list, tuple, np.ndarray)):
        return None
    if not (nw.dependencies.is_pandas_like_series(X) or nw.dependencies.is_pandas_like_dataframe(X)):
        return None
    index = X.index
    is_default = type(index).__name__ == "RangeIndex" and (index.start, index.step) == (0, 1)
    return None if is_default else index


def label_of(labels: Any, row: int) -> Any:
    """Return the label of a row as a Python object, or None if there are no labels.

    Parameters
    ----------
    labels : Index or None
        Result of `row_labels`.
    row : int
        Row of X.
    """
    return None if labels is None else labels[row : row + 1].tolist()[0]


def named_row(X: Any, row: int) -> str:
    """Return the position of a row, and its index label if X has labels, for messages.

    Parameters
    ----------
    X : object
        Object that was given by the user, such as X, y or sample_weight.
    row : int
        Row of X.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer.samples.labels import named_row
    >>> named_row(["a", "b"], 1), named_row(pd.Series({"x": 1, "y": 2}), 1)
    ('row 1', "row 1 (index label 'y')")
    """
    return name_row(row, label_of(row_labels(X), row))


def add_label(error: InvalidSampleError, labels: Any) -> None:
    """Add the index label of its row to an error.

    Parameters
    ----------
    error : InvalidSampleError
        Error that is changed.
    labels : Index or None
        Result of `row_labels`.
    """
    if labels is not None:
        error.set_label(label_of(labels, error.row))


@contextlib.contextmanager
def labelled_rows(labels: Any) -> Iterator[None]:
    """Add the index label of the row to an `InvalidSampleError` raised in this context.

    Parameters
    ----------
    labels : Index or None
        Result of `row_labels`.
    """
    try:
        yield
    except InvalidSampleError as error:
        add_label(error, labels)
        raise
