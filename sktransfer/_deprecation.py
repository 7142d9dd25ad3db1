"""Deprecations: what is renamed or removed works for two more minor versions, with a warning that names the new way.

`sklearn.utils.deprecated` covers functions and classes only, and its warning points into scikit-learn instead of the
user's line.
"""

from __future__ import annotations

import inspect
from typing import Any

from sktransfer.exceptions import DeprecatedWarning, InvalidParameterError, warn

__all__ = ["DEPRECATED", "deprecate", "removal", "renamed_name", "renamed_parameter"]

DEPRECATED = "deprecated"  # default of a parameter that has another name now
MINOR_VERSIONS = 2  # in which a deprecated thing still works


def removal(since: str) -> str:
    """Return the version that removes what a version deprecates.

    Parameters
    ----------
    since : str
        Version that deprecates it, without its last part.

    Examples
    --------
    >>> from sktransfer._deprecation import removal
    >>> removal("0.9")
    '0.11'
    """
    major, minor = map(int, since.split("."))
    return f"{major}.{minor + MINOR_VERSIONS}"


def deprecate(what: str, *, since: str, instead: str) -> None:
    """Warn that something is deprecated: a value, an argument, a command.

    Parameters
    ----------
    what : str
        The deprecated thing, as the user has written it.
    since : str
        Version that deprecates it, such as "0.2".
    instead : str
        What to write in its place, in the imperative.

    Warns
    -----
    DeprecatedWarning
        Always.

    Examples
    --------
    >>> import warnings
    >>> from sktransfer._deprecation import deprecate
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     deprecate("pooling='avg'", since="0.2", instead="give pooling='mean'")
    >>> print(caught[0].message)
    pooling='avg' is deprecated since sktransfer 0.2, and 0.4 removes it: give pooling='mean'
    """
    warn(
        f"{what} is deprecated since sktransfer {since}, and {removal(since)} removes it: {instead}", DeprecatedWarning
    )


def renamed_parameter(estimator: Any, new: str, *, old: str, since: str) -> Any:
    """Return the value of a parameter that has a new name, also if it is given by its old one.

    Parameters
    ----------
    estimator : estimator
        Estimator in `fit`. It has both parameters. The default of the old one is `DEPRECATED`.
    new, old : str
        Names of the parameter.
    since : str
        Version that renames it.

    Returns
    -------
    value : object
        Value to use.

    Raises
    ------
    InvalidParameterError
        If both are given.

    Warns
    -----
    DeprecatedWarning
        If the old name is used.
    """
    given, value = getattr(estimator, old), getattr(estimator, new)
    if isinstance(given, str) and given == DEPRECATED:
        return value
    default = inspect.signature(type(estimator).__init__).parameters[new].default
    if value is not default and value != default:
        raise InvalidParameterError(f"{old}={given!r} and {new}={value!r} are the same parameter; give {new} only")
    deprecate(f"{old}={given!r} of {type(estimator).__name__}", since=since, instead=f"give {new}={given!r}")
    return given


def renamed_name(old: str, thing: Any, *, since: str) -> Any:
    """Return a function or a class that is imported by its old name. For `__getattr__` of a module.

    The class is the same object by both names, so that `isinstance`, pickles and saved files stay valid.

    Parameters
    ----------
    old : str
        Old name, as the user has written it.
    thing : function or type
        The function or class of the new name.
    since : str
        Version that renames it.

    Warns
    -----
    DeprecatedWarning
        Always.
    """
    deprecate(old, since=since, instead=f"use {thing.__name__}")
    return thing
