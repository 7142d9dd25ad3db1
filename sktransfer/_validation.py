"""Checks of single parameters, and of the fields of saved states, with one wording for the errors."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from sktransfer.exceptions import InvalidParameterError, LoadError, did_you_mean

__all__ = [
    "check_bool",
    "check_float",
    "check_fraction",
    "check_int",
    "check_option",
    "check_text",
    "is_int",
    "is_real",
    "require_estimator",
    "require_field",
]


def is_int(value: Any) -> bool:
    """Return whether a value is an integer; a bool is not.

    Examples
    --------
    >>> from sktransfer._validation import is_int
    >>> is_int(1), is_int(True), is_int(1.0)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Return whether a value is a real number, NaN and infinity included; a bool is not.

    Examples
    --------
    >>> from sktransfer._validation import is_real
    >>> is_real(0.5), is_real(2), is_real(False), is_real("2")
    (True, True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def check_int(name: str, value: Any, minimum: int, hint: str = "") -> int:
    """Return `value` as an int.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : object
        Value to check.
    minimum : int
        Smallest value allowed.
    hint : str, default=""
        End of the error message: other values allowed, or what to do.

    Raises
    ------
    InvalidParameterError
        If `value` is not an integer or is smaller than `minimum`.

    Examples
    --------
    >>> from sktransfer._validation import check_int
    >>> check_int("batch_size", 32, 1)
    32
    >>> check_int("batch_size", 0, 1, " or 'auto'")
    Traceback (most recent call last):
    sktransfer.exceptions.InvalidParameterError: batch_size=0 must be an int of at least 1 or 'auto'
    """
    if not is_int(value) or value < minimum:
        raise InvalidParameterError(f"{name}={value!r} must be an int of at least {minimum}{hint}")
    return int(value)


def check_float(
    name: str,
    value: Any,
    minimum: float = 0.0,
    maximum: float = math.inf,
    *,
    exclude_minimum: bool = False,
    hint: str = "",
) -> float:
    """Return `value` as a finite float.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : object
        Value to check.
    minimum, maximum : float, default=0.0 and inf
        Smallest and largest value allowed.
    exclude_minimum : bool, default=False
        Whether `value` must be greater than `minimum`.
    hint : str, default=""
        End of the error message: other values allowed, or what to do.

    Raises
    ------
    InvalidParameterError
        If `value` is not a finite number in this range.

    Examples
    --------
    >>> from sktransfer._validation import check_float
    >>> check_float("weight_decay", 0)
    0.0
    >>> check_float("lr", 0.0, exclude_minimum=True, hint=" or 'auto'")
    Traceback (most recent call last):
    sktransfer.exceptions.InvalidParameterError: lr=0.0 must be a number greater than 0 or 'auto'
    """
    in_range = is_real(value) and math.isfinite(value) and minimum <= float(value) <= maximum
    if not in_range or (exclude_minimum and float(value) == minimum):
        lower = f"greater than {minimum:g}" if exclude_minimum else f"of at least {minimum:g}"
        upper = "" if maximum == math.inf else f" and at most {maximum:g}"
        raise InvalidParameterError(f"{name}={value!r} must be a number {lower}{upper}{hint}")
    return float(value)


def check_fraction(name: str, value: Any, *, zero: bool = False) -> float:
    """Return `value` as a float less than 1 and greater than 0, or not less than 0.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : object
        Value to check.
    zero : bool, default=False
        Whether 0 is allowed.

    Raises
    ------
    InvalidParameterError
        If `value` is not such a number.

    Examples
    --------
    >>> from sktransfer._validation import check_fraction
    >>> check_fraction("validation_fraction", 0.1)
    0.1
    """
    if not is_real(value) or not 0 <= float(value) < 1 or (value == 0 and not zero):
        lower = "" if zero else "greater than 0 and "
        raise InvalidParameterError(f"{name}={value!r} must be a number from 0 to 1, {lower}less than 1")
    return float(value)


def check_option(name: str, value: Any, options: Sequence[str], other: str = "") -> str:
    """Return `value`, one of the strings in `options`.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : object
        Value to check.
    options : sequence of str
        Values allowed.
    other : str, default=""
        What else the parameter takes, for the error.

    Raises
    ------
    InvalidParameterError
        If `value` is none of them.

    Examples
    --------
    >>> from sktransfer._validation import check_option
    >>> check_option("decode", "argmax", ("auto", "argmax"))
    'argmax'
    """
    if not isinstance(value, str) or value not in options:
        near = did_you_mean(str(value), options)
        allowed = f"{tuple(options)}{', or ' if other else ''}{other}"
        raise InvalidParameterError(f"{name}={value!r} must be one of {allowed}{'.' if near else ''}{near}")
    return value


def check_text(name: str, value: Any) -> str:
    """Return `value`, a string.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : object
        Value to check.

    Raises
    ------
    InvalidParameterError
        If `value` is no str.
    """
    if not isinstance(value, str):
        raise InvalidParameterError(f"{name}={value!r} must be a str")
    return value


def require_estimator(value: Any) -> None:
    """Raise an error that tells what to do if a value is no estimator. Whether it is fitted is not checked.

    Parameters
    ----------
    value : object
        Value given for an estimator.

    Raises
    ------
    InvalidParameterError
        If it is a class, a path or anything else without parameters.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sktransfer._validation import require_estimator
    >>> require_estimator(Ridge())
    """
    if isinstance(value, type):
        raise InvalidParameterError(
            f"{value.__name__} is a class, not a fitted estimator: pass what {value.__name__}(...).fit(...) returns"
        )
    if isinstance(value, (str, os.PathLike)):
        path = os.fspath(value)
        raise InvalidParameterError(f"{path!r} is a path, not a fitted estimator: pass sktransfer.load({path!r})")
    if not hasattr(value, "get_params"):
        raise InvalidParameterError(f"an object of type {type(value).__name__} is not a fitted estimator")


def check_bool(name: str, value: Any) -> bool:
    """Return `value`, True or False.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error.
    value : object
        Value to check.

    Raises
    ------
    InvalidParameterError
        If `value` is neither.

    Examples
    --------
    >>> from sktransfer._validation import check_bool
    >>> check_bool("normalize", True)
    True
    """
    if not isinstance(value, bool):
        raise InvalidParameterError(f"{name}={value!r} must be True or False")
    return value


def require_field(
    state: Mapping[str, Any],
    name: str,
    kind: type | tuple[type, ...],
    options: Sequence[Any] | None = None,
) -> Any:
    """Return a field of a saved state, for use in `from_state`.

    Parameters
    ----------
    state : mapping
        State read from a file.
    name : str
        Name of the field.
    kind : type or tuple of types
        Types allowed; a bool is not an int.
    options : sequence, default=None
        Values allowed; None for all of these types.

    Raises
    ------
    LoadError
        If the field is missing, or has another type or value.

    Examples
    --------
    >>> from sktransfer._validation import require_field
    >>> require_field({"seed": 3}, "seed", int)
    3
    >>> require_field({"seed": "3"}, "seed", int)
    Traceback (most recent call last):
    sktransfer.exceptions.LoadError: the field 'seed' is of type str, not int
    """
    if not isinstance(state, Mapping) or name not in state:
        raise LoadError(f"the field {name!r} is missing")
    value = state[name]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds and object not in kinds):
        expected = " or ".join(allowed.__name__ for allowed in kinds)
        raise LoadError(f"the field {name!r} is of type {type(value).__name__}, not {expected}")
    if options is not None and value not in options:
        raise LoadError(f"the field {name!r} is {value!r}, and must be one of {tuple(options)}")
    return value
