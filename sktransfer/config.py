"""Global settings, one set per thread."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from sktransfer._validation import is_int
from sktransfer.exceptions import InvalidParameterError

__all__ = ["Places", "check_places", "config_context", "get_config", "parse_size", "set_config"]

Places = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
DEFAULT_MEMORY = 2 * 1024**3
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "download": ("auto", "never"),
    "cache_dtype": ("auto", "float16", "bfloat16"),
    "compile": (False, True),
}
_TEXTS = ("runtime", "runtime_cache")
_SIZES = ("cache_memory", "cache_disk", "cache_device")
_DEFAULTS: dict[str, Any] = {
    "download": "auto",
    "cache_memory": DEFAULT_MEMORY,
    "cache_disk": 10 * 1024**3,
    "cache_device": DEFAULT_MEMORY,
    "cache_dtype": "auto",
    "compile": False,
    "weights_path": (),
    "runtime": os.environ.get("SKTRANSFER_RUNTIME") or "torch",
    "runtime_cache": "",
}
# Plugins have runtimes, so the module that reads them checks their names. It is imported when a name is set.
_CHECK_RUNTIME = EntryPoint("runtime", "sktransfer.runtimes.resolve:check_runtime_name", "")
_settings = threading.local()


def _current() -> dict[str, Any]:
    if not hasattr(_settings, "values"):
        _settings.values = dict(_DEFAULTS)
    values: dict[str, Any] = _settings.values
    return values


def get_config() -> dict[str, Any]:
    """Return a copy of the settings of this thread, with sizes in bytes.

    Examples
    --------
    >>> import sktransfer
    >>> sktransfer.get_config()
    {'download': 'auto', 'cache_memory': 2147483648, 'cache_disk': 10737418240, \
'cache_device': 2147483648, 'cache_dtype': 'auto', 'compile': False, 'weights_path': (), 'runtime': 'torch', \
'runtime_cache': ''}
    """
    return dict(_current())


def set_config(
    *,
    download: str | None = None,
    cache_memory: int | str | None = None,
    cache_disk: int | str | None = None,
    cache_device: int | str | None = None,
    cache_dtype: str | None = None,
    compile: bool | None = None,
    weights_path: Places | None = None,
    runtime: str | None = None,
    runtime_cache: str | os.PathLike[str] | None = None,
) -> None:
    """Change settings of this thread.

    Called from the main thread, it also changes the settings of threads that start later. None leaves a setting
    unchanged.

    Parameters
    ----------
    download : {"auto", "never"}, default=None
        Whether missing weights may be downloaded. "auto" downloads them for `weights="pretrained"`. "never" raises an
        error that names the file.
    cache_memory : int or str, default=None
        Limit of the store of `cache="memory"`, in bytes or as a string such as "4 GB". Initially 2 GiB.
    cache_disk : int or str, default=None
        Limit of the store in each cache folder, in bytes or as a string such as "4 GB". Initially 10 GiB.
    cache_device : int or str, default=None
        Limit of what a training on a CUDA device keeps on it of the samples, in bytes or as a string such as "4 GB".
        Initially 2 GiB. At most half of the free memory of the device is used.
    cache_dtype : {"auto", "float16", "bfloat16"}, default=None
        Data type of cached floats. "auto" is the type in which they are computed. The others round to half the bytes
        of float32.
    compile : bool, default=None
        Whether to run frozen stages with `torch.compile`. It compiles once per process and batch shape.
    weights_path : path or list of paths, default=None
        Where to look for weights that a saved or pickled estimator names by a path, if they are not there any more:
        files, and folders that hold them. They are used if their hash is that of the estimator. `()` for none.
    runtime : {"torch", "openvino", "onnxruntime", "auto"} or str, default=None
        Library that computes frozen stages on the CPU. All but "torch" come from an installed plugin, such as
        `sktransfer-openvino`. "auto" is a runtime that was measured to be faster than torch if one is installed, and
        torch on a GPU. Trained stages stay in torch. Initially "torch", or the environment variable
        `SKTRANSFER_RUNTIME`, which worker processes read as well.
    runtime_cache : path, default=None
        Folder for the stages that a runtime has converted, so that other processes start faster. It is made if it does
        not exist. Initially "" for none.

    Raises
    ------
    InvalidParameterError
        If a value is not allowed.

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
        "cache_device": cache_device,
        "cache_dtype": cache_dtype,
        "compile": compile,
        "weights_path": weights_path,
        "runtime": runtime,
        "runtime_cache": runtime_cache,
    }
    changes = _check_settings(given)
    _current().update(changes)
    if threading.current_thread() is threading.main_thread():
        _DEFAULTS.update(changes)


