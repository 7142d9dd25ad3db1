"""Callbacks and adapters of a training: by name and parameters, those alone that are listed here."""

from __future__ import annotations

import importlib
from dataclasses import fields
from typing import Any

from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.parts import Codec, Loading, Saving, entry

__all__ = ["CODECS", "LEFT_OUT", "find_callback"]

# Where each may come from. skorch's that read or write files are not among them.
CALLBACKS = {
    "EMA": "sktransfer.callbacks.averaging",
    "MicroBatches": "sktransfer.callbacks.micro_batches",
    "Mixup": "sktransfer.callbacks.mixup",
    "SWA": "sktransfer.callbacks.averaging",
    "WiSEFT": "sktransfer.callbacks.averaging",
    "EarlyStopping": "skorch.callbacks",
    "EpochScoring": "skorch.callbacks",
    "EpochTimer": "skorch.callbacks",
    "GradientNormClipping": "skorch.callbacks",
    "LRScheduler": "skorch.callbacks",
}
LEFT_OUT = ("Checkpoint",)  # of sktransfer: it names a folder of this machine
ADAPTERS = ("IA3Config", "LoHaConfig", "LoKrConfig", "LoraConfig", "OFTConfig")


def _class(name: str) -> Any:
    return getattr(importlib.import_module(CALLBACKS[name]), name)


def _plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _encode_callback(callback: Any, saving: Saving) -> dict[str, Any]:
    name = type(callback).__name__
    given = callback.get_params(deep=False)
    params = {key: value for key, value in given.items() if _plain(value)}
    try:
        again = _class(name)(**params).get_params(deep=False)
    except TypeError:
        again = {}
    if {key: value for key, value in again.items() if key not in params} != {
        key: value for key, value in given.items() if key not in params
    }:
        lost = sorted(set(given) - set(params))
        raise SaveError(
            f"callbacks: {name} has parameters that are no plain values ({lost}). To save without callbacks, which "
            "predicting does not need: estimator.set_params(callbacks=None)"
        )
    return {"name": name, "params": params}


def _decode_callback(data: dict[str, Any], loading: Loading) -> Any:
    name, params = entry(data, "name", str, tuple(CALLBACKS)), entry(data, "params", dict)
    if not all(map(_plain, params.values())):
        raise LoadError(f"the parameters of {name} are no plain values")
    return _class(name)(**params)


def _encode_adapter(config: Any, saving: Saving) -> dict[str, Any]:
    default = type(config)()
    settings: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if field.init and value != getattr(default, field.name):
            settings[field.name] = sorted(value) if isinstance(value, set) else value
    if not all(map(_plain, settings.values())) or type(config)(**settings) != config:
        raise SaveError(
            f"adapter={config!r} has settings that are no plain values. Its weights are merged already; to save "
            "without: estimator.set_params(adapter=None)"
        )
    return {"name": type(config).__name__, "settings": settings}


def _decode_adapter(data: dict[str, Any], loading: Loading) -> Any:
    import peft

    name, settings = entry(data, "name", str, ADAPTERS), entry(data, "settings", dict)
    if not all(map(_plain, settings.values())):
        raise LoadError(f"the settings of {name} are no plain values")
    return getattr(peft, name)(**settings)


_CALLBACK = Codec("Callback", _encode_callback, _decode_callback)
_ADAPTER = Codec("Adapter", _encode_adapter, _decode_adapter)
CODECS = (_CALLBACK, _ADAPTER)


def find_callback(obj: Any) -> Codec | None:
    """Return the codec of a callback, or of an adapter; None for all else."""
    kind = type(obj)
    if kind.__name__ in CALLBACKS and kind.__module__.split(".")[0] in ("skorch", "sktransfer"):
        return _CALLBACK if _class(kind.__name__) is kind else None
    return _ADAPTER if kind.__module__.split(".")[0] == "peft" and kind.__name__ in ADAPTERS else None
