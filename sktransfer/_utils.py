"""Small helpers: paths, restoring estimators after a failed fit, progress bars."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

__all__ = ["all_or_nothing", "local_path", "progress"]


def local_path(given: str | os.PathLike[str]) -> Path:
    """Return a path with a leading "~" or "~user" expanded if the user exists.

    Parameters
    ----------
    given : str or path
        Path as given by a user.

    Examples
    --------
    >>> from sktransfer._utils import local_path
    >>> str(local_path("~unknown user/model"))
    '~unknown user/model'
    """
    path = Path(given)
    with suppress(RuntimeError, ValueError):  # unknown user, or not a valid name
        return path.expanduser()
    return path


Method = TypeVar("Method", bound=Callable[..., Any])


def all_or_nothing(method: Method) -> Method:
    """Decorate a `fit` method to restore the estimator's attributes if it raises, also by Ctrl-C.

    The estimator is then fitted as before the call, or not fitted. Attribute values are not copied, because `fit`
    replaces them by new objects.

    Parameters
    ----------
    method : callable
        Method of an estimator.

    Examples
    --------
    >>> from sktransfer._utils import all_or_nothing
    >>> class Model:
    ...     @all_or_nothing
    ...     def fit(self, X):
    ...         self.n_ = len(X)
    ...         self.mean_ = sum(X) / self.n_
    ...         return self
    >>> model = Model().fit([1, 2, 3])
    >>> try:
    ...     model.fit([])
    ... except ZeroDivisionError:
    ...     print(vars(model))
    {'n_': 3, 'mean_': 2.0}
    """

    @functools.wraps(method)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = dict(vars(self))
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return fit  # type: ignore[return-value]


def progress(n: int, title: str, unit: str, verbose: int) -> Any:
    """Return a progress bar on stderr, as a context manager with an `update` method.

    Parameters
    ----------
    n : int
        Number of samples.
    title : str
        Text before the bar.
    unit : str
        Unit of the samples.
    verbose : int
        Verbosity of the estimator. 0 shows no bar.
    """
    return tqdm(total=n, desc=title, unit=unit, file=sys.stderr, disable=not verbose)
