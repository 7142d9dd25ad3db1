"""Labels held against the classes that a classifier knows without having been trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import column_or_1d

from sktransfer.exceptions import InvalidParameterError, did_you_mean

__all__ = ["check_known"]


def check_known(y: Any, classes: np.ndarray, *, of: str, way: str) -> np.ndarray:
    """Return labels as an array; one that is no class would count as a mistake in every sample.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels.
    classes : ndarray of shape (n_classes,)
        What they may be.
    of : str
        What the classes are, for the message: "categories of tiny/cnn".
    way : str
        What to do about a label that is none.

    Raises
    ------
    InvalidParameterError
        If a label is no class.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.classifiers.known_labels import check_known
    >>> check_known(["b"], np.array(["a", "b"]), of="letters", way="")
    array(['b'], dtype='<U1')
    """
    labels: np.ndarray = column_or_1d(y, warn=True)
    known = set(classes.tolist())
    for label in dict.fromkeys(labels.tolist()):
        if label not in known:
            raise InvalidParameterError(
                f"y holds {label!r}, which is none of the {len(classes)} {of}.{_near(str(label), classes)} `classes_` "
                f"has all of them{way}"
            )
    return labels


def _near(label: str, classes: np.ndarray) -> str:
    """Return a hint at classes that differ in case only, else at those spelled almost so."""
    names = list(map(str, classes.tolist()))
    by_case = {name.casefold(): name for name in names}
    if label.casefold() in by_case:
        return f" Did you mean {by_case[label.casefold()]!r}?"
    return did_you_mean(label, names)
