"""The runtime that a setting names, among those of the installed plugins."""

from __future__ import annotations

import os
from typing import Any

from sktransfer.backbones.plugins import hook_results, reason
from sktransfer.backbones.registry import registry
from sktransfer.exceptions import InvalidParameterError, PluginError, RuntimeFallbackWarning, did_you_mean, warn
from sktransfer.runtimes.runtime import Runtime

__all__ = ["TORCH", "check_runtime_name", "find_runtime", "installed_runtimes", "models_key", "runtime_key"]

TORCH = "torch"
_FIRST_PARTY = ("openvino", "onnxruntime")  # for messages only
_found: dict[int, tuple[dict[str, Runtime], list[str]]] = {}  # by registry, of which a process has one
_warned: set[str] = set()


def installed_runtimes() -> tuple[dict[str, Runtime], list[str]]:
    """Return the runtimes of plugins by name, and one message per plugin whose runtimes failed."""
    known = registry()
    if id(known) not in _found:
        runtimes: dict[str, Runtime] = {}
        failures: list[str] = []
        for plugin in known.plugins:
            if plugin.status == "failed":
                failures.append(f"{plugin.label}: {plugin.error}")
            if plugin.status != "loaded":
                continue
            try:
                runtimes |= _runtimes_of(plugin.name, plugin.module)
            except Exception as error:  # a broken plugin must not hide the runtimes of the others
                failures.append(f"{plugin.label}: {reason(error)}")
        _found[id(known)] = runtimes, failures
    return _found[id(known)]


def _runtimes_of(name: str, module: str) -> dict[str, Runtime]:
    found = hook_results(name, module, "sktransfer_runtimes")
    for runtime in found:
        if not isinstance(runtime, Runtime):
            raise PluginError(f"{name!r} must give Runtime objects, not {type(runtime).__name__}")
        if runtime.name != name:
            raise PluginError(f"the runtime {runtime.name!r} must have the name of the entry point, {name!r}")
    return {runtime.name: runtime for runtime in found}


def check_runtime_name(name: str, source: str = "") -> None:
    """Raise an error unless a name is that of an installed runtime, "torch" or "auto".

    Parameters
    ----------
    name : str
        Name.
    source : str, default=""
        Begin of the message, if the name does not come from a setting.

    Raises
    ------
    InvalidParameterError
        If no installed runtime has this name.

    Examples
    --------
    >>> from sktransfer.runtimes.resolve import check_runtime_name
    >>> check_runtime_name("auto")
    """
    if name in (TORCH, "auto"):
        return
    runtimes, failures = installed_runtimes()
    if name not in runtimes:
        failed = f" Plugins that could not be loaded: {'; '.join(failures)}" if failures else ""
        names = dict.fromkeys((TORCH, "auto", *sorted(runtimes), *_FIRST_PARTY))
        raise InvalidParameterError(
            f"{source}runtime={name!r} is not installed: {_remedy(name)}, or choose from "
            f"{[TORCH, 'auto', *sorted(runtimes)]}.{did_you_mean(name, names)}{failed}"
        )


def find_runtime(setting: str, precision: str, *, on_cpu: bool) -> Runtime | None:
    """Return the runtime that a setting and a precision name, or None for torch.

    Parameters
    ----------
    setting : str
        Setting `runtime`: "torch", "auto" or the name of a runtime.
    precision : str
        "float32", "bfloat16", "float16" or "int8".
    on_cpu : bool
        Whether the device is the CPU. Runtimes compute nowhere else.

    Raises
    ------
    InvalidParameterError
        If the named runtime is not installed, or computes neither there nor in this precision.

    Examples
    --------
    >>> from sktransfer.runtimes.resolve import find_runtime
    >>> find_runtime("torch", "float32", on_cpu=True) is None
    True
    """
    if setting == TORCH:
        if precision == "int8":
            raise InvalidParameterError(
                "precision='int8' is not computed by torch: pip install plugins/openvino, then "
                "sktransfer.set_config(runtime='openvino'). In worker processes, set SKTRANSFER_RUNTIME=openvino"
            )
        return None
    if setting == "auto":
        return _choose(*installed_runtimes(), precision) if on_cpu else None
    variable = os.environ.get("SKTRANSFER_RUNTIME")  # not checked when it was read
    check_runtime_name(setting, "SKTRANSFER_RUNTIME: " if setting == variable else "")
    runtime = installed_runtimes()[0][setting]
    if not on_cpu:
        raise InvalidParameterError(
            f"runtime={setting!r} computes on the CPU only: set device='cpu', or the setting runtime to 'auto', which "
            "is torch on a GPU"
        )
    if precision not in runtime.precisions:
        raise InvalidParameterError(
            f"precision={precision!r} is not one of runtime={setting!r}, which computes in {runtime.precisions}"
        )
    try:
        runtime.version()
    except ImportError as error:
        raise InvalidParameterError(f"runtime={setting!r} lacks its library ({error}): {_remedy(setting)}") from error
    return runtime


def _remedy(name: str) -> str:
    return f"pip install plugins/{name}" if name in _FIRST_PARTY else "install the plugin that has it"


def _choose(runtimes: dict[str, Runtime], failures: list[str], precision: str) -> Runtime | None:
    missing = list(failures)
    fitting = [one for _, one in sorted(runtimes.items()) if one.is_automatic]
    for runtime in fitting:
        if precision not in runtime.precisions:
            continue
        try:
            runtime.version()
        except ImportError as error:
            missing.append(f"{runtime.name}: {error}")
            continue
        return runtime
    if precision == "int8":
        raise InvalidParameterError("precision='int8' needs a runtime that computes it: pip install plugins/openvino")
    if missing or not fitting:
        why = "; ".join(missing) or "no plugin is installed that 'auto' chooses from"
        message = f"runtime='auto' is torch here ({why}). For another runtime: pip install plugins/openvino"
        if message not in _warned:
            _warned.add(message)
            warn(message, RuntimeFallbackWarning)
    return None


def models_key(backbone: Any, runtime: str, precision: str, n_threads: int) -> str:
    """Return the key in `copies` of a backbone of the models that a runtime has compiled.

    Parameters
    ----------
    backbone : Backbone
        Backbone that is not joined.
    runtime, precision : str
        Names of the runtime, and of the precision that it computes in.
    n_threads : int
        Number of threads that run the models at once.
    """
    size = "" if backbone.modality == "text" else backbone.preprocess.key
    return f"{runtime} {precision} {n_threads} {size}"


def runtime_key(name: str, precision: str) -> str:
    """Return what values depend on apart from stages and samples, as part of the key of a cache.

    Parameters
    ----------
    name : str
        Name of an installed runtime.
    precision : str
        Precision that it computes in.
    """
    import sklearn

    calibration = f" {sklearn.__version__}" if precision == "int8" else ""  # ships the samples
    return f"{name} {installed_runtimes()[0][name].version()} {precision}{calibration}"
