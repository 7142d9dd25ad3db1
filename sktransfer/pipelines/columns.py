"""Base class of the transformers that turn columns of a table into numbers."""

from __future__ import annotations

from typing import Any, Self

import narwhals as nw
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer._parameters import Parameter
from sktransfer._validation import check_option
from sktransfer.exceptions import InvalidCellWarning, InvalidSampleError, warn
from sktransfer.samples.columns import empty_error, is_frame, is_missing, quoted

__all__ = ["ON_ERROR", "ColumnFeatures"]

_OPTIONS = ("raise", "warn", "nan")
ON_ERROR = Parameter(
    "on_error",
    "raise",
    '{"raise", "warn", "nan"}',
    """Handling of cells that cannot be read. "raise" raises an error that names column, row and cell. "warn" and "nan"
    count them as missing, and "warn" also reports them in one `InvalidCellWarning`. `fit` raises an error in any case
    if most cells of a column cannot be read.""",
)


class ColumnFeatures(TransformerMixin, BaseEstimator):
    """Columns as numbers. Subclasses declare what a cell is, and read the cells of a column."""

    on_error: str
    _noun: str
    _example: str

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the cells, and store the names of the columns.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)
            The cells.
        y : ignored
            Present because scikit-learn passes it.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a cell cannot be read and `on_error="raise"`, or most cells of a column cannot be read.
        ValueError
            If X is not a DataFrame, or is empty.
        """
        self._read_frame(X, fits=True)  # before anything is stored
        validate_data(self, X, reset=True, skip_check_array=True)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the numbers of the cells.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)
            The cells.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features), float64
            Missing cells give NaN.

        Raises
        ------
        InvalidSampleError
            If a cell cannot be read and `on_error="raise"`.
        ValueError
            If X is not a DataFrame, is empty, or has other columns than in `fit`.
        """
        check_is_fitted(self)
        validate_data(self, X, reset=False, skip_check_array=True)
        return self._read_frame(X)

    def _read(self, values: list[Any]) -> np.ndarray:
        """Return a number per cell (n_samples,), NaN for None and for cells that cannot be read."""
        raise NotImplementedError

    def _features(self, numbers: np.ndarray) -> np.ndarray:
        """Return the features of a column (n_samples, n_features of a column)."""
        return numbers[:, None]  # (n_samples, 1)

    def _remedy(self, name: str) -> str:
        raise NotImplementedError

    def _read_frame(self, X: Any, *, fits: bool = False) -> np.ndarray:
        """Return the features of a frame (n_samples, n_features)."""
        check_option("on_error", self.on_error, _OPTIONS)
        if not is_frame(X):
            raise ValueError(
                f"X is of type {type(X).__name__}, and {self._noun}s come as a DataFrame, whose columns have names: "
                'pandas.DataFrame(X, columns=["sold"])'
            )
        if 0 in X.shape:
            raise empty_error(X.shape)
        frame = nw.from_native(X, eager_only=True)
        columns: list[np.ndarray] = []
        unread: list[str] = []
        for name in frame.columns:
            values = [None if is_missing(value) else value for value in frame[name].to_list()]
            numbers = self._read(values)
            wrong = [row for row in np.flatnonzero(np.isnan(numbers)).tolist() if values[row] is not None]
            if wrong:
                n_present = sum(value is not None for value in values)
                where = f"{quoted(values[wrong[0]], 60)}, which is no {self._example}"
                if self.on_error == "raise" or (fits and len(wrong) > n_present / 2):
                    raise InvalidSampleError(wrong[0], f"column {name!r} holds {where}. {self._remedy(name)}")
                unread.append(f"{len(wrong)} of {n_present} in column {name!r}, the first in row {wrong[0]}: {where}")
            columns.append(self._features(numbers))
        if unread and self.on_error == "warn" and not fits:  # fit_transform reports once
            warn(f"Cells count as missing, because they cannot be read. {'. '.join(unread)}", InvalidCellWarning)
        return np.hstack(columns)  # (n_samples, n_features)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = True
        tags.input_tags.two_d_array = False  # columns have names
        return tags
