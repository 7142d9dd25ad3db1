"""Provider `clip/<hub id or local folder>`, with `#text` for the tower of texts. Imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sktransfer.backbones import BackboneSpec, WeightsSource, hookimpl, hub_file, local_path
from sktransfer.exceptions import BackboneNotFoundError, WeightsError

__all__ = ["PROVIDER", "TEXT", "sktransfer_backbones", "sktransfer_find_backbone"]

PROVIDER = "clip"
TEXT = "#text"  # suffix of a model's name for its tower of texts
PROJECTION = "projection"
_LOADER = "sktransfer_clip.load:load"
# Defaults of transformers: width, number of layers, and side of images or number of positions.
_DEFAULTS: dict[str, dict[str, int]] = {
    "vision": {"hidden_size": 768, "num_hidden_layers": 12, "image_size": 224},
    "text": {"hidden_size": 512, "num_hidden_layers": 12, "max_position_embeddings": 77},
}
_PROJECTION_DIM = 512


@hookimpl
def sktransfer_backbones() -> list[BackboneSpec]:
    """Return no specs, because the members of an open family are found by name."""
    return []


@hookimpl
def sktransfer_find_backbone(name: str) -> BackboneSpec:
    """Return the spec of one tower of a CLIP model.

    Parameters
    ----------
    name : str
        A hub id (`owner/model`, `owner/model@revision`) or a local folder for the tower of images. The suffix `#text`
        selects the tower of texts.

    Raises
    ------
    BackboneNotFoundError
        If there is no such model or folder, or it is not a CLIP model.
    WeightsError
        If its files are missing or damaged, or may not or cannot be downloaded.
    """
    is_text = name.endswith(TEXT) and not local_path(name).exists()
    model = name.removesuffix(TEXT) if is_text else name
    folder = local_path(model)
    if model.startswith((".", "/", "~")) or folder.exists():
        folder = folder.resolve()  # unpickling may happen in another working directory
        config, own = _local(folder, "config.json"), folder / "preprocessor_config.json"
        return _spec(str(folder), f"file:{folder}", config, own if own.is_file() else None, is_text)
    backbone = f"{PROVIDER}/{model}"
    path = hub_file(model, "config.json", backbone)
    if path is None:
        raise WeightsError(f"{backbone!r}: this hub model has no config.json, so it is not a model of transformers")
    preprocessor = None if is_text else hub_file(model, "preprocessor_config.json", backbone)
    return _spec(model, f"hub:{model}", path, preprocessor, is_text)


def _local(folder: Path, file: str) -> Path:
    if not folder.is_dir():
        raise BackboneNotFoundError(
            f"'{PROVIDER}/{folder}' names a local folder that does not exist; hub ids have the form 'owner/model'"
        )
    if not (folder / file).is_file():
        raise WeightsError(
            f"'{PROVIDER}/{folder}' lacks {file}; save model and processor there with `save_pretrained(folder)`"
        )
    return folder / file


def _spec(model: str, location: str, config: Path, preprocessor: Path | None, is_text: bool) -> BackboneSpec:
    settings = _read(config)
    if settings.get("model_type") != "clip":
        raise BackboneNotFoundError(
            f"'{PROVIDER}/{model}' has model_type {settings.get('model_type')!r}, and only 'clip' is supported, with "
            "both towers; encoders of only images or only texts are named 'hf/...'"
        )
    tower = _tower(settings, "text" if is_text else "vision")
    width, n_layers, size = tower
    projection = int(settings.get("projection_dim") or _PROJECTION_DIM)
    layers = {f"layer{i}": width for i in range(1, n_layers + 1)}
    return BackboneSpec(
        name=f"{PROVIDER}/{model}{TEXT if is_text else ''}",
        loader=_LOADER,
        modality="text" if is_text else "image",
        stages={"embeddings": width, **layers, PROJECTION: projection},
        input_size=(size,) if is_text else (size, size),
        weights=WeightsSource(location=location),
        options={
            "config": {**settings, "architectures": None},  # both towers, also if it was saved with another head
            "preprocessor": None if preprocessor is None else _read(preprocessor),
        },
    )


def _tower(settings: Mapping[str, Any], name: str) -> tuple[int, int, int]:
    """Return width, number of layers, and input size of a tower."""
    # In transformers, the first of these takes precedence.
    own = settings.get(f"{name}_config_dict") or settings.get(f"{name}_config") or {}
    width, n_layers, size = (own.get(key, default) for key, default in _DEFAULTS[name].items())
    return int(width), int(n_layers), int(size)


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(settings, dict):
        raise WeightsError(f"{path}: contains a {type(settings).__name__}, not settings by name")
    return settings
