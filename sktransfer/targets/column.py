"""Columns of the targets of several tasks: known values, their kind, and the form of their predictions."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

from sktransfer._validation import require_field
from sktransfer.exceptions import LoadError, TargetWarning
from sktransfer.tasks.base import Task
from sktransfer.tasks.classification import ClassWeight, Multiclass, MultilabelIndicator
from sktransfer.tasks.continuous import Continuous
from sktransfer.tasks.criterion import Criterion
from sktransfer.tasks.merged import MergedMulticlass, sources_of

__all__ = ["BOXES", "CELLS", "KINDS", "LIBRARIES", "Column", "ColumnForm"]

KINDS = ("multiclass", "continuous", "multilabel-indicator")
CELLS = {
    "scalars": "one value per row",
    "matrix": "several columns",
    "frame": "several columns",
    "vectors": "a list or vector per row",
    "labels": "a list of labels per row",
}
LIBRARIES = ("", "pandas", "polars", "pyarrow", "modin", "cudf")  # of data frames and Series; "" for other containers
BOXES = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "ndarray": np.ndarray}


@dataclasses.dataclass(frozen=True)
class ColumnForm:
    """Form of a column's values, which its predictions have.

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
        if self.cells not in ("vectors", "labels"):
            return predictions
        make = np.array if self.box == "ndarray" else BOXES[self.box]
        if self.cells == "vectors":
            return [make(row) for row in predictions.tolist()]
        assert self.labels is not None
        return [make([self.labels[position] for position in np.flatnonzero(row)]) for row in predictions]

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
        cells = require_field(state, "cells", str, tuple(CELLS))
        if (labels is None) != (cells not in ("frame", "labels")):
            raise LoadError(f"the field 'labels' does not fit cells={cells!r}")
        dtype = require_field(state, "dtype", (str, type(None)))
        box, library = require_field(state, "box", str, tuple(BOXES)), require_field(state, "library", str, LIBRARIES)
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
        the index of y has a level "merged_source", a Series with this index.
    known : ndarray of shape (n_samples,), bool
        Whether the target of each row is known.
    labels : Index or None
        Labels of the known rows in the index of y; None if it has none.
    form : ColumnForm
        Form that predictions have.
    where : str
        Expression for the column, such as "y['topic']", for messages.
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
            All classes; None for those of the targets. If they are given, data sets are taken to know all of them. Not
            used by numbers.
        """
        if self.kind == Continuous.kind:
            return Continuous(criterion)
        if self.kind != Multiclass.kind:
            make: type[Multiclass | MultilabelIndicator] = MultilabelIndicator
        elif classes is None:
            make = self._merged_or_not
        else:  # the targets need not have all classes that their data sets know
            make = Multiclass
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
        if not self.n_known:
            return np.asarray(self.values)  # there is nothing to validate
        with warnings.catch_warnings(), self.named():
            # `read_tasks` has warned of many classes, with the name of the column.
            warnings.filterwarnings("ignore", category=TargetWarning)
            return task.check(self.values)

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Add the name of the column to a ValueError that is raised in this context."""
        try:
            yield
        except ValueError as error:
            if type(error) is not ValueError:  # a subclass is about a parameter or a sample
                raise
            raise ValueError(f"{self.where}: {error}") from error
