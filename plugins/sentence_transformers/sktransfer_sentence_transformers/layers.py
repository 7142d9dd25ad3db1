"""What may follow the pooling, as data. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sktransfer.exceptions import BackboneNotFoundError, WeightsError
from sktransfer_sentence_transformers.files import ModelFiles, positive

__all__ = ["ACTIVATIONS", "LAYERS", "Layer", "read_layer"]

LAYERS = ("Dense", "Dropout", "LayerNorm", "Normalize")
ACTIVATIONS = ("ELU", "GELU", "Identity", "LeakyReLU", "Mish", "ReLU", "SELU", "SiLU", "Sigmoid", "Softplus", "Tanh")
_VECTOR = "sentence_embedding"  # what the library calls the vector of a text, among others that a layer may name


@dataclass(frozen=True)
class Layer:
    """A layer on the vectors of texts.

    Parameters
    ----------
    kind : str
        One of `LAYERS`.
    path : str
        Its folder inside the model.
    given, width : int
        Channels that it takes and gives.
    bias, residual : bool, default=False
        Of a Dense: whether it has a bias, and whether its input is added to its output.
    activation : str, default="Identity"
        Of a Dense: one of `ACTIVATIONS`.
    rate : float, default=0.0
        Of a Dropout.
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
        The model's.
    kind, path : str
        As in `Layer`.
    given : int
        Channels that the layer before it gives.

    Raises
    ------
    BackboneNotFoundError
        If it works on anything but the vectors of texts, or has an activation that is not known.
    WeightsError
        If its settings are missing, damaged, or do not fit.
    """
    where = f"{files.root}/{path}/config.json"
    settings = files.read(f"{path}/config.json")
    if settings is None and kind != "Normalize":
        raise WeightsError(f"{where}: is missing; it holds the settings of a {kind}")
    settings = settings or {}
    for key in ("module_input_name", "module_output_name"):
        if settings.get(key) not in (None, _VECTOR):
            raise BackboneNotFoundError(f"{where}: {key} is {settings[key]!r}; supported is {_VECTOR!r} alone")
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
        raise WeightsError(f"{where}: {key} is {settings.get(key)!r}, and what comes before it gives {given} channels")
