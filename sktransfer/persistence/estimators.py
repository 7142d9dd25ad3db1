"""Codecs of sktransfer's estimators, and of the callbacks and adapters in their parameters."""

from __future__ import annotations

import inspect
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from sktransfer._validation import require_field
from sktransfer._version import __version__
from sktransfer.backbones.backbone import Backbone
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.context import Codec, LoadContext, SaveContext, import_class
from sktransfer.weights.moved import iter_paths
from sktransfer.words.vectors import WordVectors

__all__ = ["LEFT_OUT", "adapter_codec", "callback_codec", "estimator_codec", "follow_moved"]

LEFT_OUT = ("Checkpoint",)  # it names a folder of this machine
# Attributes set by more than one estimator, with the types that a file may give them.
_TYPES: dict[str, type | tuple[type, ...]] = {
    "_backbone": Backbone,
    "_text_backbone": Backbone,
    "backbone_": Backbone,
    "callbacks": (list, tuple, type(None)),
    "embedding_": WordVectors,
    "n_features_in_": int,
}
_PATHS = ("backbone", "continue_from", "model", "text_backbone", "weights")  # parameters that may name weights

_LOADED = ("_backbone", "backbone_", "embedding_")  # attributes of estimators that have loaded their weights
_NAMES = ("backbone", "text_backbone")  # those of them that are "provider/path"


def estimator_codec(kind: str, path: str) -> Codec:
    """Return the codec of an estimator class: its attributes, and the state that its hooks return.

    A class may have these hooks:

    - `_attributes_to_save()`, which returns attributes that are written in addition.
    - `_not_saved`, names of attributes that are not written.
    - `_saved_state()`, which returns a dict from which those attributes can be restored.
    - `_restore_state(state)`, called with that dict after all other attributes are set.
    - `_embedded_params()`, which returns the parameters that differ in a file with embedded weights.

    Parameters
    ----------
    kind : str
        Name of the kind in files.
    path : str
        "module:Class" of the estimator.
    """
    return Codec(kind, path, _encode, lambda data, context: _decode(import_class(path), data, context))


def _encode(estimator: Any, context: SaveContext) -> dict[str, Any]:
    cls = type(estimator)
    left_out = ("_skl_callbacks", *getattr(cls, "_not_saved", ()))
    attributes = {name: value for name, value in vars(estimator).items() if name not in left_out}
    if "cache" in attributes and attributes["cache"] not in ("memory", None):
        attributes["cache"] = "memory"  # a folder of this machine
    if hasattr(cls, "_attributes_to_save"):
        attributes |= estimator._attributes_to_save()
    callbacks = attributes.get("callbacks")
    if callbacks is not None:
        attributes["callbacks"] = [
            item
            for item in callbacks
            if type(item[-1] if isinstance(item, (tuple, list)) else item).__name__ not in LEFT_OUT
        ]
    if context.embed and hasattr(cls, "_embedded_params"):
        attributes |= estimator._embedded_params()
    for name, value in attributes.items():
        _check_attribute(cls, name, SaveError)
        if name == "criterion" and value is not None:
            raise SaveError(
                f"{cls.__name__} has criterion={value!r}, which is code and cannot be saved. Predicting does not need "
                "it: estimator.set_params(criterion=None)"
            )
        if isinstance(value, nn.Module):
            raise SaveError(
                f"{cls.__name__} has {name}={type(value).__name__}(...), a module that cannot be saved without pickle. "
                f"If predicting does not need it: estimator.set_params({name}=None)"
            )
    state = estimator._saved_state() if hasattr(cls, "_saved_state") else {}
    # Attributes of the user are not parameters, so those are named. A version that lacks one refuses the file.
    parameters = ",".join([*inspect.signature(cls.__init__).parameters][1:])  # without self
    return {"attributes": attributes, "parameters": parameters, **({"state": state} if state else {})}


def _check_attribute(cls: type, name: str, error: type[Exception]) -> None:
    """Raise if an attribute would hide a method or a property of its class."""
    static = inspect.getattr_static(cls, name, None)
    hides = callable(static) or hasattr(static, "__get__") or name.startswith("__")
    if hides or not name.isidentifier():
        raise error(f"{cls.__name__} cannot have an attribute {name!r}")


def _decode(cls: Any, data: dict[str, Any], context: LoadContext) -> Any:
    attributes: Mapping[str, Any] = require_field(data, "attributes", dict)
    for name in attributes:
        _check_attribute(cls, name, LoadError)
        if name in _TYPES:
            require_field(attributes, name, _TYPES[name])
    if "cache" in attributes:
        require_field(attributes, "cache", (str, type(None)), ("memory", None))
    estimator = cls.__new__(cls)
    # Files of an older sktransfer may lack parameters that were added since, and have those that were removed.
    parameters = inspect.signature(cls.__init__).parameters
    written = require_field({"parameters": "", **data}, "parameters", str)
    unknown = [name for name in written.split(",") if name and name not in parameters]
    if unknown:
        raise LoadError(
            f"{cls.__name__} has no parameter {unknown[0]!r} in this sktransfer {__version__}. Load the file with the "
            "version that its manifest.json names, or with a newer one"
        )
    defaults = {one.name: one.default for one in parameters.values() if one.default is not inspect.Parameter.empty}
    vars(estimator).update({**defaults, **attributes})
    weights = vars(estimator).get("weights")
    if not isinstance(weights, (str, os.PathLike, type(None))):
        raise LoadError(f"weights={weights!r} is neither a name nor a path")
    if "state" in data:
        if not hasattr(cls, "_restore_state"):
            raise LoadError(f"{cls.__name__} has no state other than its attributes")
        estimator._restore_state(require_field(data, "state", dict))
    context.estimators.append(estimator)
    return estimator


