"""Specs of backbones, read from the folders of their weights. Imports nothing heavy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from sktransfer.backbones import BackboneSpec, WeightsSource
from sktransfer.exceptions import WeightsError
from sktransfer_historic.awd_names import BIAS, TABLE, names_in_file, shapes_of
from sktransfer_historic.files import awd_vocabulary, awd_weights, elmo_options, elmo_weights

__all__ = ["AWD_LIMIT", "ELMO_LIMIT", "awd_lstm_spec", "elmo_spec"]

AWD_LIMIT = 1440  # tokens that fastai's classifier pools: 20 times the 72 of a step
ELMO_LIMIT = 512  # tokens; the network has no limit, and was trained on single sentences
_N_CHARACTERS = 262  # bytes, marks and padding
_NEEDED = {
    "lstm": ("projection_dim", "dim", "n_layers", "cell_clip", "proj_clip"),
    "char_cnn": ("embedding", "filters", "n_highway", "n_characters", "max_characters_per_token", "activation"),
}
_ACTIVATIONS = ("relu", "tanh")


def awd_lstm_spec(name: str, folder: Path, dropout: float) -> BackboneSpec:
    """Return the spec of a folder of fastai's files.

    Parameters
    ----------
    name : str
        Name of the backbone.
    folder : Path
        Folder with one file of weights and one vocabulary.
    dropout : float
        Factor of the rates of dropout.

    Raises
    ------
    WeightsError
        If files are missing, or cannot be read.
    """
    path, vocabulary = awd_weights(folder), awd_vocabulary(folder)
    shapes = shapes_of(path)
    ours = {own: shapes[file] for own, file in names_in_file(shapes, path).items()}
    widths = [ours[TABLE][1], *(shape[1] for own, shape in ours.items() if own.endswith("weight_hh_l0"))]
    n_words = ours[TABLE][0]
    return BackboneSpec(
        name=name,
        loader="sktransfer_historic.awd_lstm:load",
        modality="text",
        stages={"words": widths[0], **{f"lstm{i}": width for i, width in enumerate(widths[1:], start=1)}},
        input_size=(AWD_LIMIT,),
        weights=WeightsSource(location=f"file:{folder}"),
        n_parameters=sum(map(math.prod, ours.values())) + math.prod(shapes.get(BIAS, (0,))),
        n_embedding_parameters=n_words * widths[0],
        language="en",
        options={"vocabulary": str(vocabulary), "n_words": n_words, "widths": widths, "dropout": dropout},
    )


def elmo_spec(name: str, folder: Path) -> BackboneSpec:
    """Return the spec of a folder.

    Parameters
    ----------
    name : str
        Name of the backbone.
    folder : Path
        Folder with one file `*options.json` and one file `*weights.hdf5`.

    Raises
    ------
    WeightsError
        If files are missing, or the options are not those of ELMo.
    """
    options = _read_options(elmo_options(folder))
    elmo_weights(folder)
    width = 2 * int(options["lstm"]["projection_dim"])
    layers = {f"lstm{i}": width for i in range(1, int(options["lstm"]["n_layers"]) + 1)}
    return BackboneSpec(
        name=name,
        loader="sktransfer_historic.elmo:load",
        modality="text",
        stages={"words": width, **layers},
        input_size=(ELMO_LIMIT,),
        weights=WeightsSource(location=f"file:{folder}"),
        language="en",
        options={name: {one: options[name][one] for one in needed} for name, needed in _NEEDED.items()},
    )


def _read_options(path: Path) -> dict[str, Any]:
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
        missing = [f"{part}.{one}" for part, needed in _NEEDED.items() for one in needed if one not in options[part]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: cannot be read as options of ELMo ({type(error).__name__}: {error})") from error
    if missing:
        raise WeightsError(f"{path}: lacks {missing}, which the options of AllenNLP's ELMo have")
    if options["lstm"].get("use_skip_connections") is not True:
        raise WeightsError(f"{path}: use_skip_connections must be true, as in all published weights of ELMo")
    if options["char_cnn"]["activation"] not in _ACTIVATIONS:
        raise WeightsError(f"{path}: activation={options['char_cnn']['activation']!r} must be one of {_ACTIVATIONS}")
    n_characters = int(options["char_cnn"]["n_characters"])
    if n_characters != _N_CHARACTERS:
        raise WeightsError(
            f"{path}: n_characters={n_characters} must be {_N_CHARACTERS}, the number for inference. Options for "
            "training have 261, so change it"
        )
    return dict(options)
