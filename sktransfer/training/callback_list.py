"""Callbacks as users give them: instances or classes of skorch's, with names or without."""

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
    return [one[1] if isinstance(one, (tuple, list)) and len(one) == 2 else one for one in callbacks or []]


def is_callback_type(callback: Any, *kinds: type) -> bool:
    """Return whether a callback is an instance of some classes, or one of them: skorch makes the instance.

    Parameters
    ----------
    callback : anything
        What stands in a list of callbacks.
    *kinds : type
        Which classes.
    """
    return issubclass(callback, kinds) if isinstance(callback, type) else isinstance(callback, kinds)


def check_callbacks(callbacks: Any) -> None:
    """Raise where a `callbacks` parameter is no list of skorch's callbacks.

    Parameters
    ----------
    callbacks : anything
        What a user gave.

    Raises
    ------
    InvalidParameterError
        If it is none; names the place.
    """
    if callbacks is None:
        return
    if not isinstance(callbacks, (list, tuple)):
        raise InvalidParameterError(f"callbacks={callbacks!r} must be None or a list: callbacks=[...]")
    for place, (one, callback) in enumerate(zip(callbacks, unnamed(callbacks))):
        if is_callback_type(callback, Callback) and (one is callback or isinstance(one[0], str)):
            continue
        is_sklearns = isinstance(callback, FitCallback)
        way_out = "those of scikit-learn go to set_callbacks" if is_sklearns else "derive from that"
        raise InvalidParameterError(
            f"callbacks[{place}]={callback!r} is no callback of skorch (skorch.callbacks.Callback), with or without a "
            f"name (name, callback); {way_out}"
        )
