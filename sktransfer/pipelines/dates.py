"""Dates as numbers."""

from __future__ import annotations

from typing import Any, Self

import narwhals as nw
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.columns import empty_error, is_frame, is_missing, quoted

__all__ = ["DateFeatures"]

_PERIODS = {"year": 365.2425, "week": 7.0, "day": 1.0}  # days


class DateFeatures(TransformerMixin, BaseEstimator):
    """Turn columns of dates into numbers for a linear model.

    Each column gives seven numbers: the days since 1970, and the sine and cosine of the time of the year, of the week
    and of the day. Missing dates give rows of NaN. Dates without a time zone are read as UTC.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer import DateFeatures
    >>> table = pd.DataFrame({"sold": ["1970-01-02", "1970-01-08 12:00"]})
    >>> features = DateFeatures().set_output(transform="pandas").fit_transform(table)
    >>> features.iloc[:, :2].round(2).values.tolist()
    [[1.0, 0.02], [7.5, 0.13]]
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the dates, and store the names of the columns.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)
            Dates, or texts in ISO format such as "2024-05-31 12:00".
        y : ignored
            Present because scikit-learn passes it.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidSampleError
            If a cell is not a date.
        ValueError
            If X is not a DataFrame, or is empty.
        """
        _numbers(X)  # before anything is stored
        validate_data(self, X, reset=True, skip_check_array=True)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the numbers of dates.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)
            Dates, or texts in ISO format.

        Returns
        -------
        features : ndarray of shape (n_samples, 7 * n_columns), float64

        Raises
        ------
        InvalidSampleError
            If a cell is not a date.
        ValueError
            If X is not a DataFrame, is empty, or has other columns than in `fit`.
        """
        check_is_fitted(self)
        validate_data(self, X, reset=False, skip_check_array=True)
        return _numbers(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features.

        Parameters
        ----------
        input_features : ignored
            Present because scikit-learn passes it.

        Returns
        -------
        names : ndarray of str, object
            The name of the column, with "_days", "_year_sin", "_year_cos" and so on.
        """
        check_is_fitted(self)
        waves = [f"{period}_{wave}" for period in _PERIODS for wave in ("sin", "cos")]
        return np.array([f"{name}_{one}" for name in self.feature_names_in_ for one in ("days", *waves)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = True
        tags.input_tags.two_d_array = False  # columns of dates have names
        return tags


def _numbers(X: Any) -> np.ndarray:
    """Return the numbers of the dates of a frame (n_samples, 7 * n_columns)."""
    if not is_frame(X):
        raise ValueError(
            f"X is of type {type(X).__name__}, and dates come as a DataFrame, whose columns have names: "
            'pandas.DataFrame(X, columns=["sold"])'
        )
    if 0 in X.shape:
        raise empty_error(X.shape)
    frame = nw.from_native(X, eager_only=True)
    columns = [_features(_days(frame[name].to_list(), name)) for name in frame.columns]
    return np.hstack(columns)  # (n_samples, 7 * n_columns)


def _days(values: list[Any], name: str) -> np.ndarray:
    """Return the days since 1970 of dates (n_samples,), NaN for missing ones."""
    dates = [None if is_missing(value) else value for value in values]
    times = pd.to_datetime(pd.Series(dates, dtype=object), utc=True, errors="coerce", format="ISO8601")
    wrong = [row for row, date in enumerate(dates) if date is not None and times.isna().iloc[row]]
    if wrong:
        raise InvalidSampleError(
            wrong[0],
            f"column {name!r} holds {quoted(dates[wrong[0]], 60)}, which is no date in ISO format, such as 2024-05-31 "
            f"or 2024-05-31 12:00. Convert the column, X[{name!r}] = pandas.to_datetime(X[{name!r}], format=...)",
        )
    days: np.ndarray = ((times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(np.float64)
    return days


def _features(days: np.ndarray) -> np.ndarray:
    angles = [2 * np.pi * days / period for period in _PERIODS.values()]
    return np.column_stack([days, *(wave(angle) for angle in angles for wave in (np.sin, np.cos))])  # (n_samples, 7)
