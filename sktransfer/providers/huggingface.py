"""Provider `hf/<hub id or local folder>`: models of transformers, found by name. Imports nothing heavy.

`huggingface_models.json` has the facts of common text encoders, which are listed: the settings that differ from the
defaults of transformers, the size of model.safetensors, language and licence, as the pages of the models on the hub
state them, and the published accuracy with its source. `benchmarks/spec_tables.py` computes the numbers of parameters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from sktransfer.backbones import BackboneSpec, WeightsSource, hookimpl, hub_file, local_path, require_field
from sktransfer.exceptions import BackboneNotFoundError, LoadError, WeightsError

__all__ = [
    "FAMILIES",
    "LOADER",
    "TABLE",
    "Family",
    "family_of",
    "make_spec",
    "sktransfer_backbones",
    "sktransfer_find_backbone",
    "spec_from_state",
    "spec_to_state",
]

LOADER = "sktransfer.providers.huggingface_load:load"
TABLE = Path(__file__).with_name("huggingface_models.json")
_FACTS = ("licence", "n_parameters", "n_embedding_parameters", "accuracy", "language")  # fields of a spec
_MAX_NUMBER = 2**31  # largest integer accepted in settings that are read from a saved file


@dataclass(frozen=True)
class Family:
    """Settings in the configurations of one model type, each with the default value of transformers.

    Parameters
    ----------
    modality : {"image", "text"}
        Kind of samples.
    layers, width : (str, value)
        Name and default of the number of layers and of their width. Both are lists for ConvNeXt.
    size : (str, value) or None
        Name and default of the number of positions, or of the side of images. None for models of images of any size,
        whose input size is set by their preprocessing.
    reserved : int, default=0
        Number of positions that tokens cannot use.
    stage : str, default="layer"
        Prefix of the names of the stages after the embeddings.
    """

    modality: str
    layers: tuple[str, Any]
    width: tuple[str, Any]
    size: tuple[str, int] | None
    reserved: int = 0
    stage: str = "layer"


def _encoder(layers: int = 12, width: int = 768, positions: int = 512, reserved: int = 0) -> Family:
    layer_names, size = ("num_hidden_layers", layers), ("max_position_embeddings", positions)
    return Family("text", layer_names, ("hidden_size", width), size, reserved)


_GPT = ("n_layer", 12), ("n_embd", 768)
_VIT = Family("image", ("num_hidden_layers", 12), ("hidden_size", 768), ("image_size", 224))
_DINO = replace(_VIT, size=None)
_CONVNEXT = Family("image", ("depths", [3, 3, 9, 3]), ("hidden_sizes", [96, 192, 384, 768]), None, stage="stage")

FAMILIES: Mapping[str, Family] = {
    "albert": _encoder(width=4096),
    "bert": _encoder(),
    "deberta-v2": _encoder(24, 1536),
    "distilbert": Family("text", ("n_layers", 6), ("dim", 768), ("max_position_embeddings", 512)),
    "electra": _encoder(width=256),
    "gpt2": Family("text", *_GPT, ("n_positions", 1024)),
    "modernbert": _encoder(22, 768, 8192),
    "mpnet": _encoder(reserved=2),  # positions start after the padding position
    "openai-gpt": Family("text", *_GPT, ("n_positions", 512)),
    "roberta": _encoder(reserved=2),
    "xlm-roberta": _encoder(reserved=2),
    "convnext": _CONVNEXT,
    "convnextv2": _CONVNEXT,
    "dinov2": _DINO,
    "dinov2_with_registers": _DINO,
    "vit": _VIT,
}


@hookimpl
def sktransfer_backbones() -> list[BackboneSpec]:
    """Return summaries of common text encoders. Other members of the family are found by name."""
    specs = [make_spec(f"hf/{name}", row["config"], None, f"hub:{name}") for name, row in _table().items()]
    return [replace(_with_facts(spec), options={}, summary=True) for spec in specs]


@cache
def _table() -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


def _with_facts(spec: BackboneSpec) -> BackboneSpec:
    """Return the spec of a model with its facts, if it is listed."""
    row = _table().get(spec.name.removeprefix("hf/"))
    if row is None or spec.weights is None:
        return spec
    facts = {name: row[name] for name in _FACTS}
    return replace(spec, weights=replace(spec.weights, size=row["size"]), **facts)


@hookimpl
def sktransfer_find_backbone(name: str) -> BackboneSpec:
    """Return the spec of a model of transformers.

    Parameters
    ----------
    name : str
        A hub id (`owner/model`, `owner/model@revision`) or a local folder.

    Raises
    ------
    BackboneNotFoundError
        If there is no such model or folder, or its type is not supported.
    WeightsError
        If its configuration is missing or cannot be read, or may not or cannot be downloaded.
    """
    folder = local_path(name)
    if name.startswith((".", "/", "~")) or folder.exists():
        return _spec_of_folder(name, folder)
    path = hub_file(name, "config.json")
    if path is None:
        raise WeightsError(f"'hf/{name}': this hub model has no config.json, so it is not a model of transformers")
    config = _read(path)
    images = family_of(config, f"hf/{name}").modality == "image"
    preprocessor = hub_file(name, "preprocessor_config.json") if images else None
    return _with_facts(_reading_all(make_spec(f"hf/{name}", config, preprocessor, f"hub:{name}")))


def _reading_all(spec: BackboneSpec) -> BackboneSpec:
    """Return a spec whose loader also reads the settings of sentence-transformers in the folder of the model."""
    return replace(spec, options={**spec.options, "sentence": True}) if spec.modality == "text" else spec


def _spec_of_folder(name: str, folder: Path) -> BackboneSpec:
    if folder.is_file():
        raise BackboneNotFoundError(
            f"'hf/{name}' names a file, and a model of transformers is a folder: name the folder with config.json and "
            f"the weights, 'hf/{Path(name).parent}', or pass the file as weights= with the name of its network"
        )
    if not folder.is_dir():
        raise BackboneNotFoundError(
            f"'hf/{name}' names a local folder, but {folder.absolute()} does not exist; hub ids have the form "
            "'owner/model'"
        )
    if not (folder / "config.json").is_file():
        if (folder / "modules.json").is_file():
            raise WeightsError(
                f"'hf/{name}': {folder.absolute()} is a model of sentence-transformers, whose parts lie in folders of "
                f"their own. Name it 'sentence-transformers/{name}', with the plugin sktransfer-sentence-transformers"
            )
        names = sorted(path.name for path in folder.iterdir())[:8]
        raise WeightsError(
            f"'hf/{name}': {folder.absolute()} lacks config.json (a model's folder contains config.json, "
            f"model.safetensors and, for texts, tokenizer.json; this one contains {names}). Save it there with "
            "`model.save_pretrained(folder)`."
        )
    folder = folder.resolve()  # unpickling may happen in another working directory
    preprocessor = folder / "preprocessor_config.json"
    config = _read(folder / "config.json")
    spec = make_spec(f"hf/{folder}", config, preprocessor if preprocessor.is_file() else None, f"file:{folder}")
    return _reading_all(spec)


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: contains a {type(config).__name__}, not the settings of a model")
    return config


def family_of(config: Mapping[str, Any], name: str) -> Family:
    """Return the family of a configuration.

    Parameters
    ----------
    config : mapping
        Contents of `config.json`.
    name : str
        Name of the backbone in error messages.

    Raises
    ------
    BackboneNotFoundError
        If its model type is not supported.
    """
    kind = str(config.get("model_type"))
    if kind not in FAMILIES:
        raise BackboneNotFoundError(
            f"{name!r} has model_type {kind!r}, which is not supported; supported are {', '.join(sorted(FAMILIES))}"
        )
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise BackboneNotFoundError(
            f"{name!r} has position_embedding_type={config['position_embedding_type']!r}, which transformers no longer "
            "supports; only 'absolute' is supported"
        )
    return FAMILIES[kind]


def make_spec(name: str, config: dict[str, Any], preprocessor: Path | None, location: str) -> BackboneSpec:
    """Return the spec of a model.

    Parameters
    ----------
    name : str
        Name of the backbone.
    config : dict
        Contents of `config.json`.
    preprocessor : Path or None
        Path of `preprocessor_config.json`, if any.
    location : str
        Location of its weights, for `WeightsSource`.

    Raises
    ------
    BackboneNotFoundError
        If its model type is not supported.
    WeightsError
        If a setting is not valid.
    """
    family = family_of(config, name)
    try:
        stages, size = _stages(family, config), _size(family, config)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{name!r}: its config.json has an invalid setting ({error})") from error
    return BackboneSpec(
        name=name,
        loader=LOADER,
        modality=family.modality,
        stages=stages,
        input_size=size,
        weights=WeightsSource(location=location),
        options={"config": config, "preprocessor": None if preprocessor is None else _read(preprocessor)},
    )


def _stages(family: Family, config: Mapping[str, Any]) -> dict[str, int]:
    layers, width = config.get(*family.layers), config.get(*family.width)
    widths = [int(value) for value in width] if isinstance(width, list) else [int(width)] * int(layers)
    return {"embeddings": widths[0]} | {f"{family.stage}{i}": value for i, value in enumerate(widths, start=1)}


def _size(family: Family, config: Mapping[str, Any]) -> tuple[int, ...] | None:
    if family.size is None:
        return None
    size = config.get(*family.size)
    if family.modality == "text":
        return (int(size) - family.reserved,)
    height, width = size if isinstance(size, list) else (size, size)
    return int(height), int(width)


def spec_to_state(spec: BackboneSpec) -> dict[str, Any] | None:
    """Return the settings that `spec_from_state` needs, or None for a spec of another provider."""
    if spec.loader != LOADER:
        return None
    return {"config": dict(spec.options["config"]), "preprocessor": spec.options["preprocessor"]}


def spec_from_state(name: str, state: Mapping[str, Any], *, tokens: Any, max_layers: int) -> BackboneSpec:
    """Return the spec of a backbone whose weights are in a saved file.

    Parameters
    ----------
    name : str
        Name of the backbone.
    state : mapping
        Output of `spec_to_state`, read from a file.
    tokens : Tokens or None
        Tokenisation of a text backbone.
    max_layers : int
        Number of tensors in the file, the upper limit of the number of layers.

    Raises
    ------
    LoadError
        If settings are missing, or describe a network that is larger than the file.
    """
    config = require_field(state, "config", dict)
    for number in _ints(config):
        if abs(number) > _MAX_NUMBER:
            raise LoadError(f"the settings of {name} hold the number {number}")
    layers = config.get(*family_of(config, name).layers)
    depths = layers if isinstance(layers, list) else []
    deepest = max([len(depths) if depths else layers, *depths])
    if deepest > max_layers:
        raise LoadError(f"the settings of {name} ask for {deepest} layers, and it has {max_layers} tensors")
    spec = make_spec(name, config, None, f"file:{name}")
    if spec.modality == "text" and tokens is None:
        raise LoadError(f"the tokenizer of {name} is missing")
    preprocessor = require_field(state, "preprocessor", (dict, type(None)))
    return replace(spec, options={**spec.options, "preprocessor": preprocessor, "tokens": tokens})


def _ints(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _ints(item)
    elif isinstance(value, int):
        yield value
