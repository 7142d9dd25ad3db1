"""Reading of one column of targets: missing values, kinds, vectors and collections of labels in cells."""

from __future__ import annotations

import dataclasses
import decimal
import numbers
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils.multiclass import type_of_target

from sktransfer.exceptions import ValidationWarning, name_row, warn
from sktransfer.samples.arrays import tensor_to_array
from sktransfer.samples.columns import as_series, column_names, is_frame, is_tensor, quoted
from sktransfer.samples.labels import label_of
from sktransfer.targets.column import BOXES, CELLS, Column, ColumnForm
from sktransfer.tasks.classification import Multiclass, MultilabelIndicator
from sktransfer.tasks.continuous import Continuous
from sktransfer.tasks.merged import SOURCE
from sktransfer.tasks.validation import holds_dates

__all__ = ["known_values", "n_rows", "read_column"]

_NUMBERS = "a task of numbers takes a number per row"
_LABELS = "labels of a task are str, int or bool, and all of one type"
_BOXES = tuple(BOXES.values())
_MANY = 20  # rows from which a warning of many classes is given, as in scikit-learn


@dataclasses.dataclass(frozen=True)
class _Cells:
    """Values of a column as given, one row per sample, before their kind is known."""

    values: np.ndarray  # (n_samples,) or (n_samples, n_outputs), of any dtype
    known: np.ndarray  # (n_samples,), bool
    cells: str
    names: list[Any] | None = None
    library: str = ""
    dtype: str | None = None
    is_list: bool = False  # lists have no dtype of their own


def n_rows(given: Any, where: str) -> int:
    """Return the number of rows of a column.

    Parameters
    ----------
    given : array-like of shape (n_samples, ...)
        Column as given by the user.
    where : str
        Expression for the column, for the error.

    Raises
    ------
    ValueError
        If the column has no rows in order.
    """
    if isinstance(given, (str, bytes, Mapping, Set)) or not (hasattr(given, "__len__") or hasattr(given, "shape")):
        remedy = ": pass a list" if isinstance(given, (Set, Iterable)) and not isinstance(given, (str, bytes)) else ""
        raise ValueError(
            f"{where} is a {type(given).__name__}; the targets of a task are a list, Series or array with one value "
            f"per row, or a 2-D array or data frame{remedy}"
        )
    return int(given.shape[0]) if hasattr(given, "shape") else len(given)


