"""Loader of ELMo from a folder of AllenNLP's files: options and weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.backbones import Backbone, BackboneSpec
from sktransfer.exceptions import WeightsError
from sktransfer_historic.elmo_layers import BidirectionalLayer, CharacterWords
from sktransfer_historic.elmo_words import ElmoWords
from sktransfer_historic.files import elmo_weights
from sktransfer_historic.specs import ELMO_LIMIT

__all__ = ["load"]


def load(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Build ELMo as a backbone.

    Parameters
    ----------
    spec : BackboneSpec
        Spec of `spec_of`.
    path : Path or None
        Folder or file of the weights. None for random weights.

    Returns
    -------
    backbone : Backbone

    Raises
    ------
    WeightsError
        If the weights cannot be read, or do not fit the options.
    """
    lstm, characters = spec.options["lstm"], spec.options["char_cnn"]
    width = int(lstm["projection_dim"])
    limits = [None if lstm[name] is None else float(lstm[name]) for name in ("cell_clip", "proj_clip")]
    layers = [
        BidirectionalLayer(width, int(lstm["dim"]), *limits, skip=index > 0) for index in range(int(lstm["n_layers"]))
    ]
    stages = nn.ModuleList([CharacterWords(characters, width), *layers])
    if path is not None:
        _fill(stages, path if path.is_file() else elmo_weights(path))
    return Backbone(
        name=spec.name,
        modality="text",
        stages=list(zip(spec.stages, stages, strict=True)),
        preprocess=ElmoWords(int(characters["max_characters_per_token"]), ELMO_LIMIT),
        pooling="mean",
        definition="historic/elmo",
    )


@torch.no_grad()
def _fill(stages: nn.ModuleList, path: Path) -> None:
    """Copy the weights of a file into the stages.

    Raises
    ------
    WeightsError
        If the file cannot be read, or lacks a weight, or has one of another shape.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            weights = _in_our_layout(file, len(stages) - 1)
    except (OSError, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as weights of ELMo ({type(error).__name__}: {error})") from error
    own = stages.state_dict()
    for name in sorted(own.keys() | weights):
        if name not in own or name not in weights or own[name].shape != weights[name].shape:
            found = tuple(weights[name].shape) if name in weights else "missing"
            needed = tuple(own[name].shape) if name in own else "not in the options"
            raise WeightsError(f"{path}: does not fit the options beside it: {name} is {found}, and must be {needed}")
        own[name].copy_(weights[name])


def _in_our_layout(file: Mapping[str, Any], n_layers: int) -> dict[str, Tensor]:
    """Return the weights by the names of our modules. TensorFlow's matrices have the inputs in rows."""
    table = np.asarray(file["char_embed"])  # (n_characters - 1, channels)
    arrays: dict[str, Any] = {"0.characters.weight": np.pad(table, ((1, 0), (0, 0)))}  # padding of the batch is 0
    sizes = sorted(int(name.removeprefix("W_cnn_")) for name in file["CNN"] if name.startswith("W_cnn_"))
    for size in sizes:
        kernel = np.asarray(file["CNN"][f"W_cnn_{size}"])[0]  # (length, channels, filters)
        arrays[f"0.convolutions.{size}.weight"] = kernel.transpose(2, 1, 0)  # (filters, channels, length)
        arrays[f"0.convolutions.{size}.bias"] = file["CNN"][f"b_cnn_{size}"]
    for index in range(sum(name.startswith("CNN_high_") for name in file)):
        for gate in ("transform", "carry"):
            part = file[f"CNN_high_{index}"]
            arrays[f"0.highways.{index}.{gate}.weight"] = np.asarray(part[f"W_{gate}"]).T
            arrays[f"0.highways.{index}.{gate}.bias"] = part[f"b_{gate}"]
    arrays["0.projection.weight"] = np.asarray(file["CNN_proj"]["W_proj"]).T
    arrays["0.projection.bias"] = file["CNN_proj"]["b_proj"]
    for layer in range(n_layers):
        for direction, ours in enumerate(("forwards", "backwards")):
            cell = file[f"RNN_{direction}"]["RNN"]["MultiRNNCell"][f"Cell{layer}"]["LSTMCell"]
            arrays |= _direction(cell, f"{layer + 1}.{ours}")
    return {name: torch.from_numpy(np.array(array, np.float32, order="C")) for name, array in arrays.items()}


def _direction(cell: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
    both = np.asarray(cell["W_0"])  # (inputs + outputs, 4 * n_cells)
    projection, bias = np.asarray(cell["W_P_0"]), np.array(cell["B"])  # (n_cells, outputs), (4 * n_cells,)
    n_outputs = projection.shape[1]
    bias.reshape(4, -1)[2] += 1  # TensorFlow adds 1 to the forget gate
    return {
        f"{name}.inputs.weight": both[:-n_outputs].T,  # (4 * n_cells, inputs)
        f"{name}.inputs.bias": bias,
        f"{name}.recurrent.weight": both[-n_outputs:].T,  # (4 * n_cells, outputs)
        f"{name}.projection.weight": projection.T,  # (outputs, n_cells)
    }
