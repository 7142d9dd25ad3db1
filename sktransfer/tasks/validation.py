"""Validation of numbers given per sample: targets of regressors, and weights."""

from __future__ import annotations

import datetime
import decimal
import numbers
import sys
import warnings
from collections.abc import Iterator, Mapping, MappingView, Set
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_sample_weight

from sktransfer.exceptions import name_row, warn
from sktransfer.samples.arrays import tensor_to_array
from sktransfer.samples.columns import is_tensor, quoted
from sktransfer.samples.labels import label_of, row_labels

__all__ = [
    "as_array",
    "as_labels",
    "check_none_missing",
    "check_numbers",
    "check_weight",
    "holds_dates",
    "many_classes_allowed",
]

_NO_ARRAYS: tuple[tuple[type, str], ...] = (
    (Mapping, "pass list({}.values())"),
    (MappingView, "pass list({})"),
    (Set, "a set has no order, so make a list in the order of X"),
    (Iterator, "pass list({})"),
    (str, "pass [{}] for a single sample"),
    (bytes, "pass [{}] for a single sample"),
)
_LARGEST = 1e150  # squares of larger numbers overflow
_DATES = (datetime.date, np.datetime64)
_DURATIONS = (datetime.timedelta, np.timedelta64)


def as_array(values: Any, name: str) -> np.ndarray:
    """Return values given per sample as an array of any dtype.

    Parameters
    ----------
    values : array-like of shape (n_samples, ...)
        Values as given by the user.
    name : str
        Name of the argument, for the error.

    Raises
    ------
    ValueError
        If the values have no order, or are not a list, Series, frame, array or tensor.

    Examples
    --------
    >>> from sktransfer.tasks.validation import as_array
    >>> as_array({"a": 1}, "y")
    Traceback (most recent call last):
        ...
    ValueError: y is a dict; it must be a list, Series or array with one value per sample: pass list(y.values())
    """
    if issparse(values):
        raise ValueError(f"{name} is a sparse matrix: pass {name}.toarray()")
    remedy = next((remedy for cls, remedy in _NO_ARRAYS if isinstance(values, cls)), None)
    if remedy is not None:
        raise ValueError(
            f"{name} is a {type(values).__name__}; it must be a list, Series or array with one value per sample: "
            f"{remedy.format(name)}"
        )
    if is_tensor(values):
        return tensor_to_array(values)
    try:
        array = np.asarray(values)
        is_made = array.dtype.kind in "US" and array.ndim == 1 and not hasattr(values, "dtype")
        if is_made and not all(isinstance(one, (str, bytes)) for one in values):
            array = np.array(list(values), dtype=object)  # (n_samples,): NumPy has written numbers and NaN as strings
    except (TypeError, ValueError):  # columns without a common type, lists of different length
        array = np.asarray(values, dtype=object)
    if array.ndim == 0:
        raise ValueError(
            f"{name} is a single {type(values).__name__}; it must be a list, Series or array with one value per sample"
        )
    return array


