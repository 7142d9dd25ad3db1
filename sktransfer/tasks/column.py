"""Columns of the targets of several tasks: known values, their kind, and the form that predictions come back in."""

from __future__ import annotations

import dataclasses
import decimal
import numbers
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Self

import narwhals as nw
import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils.multiclass import type_of_target

from sktransfer._validation import require_field
from sktransfer.exceptions import LoadError, ValidationWarning, name_row, warn
from sktransfer.samples.arrays import tensor_to_array
from sktransfer.samples.columns import as_series, column_names, is_frame, is_tensor, quoted
from sktransfer.samples.labels import label_of
from sktransfer.tasks.base import Task
from sktransfer.tasks.classification import ClassWeight, Multiclass, MultilabelIndicator
from sktransfer.tasks.continuous import Continuous
from sktransfer.tasks.criterion import Criterion
from sktransfer.tasks.merged import SOURCE, MergedMulticlass, sources_of
from sktransfer.tasks.validation import holds_dates

__all__ = ["KINDS", "Column", "ColumnForm", "n_rows", "read_column"]

KINDS = ("multiclass", "continuous", "multilabel-indicator")
_NUMBERS = "a task of numbers takes a number per row"
_LABELS = "labels of a task are str, int or bool, and all of one type"
_BOXES = (list, tuple, set, frozenset, np.ndarray)
_MANY = 20  # rows from which a warning of many classes is given, as in scikit-learn
_CELLS = ("scalars", "matrix", "frame", "vectors", "labels")
_BOX_NAMES = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset", np.ndarray: "ndarray"}
_BOX_TYPES = {name: box for box, name in _BOX_NAMES.items()}


