"""All or nothing: an estimator whose fit failed is what it was before."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["all_or_nothing"]

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
    >>> from sktransfer.rollback import all_or_nothing
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
