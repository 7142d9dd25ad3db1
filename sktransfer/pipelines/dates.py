"""Dates as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sktransfer._parameters import with_parameters
from sktransfer.pipelines.columns import ON_ERROR, ColumnFeatures

__all__ = ["DateFeatures"]

_PERIODS = {"year": 365.2425, "week": 7.0, "day": 1.0}  # days


@with_parameters(ON_ERROR, n_positional=0)
class DateFeatures(ColumnFeatures):
    """Turn columns of dates into numbers for a linear model.

    Each column gives seven numbers: the days since 1970, and the sine and cosine of the time of the year, of the week
    and of the day. Missing dates give NaN. Dates without a time zone are read as UTC. Texts must be in ISO format, such
    as "2024-05-31 12:00".

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns.

    See Also
    --------
    NumberFeatures : Turns columns of texts that hold numbers into numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer import DateFeatures
    >>> table = pd.DataFrame({"sold": ["1970-01-02", "1970-01-08 12:00"]})
    >>> features = DateFeatures().set_output(transform="pandas").fit_transform(table)
    >>> features.iloc[:, :2].round(2).values.tolist()
    [[1.0, 0.02], [7.5, 0.13]]
    """

    _noun, _example = "date", "date in ISO format, such as 2024-05-31 or 2024-05-31 12:00"

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

    def _read(self, values: list[Any]) -> np.ndarray:
        """Return the days since 1970 of dates (n_samples,)."""
        times = pd.to_datetime(pd.Series(values, dtype=object), utc=True, errors="coerce", format="ISO8601")
        days: np.ndarray = ((times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(np.float64)
        return days

    def _features(self, numbers: np.ndarray) -> np.ndarray:
        angles = [2 * np.pi * numbers / period for period in _PERIODS.values()]
        waves = (wave(angle) for angle in angles for wave in (np.sin, np.cos))
        return np.column_stack([numbers, *waves])  # (n_samples, 7)

    def _remedy(self, name: str) -> str:
        return f"Convert the column, X[{name!r}] = pandas.to_datetime(X[{name!r}], format=...)"
