"""Targets of several tasks: reading y, its schema, and weights per task."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Set
from typing import Any, Self

import narwhals as nw
import numpy as np
import pandas as pd
from narwhals.exceptions import DuplicateError
from scipy.sparse import issparse

from sktransfer._validation import require_field
from sktransfer.exceptions import InvalidParameterError, LoadError, did_you_mean, name_row
from sktransfer.samples.arrays import tensor_to_array
from sktransfer.samples.columns import as_series, is_frame, is_tensor, quoted
from sktransfer.samples.labels import label_of, row_labels
from sktransfer.targets.column import KINDS, LIBRARIES, Column, ColumnForm
from sktransfer.targets.reading import n_rows, read_column
from sktransfer.tasks.validation import as_array, check_weight

__all__ = ["TaskSchema", "TaskTable", "check_task_weight", "read_tasks", "split_columns"]

_FORMS = "a data frame with a column per task, a dict of columns, or an array (n_samples, n_tasks)"
_CONTAINERS = ("frame", "series", "dict", "array", "vector")
_KIND_OF = {"binary": "multiclass", "continuous-multioutput": "continuous", **{kind: kind for kind in KINDS}}
_DEFAULT_NAME = "y"


@dataclasses.dataclass(frozen=True)
class TaskSchema:
    """Names and kinds of the tasks, and the form of y, which predictions have.

    Parameters
    ----------
    names : tuple of str
        Names of the tasks, in the order of y.
    kinds : tuple of str
        Kind of each task.
    forms : tuple of ColumnForm
        Form of each column.
    container : {"frame", "series", "dict", "array", "vector"}
        Container of y: a data frame, a Series, a dict of columns, an array with a column per task, or one column.
    library : str, default=""
        Library of a data frame or Series, such as "pandas"; empty for other containers.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.targets.table import read_tasks
    >>> schema = read_tasks({"topic": ["a", None, "b"], "stars": [1.5, 2.0, None]}).schema
    >>> schema.kinds
    ('multiclass', 'continuous')
    >>> schema.give_back({"topic": np.array(["b"]), "stars": np.array([0.5])})
    {'topic': array(['b'], dtype='<U1'), 'stars': array([0.5])}
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    forms: tuple[ColumnForm, ...]
    container: str
    library: str = ""

    def give_back(self, predictions: Mapping[str, np.ndarray], index: Any = None) -> Any:
        """Return predictions in the container of y.

        Parameters
        ----------
        predictions : mapping of str to ndarray of shape (n_samples, ...)
            Predictions by task, as `Task.decode` returns them.
        index : Index, default=None
            Index of the data frame or Series of pandas; None for the positions of the rows.
        """
        columns = {name: form.cells_of(predictions[name]) for name, form in zip(self.names, self.forms)}
        if self.container == "dict":
            return {name: self._of_dict(form, columns[name], index) for name, form in zip(self.names, self.forms)}
        if self.container in ("frame", "series"):
            frame = self._frame(columns, index)
            return frame if self.container == "frame" else nw.from_native(frame)[self.names[0]].to_native()
        arrays = [_as_array(column) for column in columns.values()]
        if self.container == "vector":
            return arrays[0]
        return np.stack(arrays, axis=1, dtype=_common_dtype(arrays), casting="unsafe")  # (n_samples, n_tasks)

    def _frame(self, columns: Mapping[str, Any], index: Any) -> Any:
        if self.library != "pandas":
            return _new_frame({name: _plain(column) for name, column in columns.items()}, self.library)
        series = {}
        for (name, column), form in zip(columns.items(), self.forms):
            cells = _as_array(column)
            series[name] = pd.Series(
                cells, index=index, dtype=form.dtype or (object if isinstance(column, list) else None)
            )
        return pd.DataFrame(series, index=index, columns=list(self.names))

    @staticmethod
    def _of_dict(form: ColumnForm, column: Any, index: Any) -> Any:
        if form.cells != "frame":
            return column
        assert form.labels is not None
        if form.library == "pandas":
            return pd.DataFrame(column, columns=form.labels, index=index)
        return _new_frame(dict(zip(form.labels, np.asarray(column).T)), form.library)

    def to_state(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        forms = [form.to_state() for form in self.forms]
        return {**vars(self), "names": list(self.names), "kinds": list(self.kinds), "forms": forms}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the schema of a state.

        Raises
        ------
        LoadError
            If a field is missing or not allowed.
        """
        names, kinds, forms = (require_field(state, name, list) for name in ("names", "kinds", "forms"))
        if not (len(names) == len(kinds) == len(forms) > 0 and all(isinstance(name, str) for name in names)):
            raise LoadError("the fields 'names', 'kinds' and 'forms' of a table of tasks do not fit each other")
        if not set(kinds) <= set(KINDS) or len(set(names)) < len(names):
            raise LoadError(f"the kinds {kinds} of the tasks {names} are not allowed")
        container, library = (
            require_field(state, "container", str, _CONTAINERS),
            require_field(state, "library", str, LIBRARIES),
        )
        return cls(tuple(names), tuple(kinds), tuple(map(ColumnForm.from_state, forms)), container, library)


def _new_frame(columns: Mapping[str, Any], library: Any) -> Any:
    return nw.from_dict(columns, backend=library).to_native()


def _as_array(column: Any) -> np.ndarray:
    """Return the cells of a column as an array of one dimension."""
    if isinstance(column, np.ndarray) and column.ndim == 1:
        return column
    cells = np.empty(len(column), dtype=object)  # (n_samples,)
    for row, one in enumerate(column):
        cells[row] = one
    return cells


def _plain(column: Any) -> Any:
    """Return a column in a form whose type a library of data frames infers."""
    if isinstance(column, np.ndarray):
        return column.tolist() if column.dtype == object or column.ndim > 1 else column
    return [sorted(one, key=repr) if isinstance(one, (set, frozenset)) else one for one in column]


def _common_dtype(arrays: list[np.ndarray]) -> Any:
    kinds = {array.dtype.kind for array in arrays}
    return np.result_type(*arrays) if kinds <= set("iuf") or kinds in ({"b"}, {"U"}) else np.dtype(object)


@dataclasses.dataclass(frozen=True)
class TaskTable:
    """Targets of several tasks, of which some may be missing.

    Parameters
    ----------
    columns : dict of str to Column
        Targets by task, in the order of the tasks.
    n_samples : int
        Number of rows.
    schema : TaskSchema
        Names, kinds and form of y.
    """

    columns: dict[str, Column]
    n_samples: int
    schema: TaskSchema

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return self.schema.names

    @property
    def known(self) -> np.ndarray:
        """Whether each target is known, (n_samples, n_tasks)."""
        return np.stack([column.known for column in self.columns.values()], axis=1)


def read_tasks(
    y: Any,
    tasks: Any = "auto",
    like: TaskSchema | None = None,
    *,
    classes: Mapping[str, Any] | None = None,
    partial: bool = False,
) -> TaskTable:
    """Return the targets of several tasks. None, NaN, and the missing values of pandas and polars are not known.

    Parameters
    ----------
    y : DataFrame, dict of str to array-like, array of shape (n_samples, n_tasks) or Series
        Targets, a column per task. The columns of an array are called "y0", "y1" and so on. One column is one task.
        Several labels or several numbers per row are a 2-D array or data frame in a dict, or a vector in each cell.
        Cells may also hold lists, tuples or sets of labels.
    tasks : "auto" or dict of str to str, default="auto"
        Kind of some tasks: "multiclass", "continuous" or "multilabel-indicator". The others are inferred as
        `sklearn.utils.multiclass.type_of_target` does it, from the known values.
    like : TaskSchema, default=None
        Schema of an earlier call. y must have the same columns, in any order, and may lack targets of a task.
    classes : mapping of str to array-like, default=None
        All classes of some tasks. y may hold one class of them, or none.
    partial : bool, default=False
        Whether a data frame, dict or Series may lack columns of `like`. No target of these tasks is known.

    Raises
    ------
    InvalidParameterError
        If `tasks` names an unknown kind, or a column that y does not have.
    ValueError
        If y cannot be used. The message names the column and the row.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer.targets.table import read_tasks
    >>> y = pd.DataFrame({"topic": ["film", None, "book"], "stars": [4, 2, None]})
    >>> table = read_tasks(y, {"stars": "continuous"})
    >>> table.schema.kinds, table.columns["topic"].values, table.columns["topic"].known
    (('multiclass', 'continuous'), array(['film', 'book'], dtype=object), array([ True, False,  True]))
    """
    given, container, library = _columns(y)
    names = tuple(given)
    kinds = _check_kinds(tasks, names, like)
    if like is not None:
        given, names = _in_order(given, container, like, partial=partial), like.names
    n_samples, wheres = _n_samples(given, container), {name: _where(container, name, i) for i, name in enumerate(names)}
    index = row_labels(y)
    columns = {}
    for position, name in enumerate(names):
        columns[name] = read_column(
            name,
            given[name],
            wheres[name],
            kind=kinds.get(name),
            form=None if like is None else like.forms[position],
            index=row_labels(given[name]) if index is None else index,
            any_class=classes is not None and name in classes,
        )
    if like is None:
        found = tuple(column.kind for column in columns.values()), tuple(column.form for column in columns.values())
        like = TaskSchema(names, *found, container, library)
    return TaskTable(columns, n_samples, like)


def _where(container: str, name: str, position: int) -> str:
    """Return the expression for a column of y."""
    if container in ("vector", "series"):
        return "y"
    return f"y[:, {position}]" if container == "array" else f"y[{name!r}]"


def split_columns(y: Any) -> dict[str, Any]:
    """Return the columns of y by the name of their task.

    Parameters
    ----------
    y : DataFrame, dict of str to array-like, array of shape (n_samples, n_tasks) or Series
        As `read_tasks` takes it.

    Raises
    ------
    ValueError
        If y is no table, or a name is not allowed.
    """
    return _columns(y)[0]


def _columns(y: Any) -> tuple[dict[str, Any], str, str]:
    """Return the columns of y by name, its container, and the library of the container."""
    _refuse_other(y)
    if isinstance(y, Mapping):
        _check_names(list(y))
        return dict(y), "dict", ""
    if is_frame(y):
        return _of_frame(y)
    if isinstance(y, (list, tuple)):
        return _of_list(list(y))
    series = None if isinstance(y, np.ndarray) else as_series(y)
    if series is not None:
        name = series.name if isinstance(series.name, str) and series.name else _DEFAULT_NAME
        return {name: y}, "series", series.implementation.value
    return _of_array(tensor_to_array(y) if is_tensor(y) else np.asarray(y))


def _refuse_other(y: Any) -> None:
    """Raise if y is no table."""
    if y is None:
        raise ValueError(f"y is None: pass {_FORMS}. A target that is not known is None or NaN")
    if issparse(y):
        raise ValueError("y is a sparse matrix: pass y.toarray() for a column per task, or {'labels': y} for one task")
    if hasattr(y, "collect") and not hasattr(y, "shape"):
        raise ValueError(f"y is a {type(y).__name__}: pass y.collect()")
    if isinstance(y, (str, bytes, Set, Iterator)) or not (hasattr(y, "__len__") or hasattr(y, "__array__")):
        raise ValueError(f"y is a {type(y).__name__}; pass {_FORMS}")
    if isinstance(y, Mapping) and not y:
        raise ValueError(f"y is an empty dict: pass {_FORMS}")


def _of_array(array: np.ndarray) -> tuple[dict[str, Any], str, str]:
    if array.dtype.names:
        raise ValueError("y is an array with named fields: pass pd.DataFrame(y)")
    if array.ndim == 1:
        return {_DEFAULT_NAME: array}, "vector", ""
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"y has shape {array.shape}; pass {_FORMS}")
    return {f"{_DEFAULT_NAME}{i}": column for i, column in enumerate(array.T)}, "array", ""


def _of_frame(y: Any) -> tuple[dict[str, Any], str, str]:
    try:
        frame = nw.from_native(y, eager_only=True)
        names = list(frame.columns)
    except DuplicateError:
        names = list(y.columns)
        twice = next(name for position, name in enumerate(names) if name in names[:position])
        raise ValueError(f"y has two columns {twice!r}; each task has one: rename or drop one of them") from None
    if not names:
        raise ValueError(f"y is a data frame without columns: pass {_FORMS}")
    _check_names(names)
    return {name: frame[name].to_native() for name in names}, "frame", frame.implementation.value


def _of_list(y: list[Any]) -> tuple[dict[str, Any], str, str]:
    """Return the columns of a list of rows, or of one column."""
    rows = [one for one in y if isinstance(one, (list, tuple, np.ndarray))]
    if any(isinstance(one, Mapping) for one in y):
        raise ValueError("y is a list of dicts: pass pd.DataFrame(y)")
    if not rows:
        return {_DEFAULT_NAME: y}, "vector", ""
    widths = {len(one) for one in rows}
    if len(rows) < len(y) or len(widths) > 1 or not widths - {0}:
        row = next((i for i, one in enumerate(y) if not isinstance(one, (list, tuple, np.ndarray))), None)
        row = next(i for i, one in enumerate(y) if len(one) != len(y[0])) if row is None else row
        raise ValueError(
            f"y[{row}] is {quoted(y[row], 80)}; a list of rows holds one value per task in each row: pass None for a "
            "target that is not known, or {'labels': y} for one task with a list of labels per row"
        )
    return {f"{_DEFAULT_NAME}{i}": list(column) for i, column in enumerate(zip(*y))}, "array", ""


def _check_names(names: list[Any]) -> None:
    bad = next((name for name in names if not isinstance(name, str) or not name), None)
    if bad is not None:
        raise ValueError(
            f"y has a column {bad!r}; names of tasks are strings that are not empty: rename it, for example "
            f"{'y.add_prefix(' + repr('y') + ')' if isinstance(bad, int) else 'y.rename(columns=...)'}"
        )


def _check_kinds(tasks: Any, names: tuple[str, ...], like: TaskSchema | None) -> dict[str, str]:
    """Return the kinds that are given."""
    if like is not None:
        return dict(zip(like.names, like.kinds))
    if isinstance(tasks, str) and tasks == "auto":
        return {}
    allowed = f"'auto', or a dict from the name of a task to {', '.join(map(repr, KINDS[:-1]))} or {KINDS[-1]!r}"
    if not isinstance(tasks, Mapping):
        raise InvalidParameterError(f"tasks={tasks!r} must be {allowed}")
    for name, kind in tasks.items():
        if name not in names:
            hint = did_you_mean(name, names) if isinstance(name, str) else ""
            raise InvalidParameterError(f"tasks has {name!r}, and the columns of y are {list(names)}.{hint}")
        if not isinstance(kind, str) or kind not in _KIND_OF:
            hint = did_you_mean(kind, _KIND_OF) if isinstance(kind, str) else ""
            raise InvalidParameterError(f"tasks[{name!r}]={kind!r} is not a kind; tasks must be {allowed}.{hint}")
    return {name: _KIND_OF[kind] for name, kind in tasks.items()}


def _in_order(given: dict[str, Any], container: str, like: TaskSchema, *, partial: bool) -> dict[str, Any]:
    """Return the columns in the order of the schema."""
    if len(given) == len(like.names) == 1 and "vector" in (container, like.container):
        return {like.names[0]: next(iter(given.values()))}  # the only column needs no name
    nameless = container in ("vector", "series") and list(given) == [_DEFAULT_NAME] and _DEFAULT_NAME not in like.names
    if nameless or container == "array" != like.container:
        raise ValueError(
            f"y is {'one column without a name' if nameless else 'an array'}, and in fit it had the columns "
            f"{list(like.names)}: pass a data frame or a dict with them"
        )
    missing = [name for name in like.names if name not in given]
    extra = [name for name in given if name not in like.names]
    partial = partial and container != "array"  # the columns of an array have no names of their own
    if extra or (missing and not partial):
        parts = [f"lacks {missing}"] * bool(missing) + [f"has {extra} more"] * bool(extra)
        hint = did_you_mean(extra[0], missing) if extra else ""
        remedies = ["a task without a known target has a column of None"] * (bool(missing) and not partial and not hint)
        drop = f"drop {'the column' if len(extra) == 1 else 'the columns'} {extra}"
        remedies += ([f"rename {extra[0]!r}"] if hint else [drop]) * bool(extra)
        raise ValueError(
            f"y {' and '.join(parts)}, and in fit its columns were {list(like.names)}; {', and '.join(remedies)}"
            f"{'.' if hint else ''}{hint}"
        )
    unknown = [None] * n_rows(next(iter(given.values())), "y") if missing else []
    return {name: given.get(name, unknown) for name in like.names}


def _n_samples(given: dict[str, Any], container: str) -> int:
    lengths = {name: n_rows(column, _where(container, name, i)) for i, (name, column) in enumerate(given.items())}
    first = next(iter(lengths))
    other = next((name for name, length in lengths.items() if length != lengths[first]), None)
    if other is not None:
        raise ValueError(
            f"y[{first!r}] has {lengths[first]} rows, and y[{other!r}] has {lengths[other]}; each has one per sample"
        )
    if not lengths[first]:
        raise ValueError("y has no rows: pass the targets of one sample at least")
    return lengths[first]


def check_task_weight(
    sample_weight: Any,
    names: tuple[str, ...] | list[str],
    n_samples: int,
    known: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Return the weight of each row in each task, (n_samples,) each, as float64.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), DataFrame, dict, float or None
        Weights per row, or per row and task. A data frame or a dict names the tasks. A task that is not in it has equal
        weights.
    names : sequence of str
        Names of the tasks.
    n_samples : int
        Number of rows.
    known : mapping of str to ndarray of shape (n_samples,), default=None
        Whether each target of a task is known. If not, its weight may be missing, and is 0. All weights of one of
        several tasks may then be 0. None for weights that must all be there.

    Raises
    ------
    ValueError
        If a weight is missing, negative or infinite, or a task does not exist. The message names the task and the row.

    Examples
    --------
    >>> from sktransfer.targets.table import check_task_weight
    >>> check_task_weight({"stars": [1, 0]}, ["topic", "stars"], 2)
    {'topic': array([1., 1.]), 'stars': array([1., 0.])}
    """
    if isinstance(sample_weight, Mapping) or is_frame(sample_weight):
        given = dict(sample_weight) if isinstance(sample_weight, Mapping) else _of_frame(sample_weight)[0]
        unknown = [name for name in given if name not in names]
        if unknown:
            hint = did_you_mean(str(unknown[0]), names)
            raise ValueError(f"sample_weight has {unknown[0]!r}, and the tasks are {list(names)}.{hint}")
        by_task = {name: given.get(name) for name in names}
    else:
        array = tensor_to_array(sample_weight) if is_tensor(sample_weight) else sample_weight
        shape = np.asarray(array).shape
        if len(shape) == 2 and shape[1] != len(names):
            raise ValueError(
                f"sample_weight has shape {shape}, and there are {len(names)} tasks, {list(names)}: pass one weight "
                "per row, (n_samples,), or one per row and task, (n_samples, n_tasks)"
            )
        columns = np.asarray(array).T if len(shape) == 2 else [array] * len(names)
        by_task = dict(zip(names, columns))
    weights = {}
    for name, one in by_task.items():
        try:
            given_or_zero = one if known is None else _zero_if_unknown(one, known[name])
            weights[name] = check_weight(given_or_zero, n_samples, all_zero=known is not None and len(names) > 1)
        except ValueError as error:
            if len(names) == 1:
                raise
            raise ValueError(f"weights of the task {name!r}: {error}") from error
    return weights


def _zero_if_unknown(weight: Any, known: np.ndarray) -> Any:
    """Return weights (n_samples,) with 0 in place of a missing one whose target is not known.

    Other missing weights are refused. Weights of another shape are returned as they are, for the check that follows.
    """
    if weight is None or np.asarray(weight).ndim == 0:
        return weight
    array, labels = as_array(weight, "sample_weight"), row_labels(weight)
    missing = np.asarray(pd.isna(array))  # (n_samples,)
    if missing.shape != known.shape or not missing.any():
        return weight
    rows = np.flatnonzero(missing & known)
    if len(rows):
        row, have = int(rows[0]), "has" if len(rows) == 1 else "have"
        raise ValueError(
            f"{name_row(row, label_of(labels, row), 'sample_weight')} is {array[row]}, and the target of this row is "
            f"known: {len(rows)} of {len(known)} rows {have} a target and no weight; a weight of 0 leaves out a row"
        )
    return pd.Series(np.where(missing, 0, array), index=labels)
