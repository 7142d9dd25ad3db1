"""Rows of numbers as texts, so that scikit-learn's own checks run on estimators of texts."""

from __future__ import annotations

import functools
import string
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["render_rows", "rows_as_texts"]

# Methods of scikit-learn's estimators that take X.
_FITTING = ("fit", "fit_predict", "fit_transform")
_METHODS = (
    *_FITTING,
    "decision_function",
    "partial_fit",
    "predict",
    "predict_log_proba",
    "predict_proba",
    "score",
    "score_samples",
    "transform",
)
_inside: ContextVar[bool] = ContextVar("inside", default=False)


def rows_as_texts(estimator: BaseEstimator) -> Any:
    """Return an estimator of texts as one that takes rows of numbers, for scikit-learn's checks.

    scikit-learn's checks pass matrices of numbers, so that they skip estimators of texts. The returned estimator
    renders each row as a sentence and passes it to the methods of the estimator. All else is the estimator's own:
    parameters, tags, y, sample weights and results. Checks of X itself test the bridge. `check_transfer_estimator` has
    those for texts.

    Parameters
    ----------
    estimator : estimator
        Unfitted estimator of texts. Its parameters are kept.

    Returns
    -------
    bridge : estimator
        An instance of a subclass of the estimator's class. Its tag `poor_score` is set for regressors, because
        sentences keep few digits of a number.

    See Also
    --------
    check_transfer_estimator : Checks of estimators of images and texts.

    Examples
    --------
    >>> from sklearn.utils.estimator_checks import parametrize_with_checks
    >>> from sktransfer import TextFeaturizer
    >>> from sktransfer.testing import rows_as_texts
    >>> @parametrize_with_checks([rows_as_texts(TextFeaturizer())])
    ... def test_scikit_learn_checks(estimator, check):
    ...     check(estimator)
    >>> rows_as_texts(TextFeaturizer()).fit_transform([[1.5, -2.0], [3.0, 0.0]]).shape[0]
    2
    """
    base: Any = type(estimator)
    return _bridge_class(base)(**estimator.get_params(deep=False))


def render_rows(X: np.ndarray) -> list[str]:
    """Return one sentence per row, with one word per column that tells the column and the number to half a unit.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
        Numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.testing.row_bridge import render_rows
    >>> render_rows(np.array([[0.0, 1.5], [-2.0, 100.0]]))
    ['w0n w1q', 'w0j w1z']
    """
    letters = np.clip(np.asarray(X) * 2 + 13, 0, 25).astype(int)  # (n_samples, n_columns)
    return [" ".join(f"w{column}{string.ascii_lowercase[i]}" for column, i in enumerate(row)) for row in letters]


@functools.cache
def _bridge_class(base: Any) -> Any:
    class Bridge(base):  # type: ignore[misc]
        """Estimator of texts that takes rows of numbers."""

        def __sklearn_tags__(self) -> Tags:
            tags = super().__sklearn_tags__()
            tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
            if tags.regressor_tags is not None:
                tags.regressor_tags.poor_score = True
            return tags

        def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
            return _rebuild, (base, super().__reduce_ex__(2)[2])

    Bridge.__name__ = Bridge.__qualname__ = f"{base.__name__}OfRows"
    Bridge.__module__ = base.__module__
    methods = {name: _rendering(base, name) for name in _METHODS if hasattr(base, name)}
    # The class is made anew, because scikit-learn looks for methods, and wraps some, when a class is made.
    return type(Bridge.__name__, (Bridge,), {**methods, "__module__": base.__module__, "__doc__": base.__doc__})


def _rebuild(base: type, state: dict[str, Any]) -> Any:
    bridge = object.__new__(_bridge_class(base))
    bridge.__setstate__(state)
    return bridge


def _rendering(base: Any, name: str) -> Any:
    """Return a method that passes sentences to the method of the class, unless the estimator itself calls it."""
    plain = getattr(base, name)

    def is_available(self: Any) -> bool:
        return hasattr(super(_bridge_class(base), self), name)

    @functools.wraps(plain)
    def method(self: Any, X: Any, *args: Any, **options: Any) -> Any:
        own: Callable[..., Any] = getattr(super(_bridge_class(base), self), name)
        if _inside.get():
            return own(X, *args, **options)
        resets = name in _FITTING or not hasattr(self, "n_features_in_")
        if name not in (*_FITTING, "partial_fit") and self.__sklearn_tags__().requires_fit:
            check_is_fitted(self)
        rows = validate_data(self, X, reset=resets, dtype=np.float64)
        columns = {key: vars(self)[key] for key in ("n_features_in_", "feature_names_in_") if key in vars(self)}
        token = _inside.set(True)
        try:
            result = own(render_rows(rows), *args, **options)
        finally:
            _inside.reset(token)
        vars(self).update(columns)  # those of the rows
        return result

    return available_if(is_available)(method)
