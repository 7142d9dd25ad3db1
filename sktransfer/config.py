"""Settings of the process: what a user would otherwise repeat in every estimator."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sktransfer.exceptions import InvalidParameterError

__all__ = ["config_context", "get_config", "parse_size", "set_config"]

DEFAULT_MEMORY = 2 * 1024**3
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "download": ("auto", "never"),
    "cache_dtype": ("auto", "float16", "bfloat16"),
    "compile": (False, True),
}
_SIZES = ("cache_memory", "cache_disk")
_DEFAULTS: dict[str, Any] = {
    "download": "auto",
    "cache_memory": DEFAULT_MEMORY,
    "cache_disk": 10 * 1024**3,
    "cache_dtype": "auto",
    "compile": False,
}
_settings = threading.local()


def _current() -> dict[str, Any]:
    if not hasattr(_settings, "values"):
        _settings.values = dict(_DEFAULTS)
    values: dict[str, Any] = _settings.values
    return values


def get_config() -> dict[str, Any]:
    """Return a copy of the settings of this thread; sizes as bytes.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.get_config()
    {'download': 'auto', 'cache_memory': 2147483648, 'cache_disk': 10737418240, 'cache_dtype': 'auto', 'compile': False}
    """
    return dict(_current())


def set_config(
    *,
    download: str | None = None,
    cache_memory: int | str | None = None,
    cache_disk: int | str | None = None,
    cache_dtype: str | None = None,
    compile: bool | None = None,
) -> None:
    """Change settings for this thread; from the main thread, also for threads that are started later.

    None leaves a setting as it is.

    Parameters
    ----------
    download : {"auto", "never"}, default=None
        Whether weights that are not on this machine may be fetched: "auto" fetches them when a backbone is named with
        `weights="pretrained"`, "never" raises an error that names the file.
    cache_memory : int or str, default=None
        What the store of `cache="memory"` may take, in bytes or as in "4 GB"; 2 GiB until it is set.
    cache_disk : int or str, default=None
        What the store in one folder may take on the disk, likewise; 10 GiB until it is set.
    cache_dtype : {"auto", "float16", "bfloat16"}, default=None
        How stores keep floats: "auto" as they are computed, the others in half the bytes of float32, and rounded.
    compile : bool, default=None
        Whether `torch.compile` makes frozen stages faster; it takes its time once a process and shape of batches.

    Raises
    ------
    InvalidParameterError
        If a value is not one of those above.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.set_config(download="never")
    >>> sktransfer.set_config(download="auto", cache_memory="2 GiB")
    """
    given = {
        "download": download,
        "cache_memory": cache_memory,
        "cache_disk": cache_disk,
        "cache_dtype": cache_dtype,
        "compile": compile,
    }
    changes = _checked(given)
    _current().update(changes)
    if threading.current_thread() is threading.main_thread():
        _DEFAULTS.update(changes)


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    changes = {name: value for name, value in given.items() if value is not None}
    for name, value in changes.items():
        if name in _SIZES:
            changes[name] = parse_size(name, value)
        elif type(value) is not type(_ALLOWED[name][0]) or value not in _ALLOWED[name]:
            raise InvalidParameterError(f"{name}={value!r} is not allowed; set it to one of {_ALLOWED[name]}")
    return changes


def parse_size(name: str, value: Any) -> int:
    """Return the bytes that a size stands for.

    Parameters
    ----------
    name : str
        The parameter, for errors.
    value : int or str
        Bytes, or a number and a unit: kB, MB, GB, TB count in thousands, KiB, MiB, GiB, TiB in 1024s.

    Raises
    ------
    InvalidParameterError
        If it is no such size, or less than one byte.

    Examples
    --------
    >>> from sktransfer.config import parse_size
    >>> parse_size("cache_disk", "1.5 GB"), parse_size("cache_disk", "1 MiB")
    (1500000000, 1048576)
    """
    size = -1
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt]?)(i?)b|bytes)?\s*", value, re.IGNORECASE)
        if found and (found[2] or not found[3]):
            base = 1024 if found[3] else 1000
            size = round(float(found[1]) * base ** " kmgt".index((found[2] or " ").lower()))
    if size < 1:
        raise InvalidParameterError(f"{name}={value!r} must be a number of bytes of at least 1, or one such as '4 GB'")
    return size


@contextmanager
def config_context(
    *,
    download: str | None = None,
    cache_memory: int | str | None = None,
    cache_disk: int | str | None = None,
    cache_dtype: str | None = None,
    compile: bool | None = None,
) -> Iterator[None]:
    """Change settings of this thread inside a `with` block.

    Parameters
    ----------
    download : {"auto", "never"}, default=None
        As in `set_config`, as is the rest.
    cache_memory : int or str, default=None
        What the store in memory may take.
    cache_disk : int or str, default=None
        What the store in one folder may take.
    cache_dtype : {"auto", "float16", "bfloat16"}, default=None
        How stores keep floats.
    compile : bool, default=None
        Whether `torch.compile` makes frozen stages faster.

    Raises
    ------
    InvalidParameterError
        If a value is not allowed.

    Examples
    --------
    >>> import sktransfer
    >>> with sktransfer.config_context(download="never"):
    ...     sktransfer.get_config()["download"]
    'never'
    """
    given = {
        "download": download,
        "cache_memory": cache_memory,
        "cache_disk": cache_disk,
        "cache_dtype": cache_dtype,
        "compile": compile,
    }
    before, changes = get_config(), _checked(given)
    _current().update(changes)
    try:
        yield
    finally:
        _current().update(before)
