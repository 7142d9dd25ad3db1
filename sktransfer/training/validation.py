"""Values that belong to samples, one a row."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["check_none_missing"]


def check_none_missing(values: np.ndarray, name: str, what: str) -> None:
    """Raise where a row has no value: None, NaN or pandas' NA.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        Of any kind.
    name, what : str
        The parameter, and what one of its values is.

    Raises
    ------
    ValueError
        If one is missing; names the first row.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.training.validation import check_none_missing
    >>> check_none_missing(np.array(["up", None], dtype=object), "y", "label")
    Traceback (most recent call last):
        ...
    ValueError: y[1] is None: 1 of 2 samples has no label; leave such samples out
    """
    rows = np.flatnonzero(pd.isna(values))
    if len(rows):
        have = "has" if len(rows) == 1 else "have"
        raise ValueError(
            f"{name}[{rows[0]}] is {values[rows[0]]!r}: {len(rows)} of {len(values)} samples {have} no {what}; leave "
            "such samples out"
        )