@contextmanager
def many_classes_allowed() -> Iterator[None]:
    """Run without scikit-learn's warning of many classes, because `warn_of_many_classes` gives a better one, once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        yield


def as_labels(values: Any, name: str = "y") -> np.ndarray:
    """Return one value per sample, (n_samples,), of any dtype. A column vector is ravelled with a warning.

    Parameters
    ----------
    values : array-like of shape (n_samples,)
        Values as given by the user.
    name : str, default="y"
        Name of the argument, for the error.

    Raises
    ------
    ValueError
        If there is not one value per sample.

    Warns
    -----
    DataConversionWarning
        If the values are a column vector (n_samples, 1), as in scikit-learn.

    Examples
    --------
    >>> from sktransfer.tasks.validation import as_labels
    >>> as_labels(["a", "b"])
    array(['a', 'b'], dtype='<U1')
    """
    array = as_array(values, name)
    if array.ndim == 2 and array.shape[1] == 1:
        warn(
            f"A column-vector {name} was passed when a 1d array was expected. Please change the shape of {name} to "
            "(n_samples, ), for example using ravel().",
            DataConversionWarning,
        )
    labels: np.ndarray = column_or_1d(array)
    return labels


def check_numbers(values: Any, name: str, what: str, *, largest: float = _LARGEST) -> np.ndarray:
    """Return numbers given per sample, (n_samples, ...) as float64.

    Dates, strings and complex numbers are refused, although NumPy can convert them to floats.

    Parameters
    ----------
    values : array-like of shape (n_samples, ...)
        Numbers of any type.
    name : str
        Name of the argument, for errors.
    what : str
        Name of a value, for errors.
    largest : float, default=1e150
        Largest allowed absolute value. The squares of larger ones overflow.

    Raises
    ------
    ValueError
        If a value is missing, infinite or not a real number. The message names its row.

    Examples
    --------
    >>> from sktransfer.tasks.validation import check_numbers
    >>> check_numbers([1, 2.5], "y", "target")
    array([1. , 2.5])
    >>> check_numbers([1, None], "y", "target")
    Traceback (most recent call last):
        ...
    ValueError: y[1] is None: 1 of 2 samples has no target; leave such samples out
    """
    array = as_array(values, name)
    labels = row_labels(values)
    if array.dtype.kind not in "biuf":
        missing = np.asarray(pd.isna(array)) if array.dtype.kind == "O" else np.zeros(array.shape, dtype=bool)
        _check_types(array, missing, name, labels)
        check_none_missing(array, name, what, labels=labels)
        try:
            array = array.astype(np.float64)
        except (OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{name} cannot be converted to numbers ({error}): pass an array of floats") from error
    array = array.astype(np.float64)
    check_none_missing(array, name, what, labels=labels)
    rows = np.flatnonzero(~(np.abs(array) <= largest).reshape(len(array), -1).all(1))
    if len(rows):
        raise ValueError(
            f"{name_row(int(rows[0]), label_of(labels, int(rows[0])), name)} is {array[rows[0]]}, which is infinite or "
            f"too large: leave such samples out, or divide {name}"
        )
    return array


def holds_dates(array: np.ndarray) -> bool:
    """Return whether an array holds dates, periods or durations.

    Parameters
    ----------
    array : ndarray
        Array of any dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.tasks.validation import holds_dates
    >>> holds_dates(np.array(["2020-01-01"], dtype="datetime64[D]")), holds_dates(np.array([2020]))
    (True, False)
    """
    if array.dtype.kind == "O":
        return any(issubclass(cls, (pd.Period, *_DATES, *_DURATIONS)) for cls in set(map(type, array.ravel())))
    return array.dtype.kind in "mM"


def _check_types(array: np.ndarray, missing: np.ndarray, name: str, labels: Any) -> None:
    """Raise if a value of an array without a number type is not a real number."""
    kind = array.dtype.kind
    if kind in "Mm":
        problem: str | None = _problem(array.dtype.type(0, "D"), name)
    elif kind == "c":
        problem = _problem(1j, name)
    elif kind in "US":
        problem = _problem(array.ravel().tolist()[0] if array.size else "", name)
    elif kind != "O":
        problem = f"has dtype {array.dtype}, which is not a number: pass an array of floats"
    else:
        flat, present = array.ravel(), ~missing.ravel()
        bad = {cls for cls in set(map(type, flat[present])) if not _is_number(cls)}
        position = next((i for i in np.flatnonzero(present) if type(flat[i]) in bad), None)
        if position is None:
            return
        row = int(position) // max(1, array.size // len(array))
        problem = f"{_problem(flat[position], name)}; the first is {name_row(row, label_of(labels, row), name)}"
    raise ValueError(f"{name} {problem}")


def _is_number(cls: type) -> bool:
    is_real = issubclass(cls, (numbers.Real, decimal.Decimal, np.bool_, np.number))
    return is_real and not issubclass(cls, (np.complexfloating, np.timedelta64))


def _problem(value: Any, name: str) -> str:
    """Return what is wrong with a value that is not a real number, and what to do."""
    day = "pd.Timedelta(days=1)"
    if isinstance(value, _DURATIONS):
        return f"holds durations. Convert them to numbers, pd.to_timedelta(pd.Series({name})) / {day}"
    if isinstance(value, (pd.Period, *_DATES)):
        dates = f"pd.Series({name})" + (".dt.to_timestamp()" if isinstance(value, pd.Period) else "")
        days = f"(pd.to_datetime({dates}, utc=True) - pd.Timestamp(0, tz='UTC')) / {day}"
        return f"holds dates. Convert them to numbers, {days}"
    if isinstance(value, (complex, np.complexfloating)):
        return f"holds complex numbers. Complex data not supported: pass np.real({name}), or both parts as columns"
    if isinstance(value, (str, bytes)):
        try:
            float(value)
        except ValueError:
            return f"holds strings such as {quoted(value, 40)}, which are not numbers: a classifier learns labels"
        return f"holds strings such as {quoted(value, 40)}. Convert them to numbers, np.asarray({name}, dtype=float)"
    return f"holds a {type(value).__name__}, {quoted(value, 40)}, which is not a number"


def check_none_missing(values: np.ndarray, name: str, what: str, *, labels: Any = None) -> None:
    """Raise if a row has no value: None, NaN, or pandas' NA or NaT.

    Parameters
    ----------
    values : ndarray of shape (n_samples, ...)
        Values per row.
    name : str
        Name of the argument, for the error.
    what : str
        Name of a value, for the error.
    labels : Index, default=None
        Result of `row_labels` for the argument.

    Raises
    ------
    ValueError
        If a value is missing. The message names the first such row.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.tasks.validation import check_none_missing
    >>> check_none_missing(np.array(["up", None], dtype=object), "y", "label")
    Traceback (most recent call last):
        ...
    ValueError: y[1] is None: 1 of 2 samples has no label; leave such samples out
    """
    rows = np.flatnonzero(np.asarray(pd.isna(values)).reshape(len(values), -1).any(1))
    if len(rows):
        row, have = int(rows[0]), "has" if len(rows) == 1 else "have"
        start = f"Input {name} contains NaN. " if values.dtype.kind == "f" else ""  # scikit-learn's words
        where, value = name_row(row, label_of(labels, row), name), quoted(values[row : row + 1].tolist()[0], 80)
        raise ValueError(
            f"{start}{where} is {value}: {len(rows)} of {len(values)} samples {have} no {what}; leave such samples out"
        )


def check_weight(sample_weight: Any, n_samples: int, *, all_zero: bool = False) -> np.ndarray:
    """Return the weight of each sample, (n_samples,) as float64; ones if none are given.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,), float or None
        Weights as given by the user.
    n_samples : int
        Number of samples.
    all_zero : bool, default=False
        Whether all weights may be zero.

    Raises
    ------
    ValueError
        If a weight is missing, infinite, negative or not a number, or the shape is wrong. The message names the row.

    Examples
    --------
    >>> from sktransfer.tasks.validation import check_weight
    >>> check_weight([1, -1], 2)
    Traceback (most recent call last):
        ...
    ValueError: Negative values in data passed to `sample_weight`: sample_weight[1] is -1.0; a weight of 0 leaves out \
a sample
    """
    is_scalar = isinstance(sample_weight, numbers.Real) and not isinstance(sample_weight, bool)
    checked = sample_weight
    if sample_weight is not None and not is_scalar:
        checked = check_numbers(sample_weight, "sample_weight", "weight", largest=sys.float_info.max)
        negative = np.flatnonzero(checked < 0)
        if checked.ndim == 1 and len(negative):
            row = int(negative[0])
            raise ValueError(
                "Negative values in data passed to `sample_weight`: "
                f"{name_row(row, label_of(row_labels(sample_weight), row), 'sample_weight')} is {checked[row]}; a "
                "weight of 0 leaves out a sample"
            )
    options = {"dtype": np.float64, "ensure_non_negative": True, "allow_all_zero_weights": all_zero}
    weight: np.ndarray = _check_sample_weight(checked, np.arange(n_samples), **options)
    return weight
