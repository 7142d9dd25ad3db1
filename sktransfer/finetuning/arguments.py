"""Arguments of `fit`, and parameters whose values are given by task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils.validation import check_consistent_length

from sktransfer.exceptions import InvalidParameterError, ValidationWarning, did_you_mean, name_row, warn
from sktransfer.samples.columns import is_tensor
from sktransfer.samples.labels import label_of, row_labels
from sktransfer.tasks.continuous import Continuous
from sktransfer.tasks.validation import check_none_missing
from sktransfer.training.run import LRRange

__all__ = [
    "FitArguments",
    "check_classes",
    "check_groups",
    "check_known_classes",
    "check_names",
    "check_of_classes",
    "labelled_rows",
    "listed",
    "value_of",
    "warn_of_unknown",
]


@dataclasses.dataclass(frozen=True)
class FitArguments:
    """Arguments of a call of `fit` or `partial_fit`."""

    X: Any
    y: Any
    sample_weight: Any = None
    groups: Any = None
    classes: Mapping[str, np.ndarray] | None = None  # all classes by task, as the first call of partial_fit names them
    lr_range: LRRange | None = None
    X_val: Any = None
    y_val: Any = None
    sample_weight_val: Any = None
    sample_domain: Any = None

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata for scikit-learn's callbacks."""
        given = {"sample_weight": self.sample_weight, "sample_domain": self.sample_domain}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def validates(self) -> bool:
        """Whether there are validation data; an error if a part of them is missing."""
        if self.X_val is None and (self.y_val is not None or self.sample_weight_val is not None):
            raise ValueError("validation data are incomplete: pass X_val and y_val, or none of them")
        if self.X_val is not None and self.y_val is None:
            raise ValueError("X_val is given, and y_val is not: pass the targets of X_val")
        return self.X_val is not None


def check_groups(groups: Any, n_samples: int) -> np.ndarray | None:
    """Return groups as an array (n_samples,), or None if there are none.

    Parameters
    ----------
    groups : array-like of shape (n_samples,) or None
        Group of each sample.
    n_samples : int
        Number of samples.

    Raises
    ------
    ValueError
        If their number differs from that of the samples, or a group is missing.
    """
    if groups is None:
        return None
    checked = np.asarray(groups)
    check_consistent_length(range(n_samples), checked)
    check_none_missing(checked, "groups", "group", labels=row_labels(groups))
    return checked


def listed(values: Any) -> Any:
    """Return values per row, or those of each task, as lists. Values of a row may be lists of different lengths.

    Parameters
    ----------
    values : array-like or mapping of str to array-like
        Argument of `fit`.
    """
    if isinstance(values, Mapping):
        return [(name, listed(one)) for name, one in values.items()]
    try:
        return np.asarray(values).tolist()
    except ValueError:  # lists of different lengths
        return [listed(one) for one in values]


def value_of(parameter: Any, task: str) -> Any:
    """Return the value of a parameter for one task: that of its dict, or the same for all tasks.

    Parameters
    ----------
    parameter : object
        Value of the parameter.
    task : str
        Name of the task.
    """
    return parameter.get(task) if isinstance(parameter, Mapping) else parameter


def check_names(name: str, parameter: Any, tasks: Sequence[str]) -> None:
    """Raise unless the keys of a parameter that may be a dict are tasks.

    Parameters
    ----------
    name : str
        Name of the parameter.
    parameter : object
        Its value.
    tasks : sequence of str
        Names of the tasks.

    Raises
    ------
    InvalidParameterError
        If a key is no task.
    """
    for key in parameter if isinstance(parameter, Mapping) else ():
        if key not in tasks:
            hint = did_you_mean(key, tasks) if isinstance(key, str) else ""
            raise InvalidParameterError(
                f"{name} has the key {key!r}; its keys are names of tasks, which are {list(tasks)}.{hint}"
            )


def check_of_classes(class_weight: Any, label_smoothing: float, kinds: Mapping[str, str]) -> None:
    """Raise if a parameter of classes is set for tasks of numbers alone.

    Parameters
    ----------
    class_weight : object
        Weights of all tasks with classes, or a dict of those of some tasks.
    label_smoothing : float
        Share of each target that is spread over the classes, in all tasks with classes.
    kinds : mapping of str to str
        Kind of each task.

    Raises
    ------
    InvalidParameterError
        If the parameter would have no effect.
    """
    numbers = [name for name, kind in kinds.items() if kind == Continuous.kind]
    for name in numbers if isinstance(class_weight, Mapping) else ():
        if class_weight.get(name) is not None:
            raise InvalidParameterError(
                f"class_weight[{name!r}]={class_weight[name]!r} weighs classes, and the task {name!r} has numbers; "
                f"leave it out, or give tasks={{{name!r}: 'multiclass'}} for classes"
            )
    if len(numbers) < len(kinds):
        return
    for parameter, value in (("class_weight", class_weight), ("label_smoothing", label_smoothing)):
        if value and not isinstance(value, Mapping):
            raise InvalidParameterError(
                f"{parameter}={value!r} is for tasks with classes, and all tasks, {numbers}, have numbers; leave it out"
            )


