"""Checks of the `callbacks` parameter: instances or classes of skorch callbacks, named or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.callback import FitCallback
from skorch.callbacks import Callback

from sktransfer.exceptions import InvalidParameterError

__all__ = ["check_callbacks", "is_callback_type", "unnamed"]


def unnamed(callbacks: Sequence[Any] | None) -> list[Any]:
    """Return callbacks without their names.

    Parameters
    ----------
    callbacks : sequence or None
        Callbacks of skorch, its classes, or pairs of a name and one of these.
    """
    return [item[1] if isinstance(item, (tuple, list)) and len(item) == 2 else item for item in callbacks or []]


def is_callback_type(callback: Any, *kinds: type) -> bool:
    """Return whether a callback is an instance or a subclass of some classes. skorch instantiates classes.

    Parameters
    ----------
    callback : anything
        Item of a list of callbacks.
    *kinds : type
        Classes to compare with.
    """
    return issubclass(callback, kinds) if isinstance(callback, type) else isinstance(callback, kinds)


def check_callbacks(callbacks: Any) -> None:
    """Raise unless a `callbacks` parameter is None or a list of skorch callbacks.

    Parameters
    ----------
    callbacks : anything
        Value of the parameter.

    Raises
    ------
    InvalidParameterError
        If it is not. The message names the index.
    """
    if callbacks is None:
        return
    if not isinstance(callbacks, (list, tuple)):
        raise InvalidParameterError(f"callbacks={callbacks!r} must be None or a list: callbacks=[...]")
    for index, (item, callback) in enumerate(zip(callbacks, unnamed(callbacks))):
        if is_callback_type(callback, Callback) and (item is callback or isinstance(item[0], str)):
            continue
        is_sklearns = isinstance(callback, FitCallback)
        hint = "those of scikit-learn go to set_callbacks" if is_sklearns else "derive from that class"
        raise InvalidParameterError(
            f"callbacks[{index}]={callback!r} is no callback of skorch (skorch.callbacks.Callback), with or without a "
            f"name (name, callback); {hint}"
        )