def follow_moved(context: LoadContext) -> None:
    """Set the parameters of estimators that name weights to where these were found, so that they can be fitted again.

    Parameters
    ----------
    context : LoadContext
        Context with which a whole file was read.
    """
    for estimator in context.estimators:
        for name in _PATHS:
            given = vars(estimator).get(name)
            if isinstance(given, (str, os.PathLike)):
                for old, new in context.moved.items():
                    if Path(old).is_absolute() == (name not in _NAMES) and _names(os.fspath(given), old):
                        vars(estimator)[name] = new
    _find_unhashed(context)


def _find_unhashed(context: LoadContext) -> None:
    """Set the parameters of estimators that were not fitted, so that no hash of their weights is in the file.

    Weights of the same name are taken. Those of another name are taken if they can belong to one parameter only.
    """
    missing: dict[tuple[str, str], list[tuple[Any, str]]] = defaultdict(list)
    for estimator in context.estimators:
        if not any(name in vars(estimator) for name in _LOADED):
            for name in _PATHS:
                given = vars(estimator).get(name)
                provider, path = _split(name, os.fspath(given) if isinstance(given, (str, os.PathLike)) else "")
                if path and _is_missing(path):
                    missing[provider, path].append((estimator, name))
    for (provider, path), users in missing.items():
        _, *found = iter_paths(path)
        same = [place for place in found if Path(place).name == Path(path).name]
        if same or (len(found) == 1 and len(missing) == 1):
            for estimator, name in users:
                vars(estimator)[name] = provider + (same or found)[0]


def _is_missing(path: str) -> bool:
    try:
        return not Path(path).expanduser().exists()
    except (OSError, RuntimeError):  # a name that is too long, or a folder of an unknown user
        return False


def _split(parameter: str, given: str) -> tuple[str, str]:
    """Return the provider with its slash, and the path. The path is "" if the value does not look like one."""
    provider, slash, path = given.partition("/") if parameter in _NAMES else ("", "", given)
    return provider + slash, path if path.startswith((".", "/", "~")) else ""


def _names(given: str, saved: str) -> bool:
    """Return whether a name or path as given by a user is that of a saved absolute one."""
    provider, _, folder = saved.partition("/")
    if given == saved or not provider:
        return given == saved or (not given.startswith("/") and saved.endswith(f"/{given.removeprefix('./')}"))
    own, _, rest = given.partition("/")
    return own == provider and _names(rest, folder)


def callback_codec(kind: str, path: str) -> Codec:
    """Return the codec of a training callback: its parameters, which must be plain values.

    Parameters
    ----------
    kind : str
        Name of the kind in files.
    path : str
        "module:Class" of the callback.
    """
    return Codec(kind, path, _encode_callback, lambda data, context: import_class(path)(**_plain_params(kind, data)))


def _encode_callback(callback: Any, context: SaveContext) -> dict[str, Any]:
    cls = type(callback)
    given = callback.get_params(deep=False)
    params = {name: value for name, value in given.items() if _is_plain(value)}
    lost = {name: value for name, value in given.items() if name not in params}
    try:
        rebuilt = cls(**params).get_params(deep=False)
    except TypeError:
        rebuilt = {}
    if {name: value for name, value in rebuilt.items() if name not in params} != lost:
        raise SaveError(
            f"callbacks: {cls.__name__} has parameters that are not plain values ({sorted(lost)}). To save without "
            "callbacks, which are not needed to predict: estimator.set_params(callbacks=None)"
        )
    return {"params": params}


def adapter_codec(kind: str, path: str) -> Codec:
    """Return the codec of an adapter configuration of peft: its settings that differ from the defaults.

    Parameters
    ----------
    kind : str
        Name of the kind in files.
    path : str
        "module:Class" of the configuration.
    """
    return Codec(kind, path, _encode_adapter, lambda data, context: import_class(path)(**_plain_params(kind, data)))


def _encode_adapter(config: Any, context: SaveContext) -> dict[str, Any]:
    default = type(config)()
    params: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if field.init and value != getattr(default, field.name):
            params[field.name] = sorted(value) if isinstance(value, set) else value
    if not all(map(_is_plain, params.values())) or type(config)(**params) != config:
        raise SaveError(
            f"adapter={config!r} has settings that are not plain values. Its weights are already merged into the "
            "backbone. To save without it: estimator.set_params(adapter=None)"
        )
    return {"params": params}


def _plain_params(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    params: dict[str, Any] = require_field(data, "params", dict)
    if not all(map(_is_plain, params.values())):
        raise LoadError(f"the parameters of {kind} are not plain values")
    return params


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