def known_values(given: Any, where: str, index: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the known values of a column of any kind (n_known, ...), and which rows are known (n_samples,).

    Parameters
    ----------
    given : array-like of shape (n_samples,)
        Column as given by the user.
    where : str
        Expression for the column, for messages.
    index : Index
        Labels of the rows; None if they have none.

    Raises
    ------
    ValueError
        If the values cannot be used, or are of several types. The message names the row.

    Examples
    --------
    >>> from sktransfer.targets.reading import known_values
    >>> known_values([3, None, 5], "y", None)
    (array([3, 5]), array([ True, False,  True]))
    """
    n_rows(given, where)
    cells = _as_cells(given, where, index)
    values, rows = cells.values[cells.known], np.flatnonzero(cells.known)
    if values.dtype == object and any(isinstance(one, _BOXES) for one in values.tolist()):
        return values, cells.known
    return _Reader(where, rows, index).tidy(values, is_list=cells.is_list), cells.known


def read_column(
    name: str,
    given: Any,
    where: str,
    *,
    kind: str | None = None,
    form: ColumnForm | None = None,
    index: Any = None,
    any_class: bool = False,
) -> Column:
    """Return the targets of one task, of which some may be missing.

    Parameters
    ----------
    name : str
        Name of the task.
    given : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Column as given by the user.
    where : str
        Expression for the column, for messages.
    kind : str, default=None
        Kind of the targets; None to infer it from the known values.
    form : ColumnForm, default=None
        Form of the column in `fit`; None in `fit` itself.
    index : Index, default=None
        Labels of the rows; None if they have none.
    any_class : bool, default=False
        Whether a column with one class, or without a known target, is allowed.

    Raises
    ------
    ValueError
        If the values cannot be used. The message names the column and the row.

    Warns
    -----
    ValidationWarning
        If whole numbers or strings of numbers with many values are read as classes, or a collection holds a label that
        `fit` did not have.
    """
    cells = _as_cells(given, where, index)
    rows = np.flatnonzero(cells.known)
    if not len(rows) and form is None and not any_class:
        raise ValueError(
            f"{where} has no known target, so there is nothing to learn: leave the column out, or give a value in one "
            "row at least. Folds of MultiTaskKFold keep each task"
        )
    values = cells.values[rows]
    if not len(rows):
        form = ColumnForm("scalars") if form is None else form
        return Column(name, kind or Multiclass.kind, values, cells.known, None, form, where)
    reader = _Reader(where, rows, index, name)
    boxes = [type(one) for one in values.tolist() if isinstance(one, _BOXES)] if values.dtype == object else []
    if values.ndim == 1 and boxes:
        if form is not None and form.cells == "scalars":
            raise ValueError(f"{where} holds {CELLS['vectors']}, and in fit it held {CELLS['scalars']}")
        kind, new, read = _read_boxes(reader, values, kind, form)
    elif values.ndim == 2:
        kind, new, read = _read_matrix(reader, cells, values, kind)
    else:
        kind, new, read = _read_scalars(reader, cells, values, kind, any_class=any_class or form is not None)
    if form is not None:
        if new.cells != form.cells and {new.cells, form.cells} - {"matrix", "frame", "vectors"}:
            raise ValueError(f"{where} holds {CELLS[new.cells]}, and in fit it held {CELLS[form.cells]}")
        new = form
    known_labels = None if index is None else index[rows]
    if kind == Multiclass.kind and SOURCE in (getattr(index, "names", None) or ()):
        read = pd.Series(read, index=known_labels)
    return Column(name, kind, read, cells.known, known_labels, new, where)


def _as_cells(given: Any, where: str, index: Any) -> _Cells:
    """Return the values of a column, and where they are missing."""
    if issparse(given):
        given = given.toarray()
    if is_tensor(given):
        given = tensor_to_array(given)
    if isinstance(given, (pd.api.extensions.ExtensionArray, pd.Index)):
        given = pd.Series(given)
    names = column_names(given) if is_frame(given) else None
    if names is not None and len(names) != 1:
        if len(set(names)) < len(names):
            twice = next(name for position, name in enumerate(names) if name in names[:position])
            raise ValueError(f"{where} has two columns {twice!r}; rename or drop one of them")
        wrapped = nw.from_native(given, eager_only=True)
        matrix = _as_matrix(wrapped.to_numpy(), where, index, names)
        return dataclasses.replace(matrix, library=wrapped.implementation.value)
    series = None if isinstance(given, (list, tuple, np.ndarray)) else as_series(given)
    if series is not None:
        return _of_series(series)
    if isinstance(given, (list, tuple)):
        cells = _as_objects([tensor_to_array(value) if is_tensor(value) else value for value in given])  # (n_samples,)
        return _Cells(cells, ~np.asarray(pd.isna(cells)), "scalars", is_list=True)
    array: np.ndarray = np.asarray(given)
    if array.ndim == 2 and array.shape[1] != 1:
        return _as_matrix(array, where, index, None)
    if array.ndim > 2:
        raise ValueError(
            f"{where} has shape {array.shape}; the targets of a task have one value, or one vector, per row"
        )
    array = array.reshape(len(array))  # (n_samples,)
    return _Cells(array, ~np.asarray(pd.isna(array)), "scalars")


def _as_objects(values: Sequence[Any]) -> np.ndarray:
    """Return values as an array of one dimension, also if they are lists of one length."""
    array = np.empty(len(values), dtype=object)  # (n_values,)
    for position, one in enumerate(values):
        array[position] = one
    return array


def _of_series(series: nw.Series[Any]) -> _Cells:
    known = ~series.is_null().to_numpy().astype(bool)  # (n_samples,)
    if series.dtype.is_nested():
        return _Cells(_as_objects(series.to_list()), known, "scalars", is_list=True)
    present = series.filter(known.tolist()).to_numpy()  # (n_known,), without the type that missing values ask for
    if present.dtype.kind == "f":
        number = ~np.isnan(present)  # polars tells NaN from null
        known[known], present = number, present[number]
    array = np.zeros(len(series), dtype=present.dtype)  # (n_samples,)
    array[known] = present
    native = series.to_native()
    extension = nw.dependencies.is_pandas_series(native) and not isinstance(native.dtype, np.dtype)
    keeps = extension and not isinstance(native.dtype, pd.CategoricalDtype)
    return _Cells(array, known, "scalars", dtype=str(native.dtype) if keeps else None)


def _as_matrix(array: np.ndarray, where: str, index: Any, names: list[Any] | None) -> _Cells:
    """Return a matrix, whose rows are known as a whole or not at all."""
    missing = np.asarray(pd.isna(array))  # (n_samples, n_outputs)
    partly = np.flatnonzero(missing.any(1) & ~missing.all(1))
    if len(partly):
        row = int(partly[0])
        raise ValueError(
            f"{name_row(row, label_of(index, row), where)} is {quoted(array[row].tolist(), 80)}: it is known in part; "
            "give all values of the row, or none"
        )
    return _Cells(array, np.asarray(~missing.all(1)), "matrix" if names is None else "frame", names)


class _Reader:
    """Known values of a column, with messages that name the row in y."""

    def __init__(self, where: str, rows: np.ndarray, index: Any, name: str | None = None) -> None:
        self.where, self.rows, self.index, self.name = where, rows, index, name

    @property
    def as_numbers(self) -> str:
        """Parameter that makes the column a task of numbers, for messages."""
        return f"tasks={{{self.name!r}: 'continuous'}}"

    def at(self, position: int) -> str:
        """Return the name of the row of a known value."""
        row = int(self.rows[position])
        return name_row(row, label_of(self.index, row), self.where)

    def refuse(self, position: int, value: Any, text: str) -> ValueError:
        """Return the error about a known value."""
        return ValueError(f"{self.at(position)} is {quoted(value, 80)}: {text}")

    def tidy(self, values: np.ndarray, *, is_list: bool = False) -> np.ndarray:
        """Return known values with a type of numbers, or as labels of one type. Other types are refused."""
        if not values.size:
            return values
        if holds_dates(values):
            raise ValueError(
                f"{self.where} holds dates or durations, and the targets of a task are labels or numbers: make labels "
                "of them, such as the year, or numbers, (pd.to_datetime(dates, utc=True) - pd.Timestamp(0, tz='UTC')) "
                "/ pd.Timedelta(days=1)"
            )
        if values.dtype.kind == "c":
            raise ValueError(f"{self.where} holds complex numbers: give both parts as columns, or the real part")
        if values.dtype.kind == "O":
            values = self._of_objects(values, is_list=is_list)
        if values.dtype.kind == "f":
            flat = values.reshape(len(values), -1)  # (n_known, n_outputs)
            infinite = np.flatnonzero(~np.isfinite(flat).all(1))
            if len(infinite):
                position = int(infinite[0])
                value = values[position].tolist()
                raise self.refuse(position, value, "infinite or NaN; set it to None if it is not known")
        return values

    def _of_objects(self, values: np.ndarray, *, is_list: bool) -> np.ndarray:
        flat = values.ravel().tolist()
        types = {type(one): _type(one) for one in flat}
        found = set(types.values())
        width = values.size // len(values)
        if found <= {"int", "float"} or found == {"bool"}:
            converted = np.array([float(one) if "float" in found else one for one in flat])
            if converted.dtype == object:
                position = next(i for i, one in enumerate(flat) if abs(one) >= 2**63)
                raise self.refuse(position // width, flat[position], "it does not fit into 64 bits: convert it to str")
            return converted.reshape(values.shape)
        if found == {"str"}:
            return np.array(flat).reshape(values.shape) if is_list else values
        first = types[type(flat[0])]
        other = next((i for i, one in enumerate(flat) if types[type(one)] != first), 0)
        kind = type(flat[other]).__name__
        if len(found) == 1:
            raise self.refuse(
                other // width, flat[other], f"it is of type {kind}, and {_LABELS}: convert the values to one of them"
            )
        raise self.refuse(
            other // width,
            flat[other],
            f"it is of type {kind}, and {self.at(0)} is {quoted(flat[0], 80)}, of type {type(flat[0]).__name__}; "
            f"{_LABELS}: convert the values to one of them",
        )


def _type(value: Any) -> str:
    """Return the family of a value's type: values of one family can be sorted and compared."""
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, (int, np.integer)):
        return "int"
    if isinstance(value, (numbers.Real, decimal.Decimal)):
        return "float"
    return "str" if isinstance(value, str) else type(value).__qualname__


