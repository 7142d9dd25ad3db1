"""Several labels per sample: forms of y, names of columns and weights per label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse

from sktransfer._validation import is_real
from sktransfer.exceptions import InvalidParameterError, TargetWarning, warn

__all__ = ["column_names", "label_factors", "refuse_label_lists", "warn_of_many_classes", "warn_of_one_hot"]

MANY = 20  # numbers of which so many differ may be no classes, as in scikit-learn's warning
FEWEST_ONE_HOT = 10  # fewer rows may have one label each by chance
BINARIZE = (
    "several labels per sample are an indicator matrix, with a column per label. "
    "sklearn.preprocessing.MultiLabelBinarizer().fit_transform(y) makes it of lists of labels, and the binarizer's "
    "classes_ name its columns"
)


def refuse_label_lists(y: Any, remedy: str = BINARIZE) -> None:
    """Raise if y holds one list or set of labels per sample.

    Lists of 0 and 1 of one length are an indicator matrix, and lists of one label are a column of labels.

    Parameters
    ----------
    y : array-like
        Targets as given to `fit`.
    remedy : str
        Remedy, used in the error.

    Raises
    ------
    ValueError
        If it does. The message names the first such row.

    Examples
    --------
    >>> from sktransfer.tasks.labels import refuse_label_lists
    >>> refuse_label_lists([[0, 1], [1, 1]])
    >>> refuse_label_lists([["cat", "dog"], ["dog"]])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: y[0] is ['cat', 'dog']: several labels per sample are an indicator matrix, with a column per label...
    """
    if isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype != object:
        return
    if issparse(y) or isinstance(y, Iterator):  # an iterator is not read here, so that others can
        return
    if getattr(y, "ndim", 1) == 2:
        values = np.asarray(y)
        names = values.shape[1] > 1 and any(isinstance(one, str) for one in values.ravel()[:1].tolist())
        rows = values.tolist() if names else []
    else:
        rows = [one.tolist() if isinstance(one, np.ndarray) else one for one in y] if _is_iterable(y) else []
    lists = [one for one in rows if isinstance(one, (list, tuple, set, frozenset))]
    if not lists:
        return
    is_set = any(isinstance(one, (set, frozenset)) for one in lists)
    lengths = {len(one) for one in lists}
    of_names = lengths != {1} and any(isinstance(label, str) for one in lists for label in one)
    if is_set or of_names or len(lengths) > 1 or len(lists) < len(rows):
        row = next(index for index, one in enumerate(rows) if one is lists[0])
        raise ValueError(f"y[{row}] is {lists[0]!r}: {remedy}")


def _is_iterable(y: Any) -> bool:
    return hasattr(y, "__iter__") and not isinstance(y, (str, bytes, Mapping))


def warn_of_one_hot(y: Any, matrix: np.ndarray) -> None:
    """Warn if each row of an indicator matrix of three or more columns has exactly one label.

    Parameters
    ----------
    y : array-like
        Targets as given to `fit`.
    matrix : ndarray of shape (n_samples, n_labels)
        The same as an array of 0 and 1.

    Warns
    -----
    TargetWarning
        If each row has exactly one. There must be ten rows at least.
    """
    if len(matrix) < FEWEST_ONE_HOT or matrix.shape[1] < 3 or not (matrix.astype(bool).sum(1) == 1).all():
        return
    remedy = "y.idxmax(axis=1)" if hasattr(y, "idxmax") else "np.asarray(y).argmax(1)"
    remedy = "y.toarray().argmax(1)" if issparse(y) else remedy
    warn(
        f"each of the {len(matrix)} rows of y has exactly one 1 in {matrix.shape[1]} columns, and the columns are "
        "learned as independent labels, of which predictions may have none or several. For one of several classes, "
        f"pass {remedy}",
        TargetWarning,
    )


def warn_of_many_classes(y: np.ndarray, classes: np.ndarray) -> None:
    """Warn if labels look like numbers, or are different for most of the samples.

    Numbers are suspicious if there are more than 20 of them and most integers between the first and the last are none
    of them. Classes that are counted from 0 have no such gaps.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels.
    classes : ndarray of shape (n_classes,)
        The different ones, sorted.

    Warns
    -----
    TargetWarning
        If they do.
    """
    n, is_number = len(classes), classes.dtype.kind in "iuf"
    has_gaps = is_number and n > MANY and float(classes[-1]) - float(classes[0]) + 1 > 2 * n
    if not has_gaps and (len(y) <= MANY or n <= len(y) / 2):
        return
    what, remedy = "labels", "y holds one label per sample, and X, the first argument of fit, the samples"
    if is_number:
        what = "numbers"
        remedy = "For numbers such as ratings or prices, use FineTuneRegressor"
    warn(f"y holds {n} different {what} in {len(y)} samples, and each is a class of its own. {remedy}", TargetWarning)


def column_names(y: Any) -> list[str] | None:
    """Return the names of the columns of a data frame, if all are strings; None without names.

    Parameters
    ----------
    y : array-like
        Targets as given to `fit`.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer.tasks.labels import column_names
    >>> column_names(pd.DataFrame({"cat": [0, 1], "dog": [1, 1]})), column_names([[0, 1]])
    (['cat', 'dog'], None)
    """
    columns = getattr(y, "columns", None)
    names = [] if columns is None or callable(columns) else list(columns)
    return names if names and all(isinstance(name, str) for name in names) else None


def label_factors(class_weight: Any, y: np.ndarray, weight: np.ndarray, names: Sequence[Any]) -> np.ndarray:
    """Return the factor of the loss of each label if it is absent, and if it is present: (2, n_labels).

    Their mean over samples and labels is 1, so that only ratios matter.

    Parameters
    ----------
    class_weight : "balanced" or list of dict
        Value of the parameter. "balanced" gives both values of a label the same sum of weights. A dict per label has
        the weights of 0 and 1; a value that is not in it has weight 1.
    y : ndarray of shape (n_samples, n_labels)
        Indicators.
    weight : ndarray of shape (n_samples,)
        Weight of each sample.
    names : sequence of length n_labels
        Names of the labels, used in errors.

    Raises
    ------
    InvalidParameterError
        If `class_weight` is neither, or holds a value that is no weight.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.tasks.labels import label_factors
    >>> y = np.array([[1], [0], [0], [0]])
    >>> label_factors("balanced", y, np.ones(4), ["cat"]).ravel().round(2).tolist()
    [0.67, 2.0]
    """
    present = (y != 0).mean(0)  # (n_labels,)
    shares = np.stack([1 - present, present])  # (2, n_labels)
    if isinstance(class_weight, str) and class_weight == "balanced":
        factors = np.where(shares > 0, 1 / np.where(shares > 0, shares, 1) / (shares > 0).sum(0), 1.0)  # (2, n_labels)
    else:
        factors = _given_factors(class_weight, names)  # (2, n_labels)
    factors = factors / (factors.max() or 1.0)
    of_rows = np.where(y != 0, factors[1], factors[0]).mean(1)  # (n_samples,)
    mean = float(np.average(of_rows, weights=weight))
    if mean == 0:
        raise InvalidParameterError(f"class_weight={class_weight!r} gives all labels of all samples zero weight")
    scaled: np.ndarray = factors / mean
    return scaled


def _given_factors(class_weight: Any, names: Sequence[Any]) -> np.ndarray:
    hint = f"a list of {len(names)} dicts, one per label, such as {{0: 1.0, 1: 5.0}}"
    if not isinstance(class_weight, (list, tuple)) or not all(isinstance(one, Mapping) for one in class_weight):
        raise InvalidParameterError(
            f"class_weight={class_weight!r} must be None, 'balanced' or {hint}, if y is an indicator matrix"
        )
    if len(class_weight) != len(names):
        raise InvalidParameterError(
            f"class_weight holds {len(class_weight)} dicts, and y has {len(names)} labels, {list(names)}: give {hint}"
        )
    for name, one in zip(names, class_weight):
        if not set(one) <= {0, 1} or not all(is_real(value) and 0 <= value < float("inf") for value in one.values()):
            raise InvalidParameterError(
                f"class_weight of label {name!r} is {dict(one)!r}; it must hold finite numbers of at least 0 for the "
                "values 0 and 1"
            )
    return np.array([[float(one.get(value, 1.0)) for one in class_weight] for value in (0, 1)])