@dataclasses.dataclass(frozen=True)
class ColumnForm:
    """Form of a column's values, in which its predictions come back.

    Parameters
    ----------
    cells : {"scalars", "matrix", "frame", "vectors", "labels"}
        One value per row, a 2-D array, a data frame, a vector in each cell, or a collection of labels in each cell.
    labels : list, default=None
        Names of a frame's columns, or all labels of the collections, sorted.
    dtype : str, default=None
        Data type of pandas that predictions are converted to; None to leave them as they are.
    box : str, default="ndarray"
        Type of the vector or the collection in a cell: "list", "tuple", "set", "frozenset" or "ndarray".
    library : str, default=""
        Library of a data frame in a dict, such as "polars"; empty for other columns.
    """

    cells: str
    labels: list[Any] | None = None
    dtype: str | None = None
    box: str = "ndarray"
    library: str = ""

    def cells_of(self, predictions: np.ndarray) -> Any:
        """Return predictions as values of a column: an array, or a list with a vector or a collection per row.

        Parameters
        ----------
        predictions : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions of the task.
        """
        if self.cells == "vectors":
            return (
                list(predictions)
                if self.box == "ndarray"
                else [_BOX_TYPES[self.box](row) for row in predictions.tolist()]
            )
        if self.cells == "labels":
            assert self.labels is not None
            make, labels = _BOX_TYPES[self.box], self.labels
            found = [[labels[position] for position in np.flatnonzero(row)] for row in predictions]
            return [np.array(one) if make is np.ndarray else make(one) for one in found]
        return predictions

    def to_state(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the form of a state.

        Raises
        ------
        LoadError
            If a field is missing or not allowed.
        """
        labels = require_field(state, "labels", (list, type(None)))
        cells = require_field(state, "cells", str, _CELLS)
        if (labels is None) != (cells not in ("frame", "labels")):
            raise LoadError(f"the field 'labels' does not fit cells={cells!r}")
        dtype = require_field(state, "dtype", (str, type(None)))
        box, library = require_field(state, "box", str, tuple(_BOX_TYPES)), require_field(state, "library", str)
        return cls(cells, labels, dtype, box, library)


@dataclasses.dataclass(frozen=True)
class Column:
    """Targets of one task.

    Parameters
    ----------
    name : str
        Name of the task.
    kind : {"multiclass", "continuous", "multilabel-indicator"}
        Kind of the targets.
    values : array-like of shape (n_known, ...)
        Targets of the rows that are known, as `Task.check` takes them: an array, a data frame of indicators, or, if
        the index of Y has a level "source", a Series with this index.
    known : ndarray of shape (n_samples,), bool
        Whether the target of each row is known.
    labels : Index or None
        Labels of the known rows in the index of Y; None if it has none.
    form : ColumnForm
        Form that predictions come back in.
    where : str
        Expression for the column, such as "Y['topic']", for messages.
    """

    name: str
    kind: str
    values: Any
    known: np.ndarray
    labels: Any
    form: ColumnForm
    where: str

    @property
    def n_known(self) -> int:
        """Number of rows whose target is known."""
        return int(self.known.sum())

    def make_task(
        self,
        class_weight: ClassWeight = None,
        label_smoothing: float = 0.0,
        criterion: Criterion | None = None,
        classes: np.ndarray | None = None,
    ) -> Task:
        """Return a new task for these targets.

        Parameters
        ----------
        class_weight : dict, list of dict or "balanced", default=None
            Weight of each class. Not used by numbers.
        label_smoothing : float, default=0.0
            Share of each target that is spread evenly over the classes. Not used by numbers.
        criterion : Criterion, default=None
            Loss of outputs and targets; None for that of the task.
        classes : ndarray of shape (n_classes,), default=None
            All classes; None for those of the targets. Not used by numbers.
        """
        if self.kind == Continuous.kind:
            return Continuous(criterion)
        make = self._merged_or_not if self.kind == Multiclass.kind else MultilabelIndicator
        return make(class_weight, label_smoothing, classes, criterion)

    @property
    def _merged_or_not(self) -> type[Multiclass]:
        """Task of one class per row: that of merged data sets if these have different classes."""
        sources = sources_of(self.values)
        if sources is None:
            return Multiclass
        labels = np.asarray(self.values)
        sets = {frozenset(labels[sources == source].tolist()) for source in np.unique(sources)}
        return MergedMulticlass if len(sets) > 1 else Multiclass

    def check(self, task: Task) -> np.ndarray:
        """Return the known targets (n_known, ...) as a task has validated them. An error names the column.

        Parameters
        ----------
        task : Task
            Task of these targets.

        Raises
        ------
        ValueError
            If they are no targets of the task.
        """
        with warnings.catch_warnings(), self.named():
            # `read_tasks` has warned of many classes, with the name of the column.
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            return task.check(self.values)

    def named(self) -> Any:
        """Return a context that adds the name of the column to a ValueError."""
        return _Named(self.where)


class _Named:
    """Context that adds the name of a column to a ValueError."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if type(error) is ValueError:
            raise ValueError(f"{self.where}: {error}") from error


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
        If whole numbers with many values are read as classes, or a collection holds a label that `fit` did not have.
    """
    cells = _as_cells(given, where, index)
    rows = np.flatnonzero(cells.known)
    if not len(rows) and form is None and not any_class:
        raise ValueError(
            f"{where} has no known target, so there is nothing to learn: leave the column out, or give a value in one "
            "row at least"
        )
    reader = _Reader(where, rows, index)
    values = cells.values[rows]
    boxes = [type(one) for one in values.tolist() if isinstance(one, _BOXES)] if values.dtype == object else []
    if values.ndim == 1 and boxes:
        if form is not None and form.cells == "scalars":
            raise ValueError(f"{where} holds {_DESCRIBED['vectors']}, and in fit it held {_DESCRIBED['scalars']}")
        kind, new, read = _read_boxes(reader, values, kind, form)
    elif values.ndim == 2:
        kind, new, read = _read_matrix(reader, cells, values, kind)
    else:
        kind, new, read = _read_scalars(reader, cells, values, kind, any_class=any_class or form is not None)
    if form is not None:
        if len(rows) and new.cells != form.cells and {new.cells, form.cells} - {"matrix", "frame", "vectors"}:
            raise ValueError(f"{where} holds {_DESCRIBED[new.cells]}, and in fit it held {_DESCRIBED[form.cells]}")
        new = form
    known_labels = None if index is None else index[rows]
    if kind == Multiclass.kind and SOURCE in (getattr(index, "names", None) or ()):
        read = pd.Series(read, index=known_labels)
    return Column(name, kind, read, cells.known, known_labels, new, where)


_DESCRIBED = {
    "scalars": "one value per row",
    "matrix": "several columns",
    "frame": "several columns",
    "vectors": "a list or vector per row",
    "labels": "a list of labels per row",
}


def _as_cells(given: Any, where: str, index: Any) -> _Cells:
    """Return the values of a column, and where they are missing."""
    if issparse(given):
        given = given.toarray()
    if is_tensor(given):
        given = tensor_to_array(given)
    names = column_names(given) if is_frame(given) else None
    if names is not None and len(names) != 1:
        wrapped = nw.from_native(given, eager_only=True)
        cells = _as_matrix(wrapped.to_numpy(), where, index, names)
        return dataclasses.replace(cells, library=wrapped.implementation.value)
    series = None if isinstance(given, (list, tuple, np.ndarray)) else as_series(given)
    if series is not None:
        return _of_series(series)
    if isinstance(given, (list, tuple)):
        array = np.empty(len(given), dtype=object)  # (n_samples,)
        for row, value in enumerate(given):  # np.array would make a matrix of lists of one length
            array[row] = tensor_to_array(value) if is_tensor(value) else value
        return _Cells(array, ~np.asarray(pd.isna(array)), "scalars", is_list=True)
    array = np.asarray(given)
    if array.ndim == 2 and array.shape[1] != 1:
        return _as_matrix(array, where, index, None)
    if array.ndim > 2:
        raise ValueError(
            f"{where} has shape {array.shape}; the targets of a task have one value, or one vector, per row"
        )
    array = array.reshape(len(array))  # (n_samples,)
    return _Cells(array, ~np.asarray(pd.isna(array)), "scalars")


def _of_series(series: nw.Series[Any]) -> _Cells:
    known = ~series.is_null().to_numpy().astype(bool)  # (n_samples,)
    if series.dtype in (nw.List, nw.Array):
        array = np.empty(len(series), dtype=object)  # (n_samples,)
        for row, value in enumerate(series.to_list()):
            array[row] = value
        return _Cells(array, known, "scalars", is_list=True)
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
    return _Cells(array, ~missing.all(1), "matrix" if names is None else "frame", names)


class _Reader:
    """Known values of a column, with messages that name the row in Y."""

    def __init__(self, where: str, rows: np.ndarray, index: Any) -> None:
        self.where, self.rows, self.index = where, rows, index

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
                "of them, such as the year, or numbers, (pd.to_datetime(dates) - pd.Timestamp(0)) / "
                "pd.Timedelta(days=1)"
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
        if found <= {"int", "float"} or found == {"bool"}:
            converted = np.array([float(one) if "float" in found else one for one in flat])
            return converted.reshape(values.shape)
        if found == {"str"}:
            return np.array(flat).reshape(values.shape) if is_list else values
        width = values.size // len(values)
        first = types[type(flat[0])]
        other = next((i for i, one in enumerate(flat) if types[type(one)] != first), 0)
        what = f"a {type(flat[other]).__name__}"
        if len(found) == 1:
            raise self.refuse(other // width, flat[other], f"{what}; {_LABELS}")
        raise self.refuse(
            other // width,
            flat[other],
            f"{what}, and {self.at(0)} is {quoted(flat[0], 80)}, a {type(flat[0]).__name__}; {_LABELS}: convert "
            "them to one type",
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
    found = type_of_target(values) if len(values) else "binary"
    if kind == MultilabelIndicator.kind:
        raise reader.refuse(
            0,
            values.tolist()[0] if len(values) else None,
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
            position, values[position].item(), "classes are not fractions; give the kind 'continuous' for numbers"
        )
    n_classes = len(np.unique(values))
    if n_classes == 1 and not any_class:
        raise ValueError(
            f"{where} holds one class only, {values.tolist()[0]!r}; a task needs two or more to tell apart: leave the "
            "column out"
        )
    if kind is None and values.dtype.kind in "iuf" and len(values) > _MANY and n_classes > len(values) / 2:
        warn(
            f"{where} holds {n_classes} whole numbers in {len(values)} rows, which are read as classes. For numbers, "
            "give the kind 'continuous'",
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
    box = _BOX_NAMES[next(cls for cls in _BOX_NAMES if isinstance(boxes[0], cls))]
    elements = [element for one in boxes for element in one]
    is_set = any(isinstance(one, (set, frozenset)) for one in boxes)
    lengths = {len(one) for one in boxes}
    is_text = any(isinstance(element, str) for element in elements)
    labels = form.cells == "labels" if form is not None else is_set or is_text or lengths <= {0, 1} or len(lengths) > 1
    if form is None and not labels and kind == MultilabelIndicator.kind:
        labels = not set(elements) <= {0, 1}
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
    position_of = np.repeat(np.arange(len(boxes)), [len(one) for one in boxes])  # (n_elements,)
    flat = [element for one in boxes for element in (sorted(one, key=repr) if isinstance(one, Set) else one)]
    array = np.empty(len(flat), dtype=object)  # (n_elements,)
    array[:] = flat
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
    unseen = [(position, label) for position, label in zip(position_of, flat) if label not in column_of]
    if unseen:
        labels = sorted({label for _, label in unseen}, key=repr)
        warn(
            f"{reader.where} holds labels that fit did not have, {quoted(labels, 80)}, the first in "
            f"{reader.at(int(unseen[0][0]))}; they are ignored",
            ValidationWarning,
        )
    for position, label in zip(position_of, flat):
        if label in column_of:
            values[position, column_of[label]] = 1
    names = [one.item() if isinstance(one, np.generic) else one for one in known]
    indicators = pd.DataFrame(values, columns=names) if all(isinstance(one, str) for one in names) else values
    return MultilabelIndicator.kind, ColumnForm("labels", names, box=box), indicators