def _check_settings(given: dict[str, Any]) -> dict[str, Any]:
    changes = {name: value for name, value in given.items() if value is not None}
    for name, value in changes.items():
        if name == "weights_path":
            changes[name] = check_places(name, value)
        elif name in _SIZES:
            changes[name] = parse_size(name, value)
        elif name in _TEXTS:
            changes[name] = _check_text(name, value)
        elif type(value) is not type(_ALLOWED[name][0]) or value not in _ALLOWED[name]:
            raise InvalidParameterError(f"{name}={value!r} must be one of {_ALLOWED[name]}")
    return changes


def _check_text(name: str, value: Any) -> str:
    """Return the name of a runtime, or the absolute path of a folder that may not exist yet."""
    if name == "runtime":
        if isinstance(value, str) and value:
            _CHECK_RUNTIME.load()(value)
            return value
        raise InvalidParameterError(f"runtime={value!r} must be 'torch', 'auto' or the name of a runtime")
    if not isinstance(value, (str, os.PathLike)):
        raise InvalidParameterError(f"runtime_cache={value!r} must be the path of a folder, or '' for none")
    return str(Path(value).expanduser().absolute()) if str(value) else ""


def check_places(name: str, value: Any) -> tuple[str, ...]:
    """Return absolute paths of existing files and folders.

    Parameters
    ----------
    name : str
        Name of the parameter, for errors.
    value : path or list of paths
        The paths.

    Raises
    ------
    InvalidParameterError
        If `value` is of another type, or a path does not exist.
    """
    given = [value] if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(given, (list, tuple)) or not all(isinstance(place, (str, os.PathLike)) for place in given):
        raise InvalidParameterError(f"{name}={value!r} must be the path of a file or folder, or a list of paths")
    paths = [Path(place).expanduser().absolute() for place in given]
    for path in paths:
        if not path.exists():
            raise InvalidParameterError(f"{name}={value!r}: there is no file or folder {str(path)!r}")
    return tuple(map(str, paths))


def parse_size(name: str, value: Any) -> int:
    """Return a size in bytes.

    Parameters
    ----------
    name : str
        Name of the parameter, for errors.
    value : int or str
        Number of bytes, or a number with a unit. The units kB, MB, GB and TB are powers of 1000, the units KiB, MiB,
        GiB and TiB powers of 1024.

    Raises
    ------
    InvalidParameterError
        If `value` is not a size of at least one byte.

    Examples
    --------
    >>> from sktransfer.config import parse_size
    >>> parse_size("cache_disk", "1.5 GB"), parse_size("cache_disk", "1 MiB")
    (1500000000, 1048576)
    """
    size = -1
    if is_int(value):
        size = int(value)
    elif isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt]?)(i?)b|bytes)?\s*", value, re.IGNORECASE)
        if match and (match[2] or not match[3]):
            base = 1024 if match[3] else 1000
            size = round(float(match[1]) * base ** " kmgt".index((match[2] or " ").lower()))
    if size < 1:
        raise InvalidParameterError(
            f"{name}={value!r} must be a number of bytes of at least 1 or a size such as '4 GB'"
        )
    return size


@contextmanager
def config_context(
    *,
    download: str | None = None,
    cache_memory: int | str | None = None,
    cache_disk: int | str | None = None,
    cache_device: int | str | None = None,
    cache_dtype: str | None = None,
    compile: bool | None = None,
    weights_path: Places | None = None,
    runtime: str | None = None,
    runtime_cache: str | os.PathLike[str] | None = None,
) -> Iterator[None]:
    """Change settings of this thread within a `with` block.

    Parameters
    ----------
    download : {"auto", "never"}, default=None
        Whether missing weights may be downloaded. All parameters have the meaning that they have in `set_config`.
    cache_memory : int or str, default=None
        Limit of the store in memory.
    cache_disk : int or str, default=None
        Limit of the store in each cache folder.
    cache_device : int or str, default=None
        Limit of what a training keeps on a CUDA device.
    cache_dtype : {"auto", "float16", "bfloat16"}, default=None
        Data type of cached floats.
    compile : bool, default=None
        Whether to run frozen stages with `torch.compile`.
    weights_path : path or list of paths, default=None
        Where to look for the weights of saved estimators.
    runtime : {"torch", "openvino", "onnxruntime", "auto"} or str, default=None
        Library that computes frozen stages on the CPU.
    runtime_cache : path, default=None
        Folder for the stages that a runtime has converted.

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
        "cache_device": cache_device,
        "cache_dtype": cache_dtype,
        "compile": compile,
        "weights_path": weights_path,
        "runtime": runtime,
        "runtime_cache": runtime_cache,
    }
    before, changes = get_config(), _check_settings(given)
    _current().update(changes)
    try:
        yield
    finally:
        _current().update(before)