def _read_scalars(
    reader: _Reader, cells: _Cells, values: np.ndarray, kind: str | None, *, any_class: bool
) -> tuple[str, ColumnForm, Any]:
    values, where = reader.tidy(values, is_list=cells.is_list), reader.where
    if values.dtype.kind == "S":
        raise ValueError(f"{where} holds bytes, and labels are str, int or bool: decode them")
    found = type_of_target(values)
    if kind == MultilabelIndicator.kind:
        raise reader.refuse(
            0,
            values.tolist()[0],
            "a task of several labels takes a list of labels, or a vector of 0 and 1, per row",
        )
    form = ColumnForm("scalars", dtype=cells.dtype)
    if kind == Continuous.kind or (kind is None and found == "continuous"):
        if values.dtype.kind not in "biuf":
            remedy = "; convert them, pd.to_numeric" if _is_numeric(values[0]) else ""
            raise reader.refuse(0, values.tolist()[0], f"{_NUMBERS}{remedy}")
        return Continuous.kind, ColumnForm("scalars"), values
    if found == "continuous":
        position = int(np.flatnonzero(values != np.round(values))[0])
        raise reader.refuse(
            position,
            values[position].item(),
            "classes are not fractions, and the column was read as classes. Kinds that are not given are inferred from "
            f"the rows of fit, which may hold whole numbers only: for numbers give {reader.as_numbers}",
        )
    n_classes = len(np.unique(values))
    if n_classes == 1 and not any_class:
        raise ValueError(
            f"{where} holds one class only, {values.tolist()[0]!r}; a task needs two or more to tell apart: leave the "
            "column out. Folds of MultiTaskKFold keep each class"
        )
    if kind is None and len(values) > _MANY and n_classes > len(values) / 2:
        is_number = values.dtype.kind in "iuf"
        if is_number or (values.dtype.kind in "OU" and all(map(_is_numeric, values))):
            what = "whole numbers" if is_number else "strings of numbers"
            remedy = f"give {reader.as_numbers}" if is_number else "convert them, pd.to_numeric"
            warn(
                f"{where} holds {n_classes} {what} in {len(values)} rows, which are read as classes. For numbers, "
                f"{remedy}",
                ValidationWarning,
            )
    return Multiclass.kind, form, values


