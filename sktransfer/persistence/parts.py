"""Parts of an estimator, with the names by which a user reaches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import Any

import numpy as np

__all__ = ["find_part_of_type", "iter_parts", "locate_part"]

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def iter_parts(obj: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each attribute or item of an object. Plain values are left out.

    Items that are tuples with a name, such as the steps of a `Pipeline`, are called by that name.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sktransfer.persistence.parts import iter_parts
    >>> list(iter_parts(make_pipeline(StandardScaler()).steps))
    [("['standardscaler']", StandardScaler())]
    """
    named: list[tuple[str, Any]] = []
    if isinstance(obj, np.ndarray):
        obj = obj.ravel().tolist() if obj.dtype == object else []
    if isinstance(obj, dict):
        named = [(f"[{key!r}]", value) for key, value in obj.items()]
    elif isinstance(obj, (list, tuple)):
        for index, item in enumerate(obj):
            if isinstance(item, tuple) and len(item) > 1 and isinstance(item[0], str):
                named += [(f"[{item[0]!r}]", value) for value in item[1:]]
            else:
                named.append((f"[{index}]", item))
    elif not isinstance(obj, type) and not callable(obj):
        named = [(f".{key}", value) for key, value in getattr(obj, "__dict__", {}).items()]
    yield from ((name, value) for name, value in named if not isinstance(value, _PLAIN))


def locate_part(obj: Any, fails: Callable[[Any], bool], is_leaf: Callable[[Any], bool]) -> tuple[str, Any]:
    """Return the innermost part of an object that still fails, and its name.

    Parameters
    ----------
    obj : object
        Object that fails.
    fails : callable
        Tells whether a part fails.
    is_leaf : callable
        Tells whether the parts of a part are not looked at.
    """
    label, seen = type(obj).__name__, {id(obj)}
    while not is_leaf(obj):
        for name, part in iter_parts(obj):
            if id(part) not in seen and fails(part):
                label, obj = label + name, part
                seen.add(id(part))
                break
        else:
            break
    return label, obj


def find_part_of_type(obj: Any, names: Set[str]) -> str | None:
    """Return the name of the first part whose type, or which itself as a function or class, has one of the names.

    Parameters
    ----------
    obj : object
        Object to search.
    names : set of str
        Names of types, functions or classes with their modules.
    """
    seen: set[int] = set()
    waiting = [(type(obj).__name__, obj)]
    while waiting:
        label, part = waiting.pop()
        named = part if hasattr(part, "__qualname__") else type(part)
        if f"{getattr(named, '__module__', '')}.{named.__qualname__}" in names:
            return label
        if id(part) not in seen:
            seen.add(id(part))
            waiting += reversed([(label + name, value) for name, value in iter_parts(part)])
    return None
