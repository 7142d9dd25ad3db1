"""Several data sets merged into one, with missing targets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from sktransfer.exceptions import InvalidParameterError, ValidationWarning, did_you_mean, warn
from sktransfer.samples.arrays import tensor_to_array
from sktransfer.samples.columns import as_column, column_names, is_frame, is_tensor, quoted
from sktransfer.samples.containers import as_list
from sktransfer.samples.labels import row_labels
from sktransfer.targets.reading import known_values
from sktransfer.targets.table import split_columns
from sktransfer.tasks.merged import SOURCE

__all__ = ["merge_tasks"]

ROW = "row"  # second level of the index
_TASK = "y"  # name of the task of labels that are merged
_MAY_BE_PATH = re.compile(r"\.\w{2,5}$")
_KIND = {"b": "bool", "i": "number", "u": "number", "f": "number"}  # of the kinds of dtypes; all others are strings
_PAIRS = "a dict from the name of each data set to a pair (X, y)"


def merge_tasks(
    sources: Mapping[str, tuple[Any, Any]],
    labels: Mapping[str, Mapping[Any, Any]] | None = None,
    *,
    task: str | None = None,
) -> tuple[Any, pd.DataFrame]:
    """Return the samples of several data sets as one X, and their targets as one y for `MultiTaskFineTuner`.

    Each data set may know other tasks. Its rows have no target in the others. Data sets may also know the same task by
    different sets of labels. It then has one head with the classes of all, and the loss of a row is a softmax over
    those that its data set knows. A class that a data set lacks is not taken to be absent from its samples.

    Parameters
    ----------
    sources : dict of str to (X, y)
        Samples and targets of each data set, by name. y is an array, a list or a Series of one task, or a data frame or
        dict with a column per task. Columns of the same name are the same task.
    labels : dict of str to dict, default=None
        New names of labels by data set, such as `{"a": {"film": "movie"}}`. Labels that are not in it keep their names.
        For a data set with several tasks, there is a dict per task: `{"a": {"topic": {"film": "movie"}}}`.
    task : str, default=None
        Name of the one task of every y that is an array, a list or a Series. None for a task per data set, with the
        name of the data set. If `labels` are given, None stands for one task "y".

    Returns
    -------
    X : list, Series, DataFrame or ndarray of n_samples
        Samples of all data sets, in their order. A list unless all data sets have the same container.
    y : DataFrame of shape (n_samples, n_tasks)
        Targets. Its index has the levels "merged_source", the name of the data set, and "row". `MultiTaskFineTuner`
        reads the data set of each row from this index. Integers are of the type Int64 of pandas, so that those with
        missing values remain integers.

    Raises
    ------
    InvalidParameterError
        If `labels` names a data set, a task or a label that does not exist.
    ValueError
        If data sets do not fit each other, or X and y of a data set have different lengths.

    Warns
    -----
    ValidationWarning
        If labels of data sets differ in case or blanks only, or a data set knows one class only of a task of several
        data sets.

    See Also
    --------
    MultiTaskKFold : Folds that keep each task, class and data set.

    Notes
    -----
    The softmax over known classes is right if a data set may have samples of a class that it does not name, for
    example because one of its labels covers several labels of another one. If the classes of all data sets exclude each
    other, a sample of one class is a negative of all others. `y.droplevel("merged_source")` then gives a softmax over
    all classes, which learns more. Both were tried on the digits of scikit-learn with `tiny/cnn`. One data set names 0
    to 4 and "rest", and a smaller one names all digits. The accuracy among the digits was 0.958 with known classes, and
    0.849 with all classes. It was 0.980 and 0.985 if one data set had the digits 0 to 6 and the other one 3 to 9, and
    0.957 and 0.984 for 0 to 4 and 5 to 9.

    The index of y alone says which data set a row is from. Selecting rows, as the folds of scikit-learn do, keeps it.
    `y.reset_index(drop=True)`, `y.to_numpy()`, `y.to_dict("list")` and a conversion to polars drop it, and the softmax
    is then over all classes.

    `predict` and `predict_proba` choose among all classes, because they do not know the data set of a sample. Where y
    names it, `scores`, `score`, `task_scorer` and the score of validation data per epoch choose among the classes that
    it knows, as the loss does. Give them `y.droplevel("merged_source")` to score predictions among all classes.

    The rows are in the order of the data sets. Folds of `KFold` without `shuffle` would leave out whole data sets, and
    `MultiTaskKFold` does not.

    Examples
    --------
    >>> from sktransfer import merge_tasks
    >>> imdb = ["a moving film", "two hours of nothing"], ["good", "bad"]
    >>> trec = ["when was it written", "where is Rome"], ["date", "place"]
    >>> X, y = merge_tasks({"imdb": imdb, "trec": trec})
    >>> y.fillna("-").reset_index()
      merged_source  row  imdb   trec
    0          imdb    0  good      -
    1          imdb    1   bad      -
    2          trec    0     -   date
    3          trec    1     -  place
    >>> shop, library = (["war and peace", "alien"], ["book", "film"]), (["emma", "thriller"], ["book", "record"])
    >>> X, y = merge_tasks({"shop": shop, "library": library}, labels={"shop": {"film": "movie"}}, task="kind")
    >>> y.kind.tolist()
    ['book', 'movie', 'book', 'record']
    """
    pairs = _check_sources(sources)
    task = _check_task(task, labels)
    given = {name: _columns(name, y, task or name) for name, (_, y) in pairs.items()}
    renames = _check_labels(labels, given)
    samples = {name: _Samples(name, X) for name, (X, _) in pairs.items()}
    n_rows = {name: len(one) for name, one in samples.items()}
    tasks = list(dict.fromkeys(column for columns in given.values() for column in columns))
    data = {}
    for column in tasks:
        parts = {name: columns[column] for name, columns in given.items() if column in columns}
        data[column] = _merge_column(column, parts, renames, n_rows)
    index = _index(pairs, n_rows)
    Y = pd.DataFrame({column: pd.Series(values, index=index) for column, values in data.items()}, index=index)
    return _merge_samples(samples, index), Y


def _check_sources(sources: Any) -> dict[str, tuple[Any, Any]]:
    if not isinstance(sources, Mapping) or not sources:
        raise ValueError(f"sources is {quoted(sources, 80)}; it must be {_PAIRS}")
    for name, pair in sources.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"sources has the key {name!r}; names of data sets are strings that are not empty")
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError(f"sources[{name!r}] is a {type(pair).__name__}; sources must be {_PAIRS}")
        if pair[1] is None:
            raise ValueError(f"y of {name!r} is None: leave the data set out, or give its targets")
    return {name: (pair[0], pair[1]) for name, pair in sources.items()}


def _check_task(task: Any, labels: Any) -> str | None:
    if task is not None and (not isinstance(task, str) or not task):
        raise InvalidParameterError(f"task={task!r} must be the name of a task, or None")
    return _TASK if task is None and labels is not None else task


def _columns(source: str, y: Any, name: str) -> dict[str, Any]:
    """Return the columns of the y of a data set by task."""
    where = f"y of {source!r}"
    if isinstance(y, Mapping) or (is_frame(y) and len(column_names(y)) != 0):
        try:
            return split_columns(y)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if is_tensor(y):
        y = tensor_to_array(y)
    if isinstance(y, np.ndarray) and y.ndim == 2 and y.shape[1] > 1:
        y = list(y)  # a vector per row
    return {name: y}


def _check_labels(labels: Any, given: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], dict[Any, Any]]:
    """Return the new names of labels by data set and task."""
    if labels is None:
        return {}
    if not isinstance(labels, Mapping):
        raise InvalidParameterError(f"labels={labels!r} must be a dict from a data set to a dict of its labels")
    renames = {}
    for source, of_source in labels.items():
        if source not in given:
            hint = did_you_mean(source, given) if isinstance(source, str) else ""
            raise InvalidParameterError(f"labels has {source!r}, and the data sets are {list(given)}.{hint}")
        if not isinstance(of_source, Mapping):
            raise InvalidParameterError(f"labels[{source!r}]={of_source!r} must be a dict from a label to its new name")
        columns = list(given[source])
        if of_source and all(isinstance(one, Mapping) for one in of_source.values()):
            for column, of_column in of_source.items():
                if column not in columns:
                    raise InvalidParameterError(
                        f"labels[{source!r}] has {column!r}, and the tasks of this data set are {columns}"
                    )
                renames[source, column] = dict(of_column)
        elif len(columns) > 1:
            raise InvalidParameterError(
                f"labels[{source!r}] renames labels, and {source!r} has the tasks {columns}: give a dict per task, "
                f"labels={{{source!r}: {{{columns[0]!r}: {dict(of_source)!r}}}}}"
            )
        else:
            renames[source, columns[0]] = dict(of_source)
    return renames


def _merge_column(
    column: str,
    parts: Mapping[str, Any],
    renames: Mapping[tuple[str, str], Mapping[Any, Any]],
    n_rows: Mapping[str, int],
) -> Any:
    """Return the targets of a task in all rows, of a type of pandas with missing values."""
    merged = np.empty(sum(n_rows.values()), dtype=object)  # (n_samples,), None
    known = np.zeros(len(merged), dtype=bool)  # (n_samples,)
    own: dict[str, np.ndarray] = {}
    start = 0
    for source, n in n_rows.items():
        if source in parts:
            where = f"y of {source!r}" if len(parts) == 1 or column == _TASK else f"{column!r} of {source!r}"
            values, of_source = known_values(parts[source], where, row_labels(parts[source]))
            if len(of_source) != n:
                raise ValueError(f"X of {source!r} has {n} samples, and {where} has {len(of_source)}")
            own[source] = _renamed(values, renames.get((source, column), {}), where)
            known[start : start + n] = of_source
            merged[start : start + n][of_source] = _as_objects(own[source])
        start += n
    if len(own) > 1:
        _compare(column, own)
    kinds = {values.dtype.kind for values in own.values() if len(values)}
    if kinds <= {"i", "u", "b", "f"} and (len(kinds) == 1 or "b" not in kinds):
        dtype = "boolean" if kinds == {"b"} else "Int64" if kinds and kinds <= {"i", "u"} else np.float64
        missing = np.nan if dtype is np.float64 else pd.NA
        return pd.array(np.where(known, merged, missing), dtype=dtype)
    return merged


def _renamed(values: np.ndarray, names: Mapping[Any, Any], where: str) -> np.ndarray:
    """Return labels, or collections of labels, with new names."""
    if not names:
        return values
    cells = values.tolist()
    boxed = len(cells) > 0 and _is_boxed(values)
    present = {label for one in cells for label in one} if boxed else set(cells)
    absent = next((label for label in names if label not in present), None)
    if absent is not None:
        near = did_you_mean(str(absent), [str(label) for label in present])
        raise InvalidParameterError(
            f"labels renames {absent!r}, and {where} holds {quoted(sorted(present, key=repr), 200)}.{near}"
        )
    if boxed:
        renamed = np.empty(len(values), dtype=object)  # (n_known,)
        for row, one in enumerate(cells):
            box = list if isinstance(one, np.ndarray) else type(one)
            renamed[row] = box(names.get(label, label) for label in one)
        return renamed
    new, _ = known_values([names.get(label, label) for label in cells], f"labels of {where}", None)
    return new


def _as_objects(values: np.ndarray) -> np.ndarray:
    objects = np.empty(len(values), dtype=object)  # (n_known,)
    for row, one in enumerate(values.tolist() if values.ndim == 1 else values):
        objects[row] = one
    return objects


def _compare(column: str, own: Mapping[str, np.ndarray]) -> None:
    """Raise if the labels of data sets have different types, and warn if they look alike or teach nothing."""
    sets = {source: set(values.tolist()) for source, values in own.items() if len(values) and not _is_boxed(values)}
    kinds = {source: _KIND.get(own[source].dtype.kind, "str") for source in sets}
    first = next(iter(sets), None)
    if first is None:
        return
    other = next((source for source in sets if kinds[source] != kinds[first]), None)
    if other is not None:
        one, two = (min(sets[source], key=repr) for source in (first, other))
        same = {label: match for label in sets[other] for match in sets[first] if str(label) == str(match)}
        raise ValueError(
            f"labels of the task {column!r} are of different types: {one!r} of {first!r} is of type "
            f"{type(one).__name__}, and {two!r} of {other!r} is of type {type(two).__name__}. Give those of one data "
            f"set new names, labels={{{other!r}: {_shown(same or {two: one})}}}"
        )
    if kinds[first] == "number":
        _refuse_fractions(column, own, sets)
        return  # whole numbers may be numbers or classes
    _warn_of_similar(column, sets)
    alone = next((source for source in sets if len(sets[source]) == 1), None)
    if alone is not None and len(set().union(*sets.values())) > 1:
        (only,) = sets[alone]
        warn(
            f"the data set {alone!r} knows one class only of the task {column!r}, {only!r}, and a softmax over one "
            "class learns nothing: leave the data set out, or join it with another one under one name",
            ValidationWarning,
        )


def _refuse_fractions(column: str, own: Mapping[str, np.ndarray], sets: Mapping[str, set[Any]]) -> None:
    """Raise if a data set has several ints, which are classes, and another one fractions, which are numbers."""
    whole = next((source for source in sets if own[source].dtype.kind in "iu" and len(sets[source]) > 1), None)
    parts = {source: min((one for one in sets[source] if one % 1), default=None) for source in sets}
    other = next((source for source, part in parts.items() if part is not None), None)
    if whole is not None and other is not None:
        one = min(sets[whole])
        raise ValueError(
            f"labels of the task {column!r} are of different types: {one!r} of {whole!r} is a whole number of type "
            f"int, and {parts[other]!r} of {other!r} is a fraction. If both are numbers, convert those of {whole!r} to "
            f"float. If both are classes, give those of {other!r} new names by labels. If they are "
            "different tasks, give them different names"
        )


def _is_boxed(values: np.ndarray) -> bool:
    """Return whether values are collections or vectors."""
    return values.dtype == object and isinstance(values[0], (list, tuple, set, frozenset, np.ndarray))


def _warn_of_similar(column: str, sets: Mapping[str, set[Any]]) -> None:
    """Warn of labels of different data sets that differ in case or blanks only."""
    spelling: dict[str, str] = {}
    renames: dict[str, dict[str, str]] = {}
    for source, labels in sets.items():
        for label in sorted(one for one in labels if isinstance(one, str)):
            first = spelling.setdefault(" ".join(label.casefold().replace("_", " ").replace("-", " ").split()), label)
            if first != label:
                renames.setdefault(source, {})[label] = first
    if renames:
        source, of_source = next(iter(renames.items()))
        label, first = next(iter(of_source.items()))
        every = ", ".join(f"{name!r}: {_shown(one)}" for name, one in renames.items())
        warn(
            f"labels of the task {column!r} differ in case or blanks only, such as {first!r} and {label!r} of "
            f"{source!r}. They are different classes; if they mean the same, pass labels={{{every}}}",
            ValidationWarning,
        )


def _shown(names: Mapping[Any, Any]) -> str:
    """Return new names as an expression, the first ten of many."""
    items = sorted(names.items(), key=repr)
    return "{" + ", ".join(f"{old!r}: {new!r}" for old, new in items[:10]) + (", ..." if len(items) > 10 else "") + "}"


def _index(pairs: Mapping[str, tuple[Any, Any]], n_rows: Mapping[str, int]) -> pd.MultiIndex:
    """Return the index of y: data sets, and the labels or positions of their rows."""
    rows: list[Any] = []
    for name, (X, y) in pairs.items():
        labels = row_labels(y) if row_labels(y) is not None else row_labels(X)
        rows += range(n_rows[name]) if labels is None or labels.nlevels > 1 else labels.tolist()
    return pd.MultiIndex.from_arrays([np.repeat(list(n_rows), list(n_rows.values())), rows], names=[SOURCE, ROW])


class _Samples:
    """Samples of one data set.

    Parameters
    ----------
    name : str
        Name of the data set.
    X : object
        Samples as given by the user.
    """

    def __init__(self, name: str, X: Any) -> None:
        self.name = name
        X = tensor_to_array(X) if is_tensor(X) else X
        try:
            self.X = as_list(X, "sample")
            self.is_table = is_frame(self.X) and len(column_names(self.X)) != 1
            stacked = isinstance(self.X, np.ndarray) and (self.X.ndim > 2 or (self.X.ndim == 2 and self.X.shape[1] > 1))
            self.rows: Sequence[Any] = self.X if stacked or self.is_table else as_column(self.X, "sample")
        except ValueError as error:
            raise ValueError(f"X of {name!r}: {error}") from error
        self.is_flat = self.is_table or (stacked and self.X.ndim == 2)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def modality(self) -> str:
        """Kind of the samples, as the first of them shows it: "image", "text", or "" for a text that may be a path."""
        if self.is_flat or not len(self.rows):
            return "image"
        first = self.rows[0]
        if isinstance(first, str):
            return "" if _MAY_BE_PATH.search(first) else "text"
        return "" if isinstance(first, PurePath) else "image"

    @property
    def described(self) -> str:
        """Container, for messages."""
        if isinstance(self.X, np.ndarray):
            return f"an array of shape {self.X.shape} and dtype {self.X.dtype}"
        return f"a {type(self.X).__name__} of {len(self)} samples"


def _merge_samples(samples: Mapping[str, _Samples], index: pd.MultiIndex) -> Any:
    """Return all samples in the container that the data sets share, or as a list."""
    every = list(samples.values())
    first = every[0]
    for other in every[1:]:
        if {first.modality, other.modality} >= {"image", "text"}:
            raise ValueError(
                f"X of {first.name!r} holds {_plural(first)}, and X of {other.name!r} {_plural(other)}; one backbone "
                "reads one of them"
            )
        if first.is_flat != other.is_flat or (first.is_flat and not _same_rows(first, other)):
            raise ValueError(
                f"X of {first.name!r} is {first.described}, and X of {other.name!r} {other.described}; flat rows of "
                "pixels have the same columns and type in all data sets: reshape them to images, (n, height, width)"
            )
    arrays = [one.X for one in every]
    if all(isinstance(one, np.ndarray) and one.ndim == 1 for one in arrays):
        return np.concatenate([one.astype(object) for one in arrays])
    if all(isinstance(one, np.ndarray) for one in arrays) and len({(one.shape[1:], one.dtype) for one in arrays}) == 1:
        return np.concatenate(arrays)
    if all(isinstance(one, pd.Series) for one in arrays):
        return pd.concat(arrays, ignore_index=True).set_axis(index)
    if all(isinstance(one, pd.DataFrame) and list(one.columns) == list(arrays[0].columns) for one in arrays):
        return pd.concat(arrays, ignore_index=True).set_axis(index)
    if first.is_table:
        return nw.concat([nw.from_native(one, eager_only=True) for one in arrays]).to_native()
    return [row for one in every for row in one.rows]


def _plural(one: _Samples) -> str:
    return "texts" if one.modality == "text" else "images"


def _same_rows(one: _Samples, other: _Samples) -> bool:
    if one.is_table or other.is_table:
        same_names = one.is_table and other.is_table and column_names(one.X) == column_names(other.X)
        return same_names and type(one.X) is type(other.X)
    return bool(one.X.shape[1:] == other.X.shape[1:] and one.X.dtype == other.X.dtype)