def _is_numeric(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _read_matrix(
    reader: _Reader, cells: _Cells, values: np.ndarray, kind: str | None, box: str | None = None
) -> tuple[str, ColumnForm, Any]:
    values, where = reader.tidy(values), reader.where
    if values.dtype.kind not in "biuf":
        raise reader.refuse(
            0,
            values[0].tolist(),
            "several columns of one task are numbers, or 0 and 1; give each column of labels a task",
        )
    is_binary = bool(np.isin(values, [0, 1]).all())
    if kind is None:
        fractions = values.dtype.kind == "f" and bool((values != np.round(values)).any())
        if not is_binary and not fractions:
            raise ValueError(
                f"{where} holds several whole numbers per row, and its kind is not clear: give the kind 'continuous' "
                "for numbers, or 'multilabel-indicator' if the cells are lists of labels"
            )
        kind = MultilabelIndicator.kind if is_binary else Continuous.kind
    elif kind == Multiclass.kind:
        raise ValueError(
            f"{where} holds {values.shape[1]} values per row, and a task of one class per row takes one: give each "
            "column a task, or the kind 'multilabel-indicator' for 0 and 1"
        )
    elif kind == MultilabelIndicator.kind and not is_binary:
        position = int(np.flatnonzero(~np.isin(values, [0, 1]).all(1))[0])
        raise reader.refuse(position, values[position].tolist(), "indicators of labels are 0 and 1")
    if box is not None:
        return kind, ColumnForm("vectors", box=box), values
    if cells.names is None:
        return kind, ColumnForm("matrix"), values
    names = list(cells.names)
    return kind, ColumnForm("frame", names, library=cells.library), pd.DataFrame(values, columns=names)


def _read_boxes(
    reader: _Reader, values: np.ndarray, kind: str | None, form: ColumnForm | None
) -> tuple[str, ColumnForm, Any]:
    """Return vectors of one length as a matrix, and collections of labels as indicators."""
    boxes: list[Any] = []
    for position, one in enumerate(values.tolist()):
        if not isinstance(one, _BOXES) or (isinstance(one, np.ndarray) and one.ndim != 1):
            raise reader.refuse(position, one, "a column of lists holds a list, or None, in each row")
        boxes.append(one)
    box = next(name for name, cls in BOXES.items() if isinstance(boxes[0], cls))
    elements = [element for one in boxes for element in one]
    is_set = any(isinstance(one, (set, frozenset)) for one in boxes)
    lengths = {len(one) for one in boxes}
    is_text = any(isinstance(element, str) for element in elements)
    labels = form.cells == "labels" if form is not None else is_set or is_text or lengths <= {0, 1} or len(lengths) > 1
    if form is None and not labels and kind == MultilabelIndicator.kind:
        labels = not all(element in (0, 1) for element in elements)
    if kind == Continuous.kind or not labels:
        if is_set or len(lengths) > 1:
            position = next((i for i, one in enumerate(boxes) if len(one) != len(boxes[0])), 0)
            raise reader.refuse(position, boxes[position], "vectors of numbers are lists or arrays of one length")
        matrix = np.empty((len(boxes), len(boxes[0])), dtype=object)  # (n_known, n_outputs)
        for position, one in enumerate(boxes):
            matrix[position] = list(one)
        return _read_matrix(reader, _Cells(matrix, np.ones(len(boxes), bool), "matrix"), matrix, kind, box)
    if kind == Multiclass.kind:
        raise reader.refuse(
            0, boxes[0], "a task of one class per row takes one label; for several give the kind 'multilabel-indicator'"
        )
    return _read_labels(reader, boxes, box, form)


def _read_labels(
    reader: _Reader, boxes: Sequence[Any], box: str, form: ColumnForm | None
) -> tuple[str, ColumnForm, Any]:
    """Return the indicators of collections of labels, of all labels or of those that `fit` had."""
    position_of: np.ndarray = np.repeat(np.arange(len(boxes)), [len(one) for one in boxes])  # (n_elements,)
    flat = [element for one in boxes for element in (sorted(one, key=repr) if isinstance(one, Set) else one)]
    array = _as_objects(flat)  # (n_elements,)
    if len(flat):
        missing = np.flatnonzero(pd.isna(array))
        if len(missing):
            position = int(position_of[missing[0]])
            raise reader.refuse(
                position, boxes[position], "a label is missing in it; leave it out, or set the row to None"
            )
        _Reader(reader.where, reader.rows[position_of], reader.index).tidy(array)
    known = sorted(set(flat)) if form is None else form.labels
    assert known is not None
    if len(known) < 1:
        raise ValueError(f"{reader.where} holds no label in any row: leave the column out")
    column_of = {label: column for column, label in enumerate(known)}
    values = np.zeros((len(boxes), len(known)), dtype=np.int64)  # (n_known, n_labels)
    unseen = [position for position, label in zip(position_of.tolist(), flat) if label not in column_of]
    if unseen:
        labels = sorted(set(flat) - set(column_of), key=repr)
        warn(
            f"{reader.where} holds labels that fit did not have, {quoted(labels, 80)}, the first in "
            f"{reader.at(unseen[0])}; they are ignored",
            ValidationWarning,
        )
    for position, label in zip(position_of.tolist(), flat):
        if label in column_of:
            values[position, column_of[label]] = 1
    names = [one.item() if isinstance(one, np.generic) else one for one in known]
    indicators = pd.DataFrame(values, columns=names) if all(isinstance(one, str) for one in names) else values
    return MultilabelIndicator.kind, ColumnForm("labels", names, box=box), indicators
