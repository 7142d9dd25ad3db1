"""Settings of the process: what a user would otherwise repeat in every estimator."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sktransfer.exceptions import InvalidParameterError

__all__ = ["config_context", "get_config", "set_config"]

_ALLOWED = {"download": ("auto", "never")}
_DEFAULTS: dict[str, Any] = {"download": "auto"}
_settings = threading.local()


def _current() -> dict[str, Any]:
    if not hasattr(_settings, "values"):
        _settings.values = dict(_DEFAULTS)
    values: dict[str, Any] = _settings.values
    return values


def get_config() -> dict[str, Any]:
    """Return a copy of the settings of this thread.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.get_config()
    {'download': 'auto'}
    """
    return dict(_current())


def set_config(*, download: str | None = None) -> None:
    """Change settings for this thread; from the main thread, also for threads that are started later.

    Parameters
    ----------
    download : {"auto", "never"}, default=None
        Whether weights that are not on this machine may be fetched: "auto" fetches them when a backbone is named with
        `weights="pretrained"`, "never" raises an error that names the file. None leaves the setting as it is.

    Raises
    ------
    InvalidParameterError
        If a value is not one of those above.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.set_config(download="never")
    >>> sktransfer.set_config(download="auto")
    """
    changes = _checked({"download": download})
    _current().update(changes)
    if threading.current_thread() is threading.main_thread():
        _DEFAULTS.update(changes)


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    changes = {name: value for name, value in given.items() if value is not None}
    for name, value in changes.items():
        if value not in _ALLOWED[name]:
            raise InvalidParameterError(f"{name}={value!r} is not allowed; set it to one of {_ALLOWED[name]}")
    return changes


@contextmanager
def config_context(*, download: str | None = None) -> Iterator[None]:
    """Change settings of this thread inside a `with` block.

    Parameters
    ----------
    download : {"auto", "never"}, default=None
        As in `set_config`.

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
    before, changes = get_config(), _checked({"download": download})
    _current().update(changes)
    try:
        yield
    finally:
        _current().update(before)
