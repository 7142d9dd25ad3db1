"""Parameters of callbacks as parameters of the estimator: `callbacks__<name>__<parameter>`, as in skorch."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Self

from sklearn.base import BaseEstimator

from sktransfer.exceptions import InvalidParameterError
from sktransfer.training.callback_list import named, unnamed

__all__ = ["CallbackParams"]

_PREFIX = "callbacks__"


class CallbackParams(BaseEstimator):  # type: ignore[misc]
    """Mixin of estimators that have callbacks of skorch in `callbacks`.

    A callback has the name that it was given, as in `callbacks=[("es", EarlyStopping())]`, or that of its class. A grid
    searches `callbacks__es__patience`, or `callbacks__es` itself, of which None switches it off.
    """

    callbacks: Any

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters.

        Parameters
        ----------
        deep : bool, default=True
            Whether to return those of nested objects and of callbacks as well.
        """
        params: dict[str, Any] = super().get_params(deep=deep)
        for name, index in named(self.callbacks).items() if deep else ():
            callback = params[f"{_PREFIX}{name}"] = unnamed([self.callbacks[index]])[0]
            if callback is not None and not isinstance(callback, type):
                params |= {f"{_PREFIX}{name}__{key}": value for key, value in callback.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also of callbacks.

        Parameters
        ----------
        **params
            Values by name, such as `lr=1e-4` or `callbacks__es__patience=3`.

        Raises
        ------
        InvalidParameterError
            If there is no callback of this name.
        ValueError
            If there is no such parameter.
        """
        super().set_params(**{name: value for name, value in params.items() if not name.startswith(_PREFIX)})
        nested: dict[str, dict[str, Any]] = defaultdict(dict)
        for key, value in params.items():
            name, is_nested, parameter = key.removeprefix(_PREFIX).partition("__")
            if key.startswith(_PREFIX) and is_nested:
                nested[name][parameter] = value
            elif key.startswith(_PREFIX):
                self._replace_callback(name, value)
        for name, values in nested.items():
            self._set_callback(name, values)
        return self

    def _set_callback(self, name: str, values: dict[str, Any]) -> None:
        """Set parameters of a callback. A class becomes an instance with them."""
        callback = unnamed([self.callbacks[self._callback_index(name)]])[0]
        if callback is None:
            raise InvalidParameterError(f"{_PREFIX}{name} is None, so it has no parameter {min(values)!r} to set")
        if isinstance(callback, type):
            self._replace_callback(name, callback(**values))
        else:
            callback.set_params(**values)

    def _replace_callback(self, name: str, callback: Any) -> None:
        """Replace a callback in a copy of the list, which other estimators may share."""
        index, replaced = self._callback_index(name), list(self.callbacks)
        is_named = unnamed([replaced[index]])[0] is not replaced[index]
        replaced[index] = (name, callback) if is_named or callback is None else callback
        self.callbacks = replaced

    def _callback_index(self, name: str) -> int:
        known = named(self.callbacks)
        if name not in known:
            raise InvalidParameterError(
                f"{_PREFIX}{name}: there is no callback {name!r} in callbacks={self.callbacks!r}; known names are "
                f"{list(known)}. Give it a name, as in callbacks=[('es', EarlyStopping())]"
            )
        return known[name]
