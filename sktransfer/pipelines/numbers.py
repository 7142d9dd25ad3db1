"""Columns of numbers, some of whose cells may be something else."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import OneToOneFeatureMixin

from sktransfer._parameters import with_parameters
from sktransfer.pipelines.columns import ON_ERROR, ColumnFeatures

__all__ = ["NumberFeatures"]


@with_parameters(ON_ERROR, n_positional=0)
class NumberFeatures(OneToOneFeatureMixin, ColumnFeatures):
    """Turn columns of numbers, or of texts that hold numbers, into float64.

    Missing cells give NaN. The cells of a column may be of several types.

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
    DateFeatures : Turns columns of dates into numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer import NumberFeatures
    >>> table = pd.DataFrame({"size": ["1.5", "?", None], "rooms": [3, 2, 4]})
    >>> NumberFeatures(on_error="nan").fit_transform(table).tolist()
    [[1.5, 3.0], [nan, 2.0], [nan, 4.0]]
    """

    _noun, _example = "number", "number"

    def _read(self, values: list[Any]) -> np.ndarray:
        return np.array([_as_float(value) for value in values], dtype=np.float64)  # (n_samples,)

    def _remedy(self, name: str) -> str:
        return (
            f"Convert the column, X[{name!r}] = pandas.to_numeric(X[{name!r}], errors='coerce'), or count such cells "
            "as missing by on_error='nan'"
        )


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):  # None as well
        return float("nan")
