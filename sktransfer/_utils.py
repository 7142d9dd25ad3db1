"""Paths as users write them."""

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
    """Return a path, "~" and "~user" in front of it replaced by a home folder where there is such a user.

    Parameters
    ----------
    given : str or path
        As a user wrote it.

    Examples
    --------
    >>> from sktransfer._utils import local_path
    >>> str(local_path("~nobody of that name/model"))
    '~nobody of that name/model'
    """
    path = Path(given)
    with suppress(RuntimeError, ValueError):  # nobody of that name, or no name at all
        return path.expanduser()
    return path


Method = TypeVar("Method", bound=Callable[..., Any])


def all_or_nothing(method: Method) -> Method:
    """Decorate a `fit` that, where it raises, be it by Ctrl-C, gives the estimator back the attributes it had.

    It is then as usable as before: fitted as by the last fit that ended, or not fitted. What attributes hold is not
    copied, for a fit puts new objects in their place.

    Parameters
    ----------
    method : callable
        Takes the estimator first.

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


def progress(n: int, what: str, unit: str, verbose: int) -> Any:
    """Return a bar to be used as a context, whose `update` shows nothing where `verbose` is 0.

    Parameters
    ----------
    n : int
        How many samples there are.
    what : str
        Stands in front of the bar.
    unit : str
        What is counted.
    verbose : int
        As an estimator's.
    """
    return tqdm(total=n, desc=what, unit=unit, file=sys.stderr, disable=not verbose)
