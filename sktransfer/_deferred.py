"""Objects that unpickle to a reference and are made again at their first use.

A worker process unpickles a task before it runs the task. An error there ends the worker, or makes the pool wait
without end, because the pool takes an `OSError` as the end of its pipe. A network is therefore loaded when one of its
attributes is first read, and an error is one of the code that reads it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sktransfer.config import config_context, get_config

__all__ = ["Deferred", "defer"]

T = TypeVar("T", bound="Deferred")

_lock = threading.Lock()  # held for moments only, and never while an object is made
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


@dataclass(frozen=True)
class _Recipe:
    """How a deferred object is made.

    Parameters
    ----------
    function : callable
        Returns the object.
    arguments : tuple
        Arguments of the function.
    known : mapping
        Attributes that can be read without making the object.
    places : tuple of str
        `weights_path` of the configuration in which the object was unpickled.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    known: Mapping[str, Any]
    places: tuple[str, ...]

    def make(self) -> Any:
        """Return the object. Weights are looked for in the `weights_path` of the unpickling and in the present one."""
        places = dict.fromkeys((*self.places, *get_config()["weights_path"]))
        with config_context(weights_path=tuple(place for place in places if os.path.exists(place))):  # noqa: PTH110
            return self.function(*self.arguments)


class Deferred:
    """Base class of objects that unpickle to a reference.

    A subclass lists the instance attributes that its objects have. Reading one of them makes the object, once, and
    raises the errors of the function that makes it. A failed attempt is repeated at the next use.
    """

    _ATTRIBUTES: ClassVar[frozenset[str]]
    _recipe: _Recipe | None = None
    _made: Any = None  # the object whose attributes these are, which others share as long as it is in use

    if not TYPE_CHECKING:  # type checkers would take every attribute for one that exists

        def __getattr__(self, name: str) -> Any:
            """Make the object when an attribute is missing that the object has."""
            if name not in type(self)._ATTRIBUTES:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            if (recipe := self._recipe) is not None:
                made = recipe.make()
                with _lock:
                    if self._recipe is not None:  # of threads that ask at once, the first one's object is kept
                        vars(self).update(vars(made), _recipe=None, _made=made)
            try:
                return vars(self)[name]
            except KeyError:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def _reference(self) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
        """Return what `__reduce__` returns for an object that is not made yet, None for one that is."""
        recipe = self._recipe
        return None if recipe is None else (defer, (type(self), recipe.function, recipe.arguments, recipe.known))

    def _plain_state(self) -> dict[str, Any]:
        """Return the attributes of the object itself."""
        return {name: value for name, value in vars(self).items() if name not in ("_recipe", "_made")}


def defer(cls: type[T], function: Callable[..., T], arguments: tuple[Any, ...], known: Mapping[str, Any]) -> T:
    """Return a reference to an object that is made at its first use.

    Parameters
    ----------
    cls : type
        Class of the object.
    function : callable
        Returns the object.
    arguments : tuple
        Arguments of the function.
    known : mapping of str to object
        Attributes that can be read without making the object.
    """
    deferred = cls.__new__(cls)
    vars(deferred).update(known, _recipe=_Recipe(function, arguments, known, get_config()["weights_path"]))
    return deferred
