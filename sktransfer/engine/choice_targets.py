"""Targets of a choice of layers: labels, indicators or numbers as a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from sktransfer.samples.arrays import tensor_to_array
from sktransfer.samples.columns import is_tensor, quoted
from sktransfer.samples.labels import named_row

__all__ = ["ChoiceTargets"]

# Whole numbers are labels unless they have many values, and few samples each.
_MANY_VALUES, _FEW_SAMPLES = 20, 5


@dataclass(frozen=True)
class ChoiceTargets:
    """Targets that layers are chosen by.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_outputs), float64
        One-hot labels, indicators, or numbers of variance 1.
    n_classes : int or None
        Number of classes, 2 for indicators; None for numbers.

    Examples
    --------
    >>> from sktransfer.engine.choice_targets import ChoiceTargets
    >>> ChoiceTargets.of(["a", "b", "a"]).values.tolist(), ChoiceTargets.of([0.5, 2.5]).n_classes
    ([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], None)
    """

    values: np.ndarray
    n_classes: int | None

    @classmethod
    def of(cls, y: Any, target: str = "auto", *, remedy: str = ", or set layer=-1") -> Self:
        """Return the targets that y holds, one kind per column.

        Numbers are those with a fraction, and whole numbers of more than 20 values with fewer than 5 samples each in
        the mean. Everything else is labels.

        Parameters
        ----------
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels of any type, indicators or numbers.
        target : {"auto", "classes", "numbers"}, default="auto"
            What y holds. "auto" decides by the values.
        remedy : str, default=", or set layer=-1"
            What to do instead of leaving a sample out, for the message about a missing target.

        Raises
        ------
        ValueError
            If y has another shape, a value is missing, or a label is no number although `target="numbers"`.
        """
        given = y
        y = tensor_to_array(y) if is_tensor(y) else y.toarray() if issparse(y) else y
        matrix = np.asarray(y)
        if matrix.ndim not in (1, 2) or (matrix.ndim == 2 and matrix.shape[1] == 0):
            raise ValueError(
                f"y has shape {matrix.shape}; layer='auto' takes one target or one row of targets per sample, and "
                "layer=-1 ignores y"
            )
        columns = list(matrix.reshape(len(matrix), -1).T)
        for column in columns:
            missing = np.flatnonzero(pd.isna(column))
            if 0 < len(missing) == len(column):
                raise ValueError(
                    "y: no target is known, so that layer='auto' has nothing to choose layers by; leave y out, or set "
                    "layer=-1"
                )
            if len(missing):
                where = named_row(given, int(missing[0]))
                raise ValueError(f"y: the target of {where} is missing; leave the sample out{remedy}")
        if target == "numbers":
            return cls.of_numbers(np.stack([_checked_floats(column, given) for column in columns], axis=1))
        numbers = [None if target == "classes" else _numbers(column) for column in columns]
        if any(one is not None for one in numbers):  # a column of whole numbers among others with fractions is numbers
            values = np.stack([_as_floats(column) for column in columns], axis=1)  # (n_samples, n_outputs)
            return cls.of_numbers(values)
        encoded = [pd.factorize(column)[0] for column in columns]  # n_outputs of (n_samples,)
        n_classes = max(2, *(int(codes.max(initial=0)) + 1 for codes in encoded))
        return cls(np.concatenate([_one_hot(codes) for codes in encoded], axis=1), n_classes)

    @classmethod
    def of_classes(cls, codes: np.ndarray) -> Self:
        """Return the targets of class indices, for the classes that there are.

        Parameters
        ----------
        codes : ndarray of shape (n_samples,) of int
            Class indices.
        """
        present, codes = np.unique(codes, return_inverse=True)
        return cls(_one_hot(codes), max(2, len(present)))

    @classmethod
    def of_numbers(cls, values: np.ndarray) -> Self:
        """Return the targets of numbers.

        Parameters
        ----------
        values : ndarray of shape (n_samples, n_outputs)
            Numbers in any units.
        """
        deviation = values.std(0)  # (n_outputs,)
        return cls((values - values.mean(0)) / np.where(deviation > 0, deviation, 1.0), None)

    @property
    def are_equal(self) -> bool:
        """Whether all samples have the same targets."""
        return bool((self.values == self.values[:1]).all())

    def take(self, rows: Any) -> ChoiceTargets:
        """Return the targets of some rows.

        Parameters
        ----------
        rows : ndarray of int or bool
            Rows to take.
        """
        return ChoiceTargets(self.values[rows], self.n_classes)


def _one_hot(codes: np.ndarray) -> np.ndarray:
    encoded: np.ndarray = (codes[:, None] == np.arange(codes.max(initial=0) + 1)).astype(np.float64)
    return encoded  # (n_samples, n_classes)


def _numbers(column: np.ndarray) -> np.ndarray | None:
    """Return a column as numbers, or None if it holds labels."""
    if column.dtype.kind not in "fiuO" or (column.dtype == object and not all(_is_number(one) for one in column)):
        return None
    values: np.ndarray = column.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("y holds an infinite value")
    n_values = len(np.unique(values))
    is_whole = bool((values == np.round(values)).all())
    if is_whole and (n_values <= _MANY_VALUES or len(values) >= _FEW_SAMPLES * n_values):
        return None
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _checked_floats(column: np.ndarray, y: Any) -> np.ndarray:
    """Return the numbers of a column of y, which must have nothing else."""
    for row, value in enumerate(column):
        if not isinstance(value, (Real, np.bool_)) and type(value).__name__ != "Decimal":
            raise ValueError(
                f"y: the target of {named_row(y, row)} is {quoted(value, 60)}, and target='numbers' takes numbers; "
                "leave target='auto', or convert y"
            )
    numbers: np.ndarray = column.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("y holds an infinite value")
    return numbers


def _as_floats(column: np.ndarray) -> np.ndarray:
    try:
        numbers: np.ndarray = column.astype(np.float64)
    except (TypeError, ValueError):  # labels next to numbers
        numbers = pd.factorize(column)[0].astype(np.float64)
    return numbers