def check_known_classes(
    classes: Any, known: np.ndarray | None, noun: str, *, may_be_numbers: bool = False
) -> np.ndarray:
    """Return all classes of the only task in a call of `partial_fit`.

    Parameters
    ----------
    classes : array-like or None
        Argument of `partial_fit`.
    known : ndarray or None
        Classes after the first call; None in the first call.
    noun : str
        What the classes are, in plural.
    may_be_numbers : bool, default=False
        Whether later calls may give as many numbers in place of the names of columns.

    Raises
    ------
    ValueError
        If the first call has no classes, or a later one has others.
    """
    if classes is None:
        if known is None:
            raise ValueError(f"the first call of partial_fit needs classes: all {noun} that will come")
        return known
    given: np.ndarray = np.unique(classes)
    if known is None:
        return given
    if not (may_be_numbers and len(given) == len(known)) and not np.array_equal(given, known):
        raise ValueError(f"classes={given} are not those of the first call, {known}")
    return known


def check_classes(classes: Any, known: Mapping[str, np.ndarray | None] | None) -> dict[str, np.ndarray] | None:
    """Return the classes by task that the first call of `partial_fit` names; None in a later call.

    Parameters
    ----------
    classes : dict of str to array-like, or None
        Argument of `partial_fit`.
    known : mapping of str to ndarray or None
        Classes of the tasks after the first call; None in the first call.

    Raises
    ------
    ValueError
        If the first call has no classes, or a later one has others.
    """
    if known is None and classes is None:
        raise ValueError("the first call of partial_fit needs classes: all labels that will come, by task")
    if classes is None:
        return None
    if not isinstance(classes, Mapping):
        raise ValueError(f"classes={classes!r} must be a dict of all classes by task")
    given = {name: np.unique(one) for name, one in classes.items()}
    if known is None:
        return given
    for name, one in given.items():
        if not np.array_equal(one, known.get(name)):  # type: ignore[arg-type]
            raise ValueError(f"classes[{name!r}]={one} are not those of the first call, {known.get(name)}")
    return None


def warn_of_unknown(y: Any, known: Mapping[str, np.ndarray | None], learns: Callable[[str], bool]) -> None:
    """Warn of rows whose target is not known in any task that is learned.

    Parameters
    ----------
    y : object
        Targets as given to `fit`.
    known : mapping of str to ndarray of shape (n_samples,) or None
        Whether the target of each row is known, by task.
    learns : callable
        Tells by the name of a task whether it has a weight greater than 0.

    Warns
    -----
    ValidationWarning
        If there are such rows.
    """
    learned = [one for name, one in known.items() if one is not None and learns(name)]
    unknown = np.flatnonzero(~np.any(learned, axis=0))
    if not len(unknown):
        return
    row, have = int(unknown[0]), "has" if len(unknown) == 1 else "have"
    where = name_row(row, label_of(row_labels(y), row), "y")
    scope = " in a task that is learned (of weight greater than 0)" * (not all(map(learns, known)))
    warn(
        f"{len(unknown)} of {len(learned[0])} rows {have} no known target{scope}, and the training leaves them out; "
        f"the first is {where}",
        ValidationWarning,
    )


def labelled_rows(y: Any) -> np.ndarray | None:
    """Return the rows whose target is known, or None if all are.

    Parameters
    ----------
    y : array-like or None
        Targets. None, NaN, and -1 among three or more integers are missing.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.finetuning.arguments import labelled_rows
    >>> labelled_rows(["a", None, "b"]).tolist(), labelled_rows([0, 1, -1]).tolist(), labelled_rows([-1, 1, 1])
    ([0, 2], [0, 1], None)
    """
    if y is None or is_tensor(y) or issparse(y):
        return None
    values = np.asarray(y)
    if values.ndim != 1:
        return None
    known = ~pd.isna(values)  # (n_samples,)
    if values.dtype.kind == "i" and len(np.unique(values)) > 2:
        known &= values != -1
    return None if known.all() or not known.any() else np.flatnonzero(known)
