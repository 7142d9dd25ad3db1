"""Layers after the pooling, read from their files and validated. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sktransfer.exceptions import BackboneNotFoundError, WeightsError
from sktransfer_sentence_transformers.files import ModelFiles, positive

__all__ = ["ACTIVATIONS", "LAYERS", "Layer", "read_layer"]

LAYERS = ("Dense", "Dropout", "LayerNorm", "Normalize")
ACTIVATIONS = ("ELU", "GELU", "Identity", "LeakyReLU", "Mish", "ReLU", "SELU", "SiLU", "Sigmoid", "Softplus", "Tanh")
_VECTOR = "sentence_embedding"  # name of the vector of a text in the library


@dataclass(frozen=True)
class Layer:
    """Settings of a layer on the vectors of texts.

    Parameters
    ----------
    kind : str
        Kind of layer, one of `LAYERS`.
    path : str
        Folder of the layer inside the model.
    given, width : int
        Numbers of input and output channels.
    bias, residual : bool, default=False
        Whether a Dense has a bias, and whether its input is added to its output.
    activation : str, default="Identity"
        Activation of a Dense, one of `ACTIVATIONS`.
    rate : float, default=0.0
        Rate of a Dropout.
    """

    kind: str
    path: str
    given: int
    width: int
    bias: bool = False
    residual: bool = False
    activation: str = "Identity"
    rate: float = 0.0


def read_layer(files: ModelFiles, kind: str, path: str, given: int) -> Layer:
    """Read the settings of a layer.

    Parameters
    ----------
    files : ModelFiles
        Files of the model.
    kind, path : str
        Kind and folder of the layer.
    given : int
        Number of output channels of the layer before it.

    Raises
    ------
    BackboneNotFoundError
        If it does not work on the vectors of texts, or its activation is not supported.
    WeightsError
        If its settings are missing, damaged, or do not fit the layer before it.
    """
    where = f"{files.root}/{path}/config.json"
    settings = files.read(f"{path}/config.json")
    if settings is None and kind != "Normalize":
        raise WeightsError(f"{where}: is missing; it contains the settings of a {kind}")
    settings = settings or {}
    for key in ("module_input_name", "module_output_name"):
        if settings.get(key) not in (None, _VECTOR):
            raise BackboneNotFoundError(f"{where}: {key} is {settings[key]!r}; only {_VECTOR!r} is supported")
    if kind == "Dense":
        return _dense(settings, path, given, where)
    if kind == "LayerNorm":
        _check_width(settings, "dimension", given, where)
    rate = settings.get("dropout", 0.2) if kind == "Dropout" else 0.0
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
        raise WeightsError(f"{where}: dropout is {rate!r}; it must be a number from 0 to 1")
    return Layer(kind, path, given, given, rate=rate)


def _dense(settings: Mapping[str, Any], path: str, given: int, where: str) -> Layer:
    _check_width(settings, "in_features", given, where)
    name = settings.get("activation_function", "torch.nn.modules.activation.Tanh")
    module, _, activation = str(name).rpartition(".")
    if not f"{module}.".startswith("torch.nn.") or activation not in ACTIVATIONS:
        raise BackboneNotFoundError(
            f"{where}: activation_function is {name!r}; supported are {', '.join(ACTIVATIONS)} of torch.nn"
        )
    return Layer(
        "Dense",
        path,
        given,
        positive(settings.get("out_features"), f"{where}: out_features"),
        bias=bool(settings.get("bias", True)),
        residual=bool(settings.get("use_residual", False)),
        activation=activation,
    )


def _check_width(settings: Mapping[str, Any], key: str, given: int, where: str) -> None:
    if settings.get(key) != given:
        raise WeightsError(f"{where}: {key} is {settings.get(key)!r}, and the layer before it gives {given} channels")
