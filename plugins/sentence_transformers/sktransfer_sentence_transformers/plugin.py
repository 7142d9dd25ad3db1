"""Provider `sentence-transformers/<hub id or local folder>`. Imports nothing heavy."""

from __future__ import annotations

from sktransfer.backbones import BackboneSpec, WeightsSource, find_spec, hookimpl
from sktransfer.exceptions import BackboneNotFoundError, SktransferError, WeightsError
from sktransfer_sentence_transformers.files import ModelFiles, locate
from sktransfer_sentence_transformers.prompts import split_prompt
from sktransfer_sentence_transformers.recipe import read_recipe

__all__ = ["SENTENCE", "sktransfer_backbones", "sktransfer_find_backbone"]

SENTENCE = "sentence"  # last stage, after those of the transformer
_LOADER = "sktransfer_sentence_transformers.loader:load"


@hookimpl
def sktransfer_backbones() -> list[BackboneSpec]:
    """Return no specs, because the members of an open family are found by name."""
    return []


@hookimpl
def sktransfer_find_backbone(name: str) -> BackboneSpec:
    """Return the spec of a model of sentence-transformers.

    Parameters
    ----------
    name : str
        A hub id (`owner/model`, `owner/model@revision`, or `model` alone if sentence-transformers is the owner) or a
        local folder. The suffix `#query` selects the model's prompt of that name, and `#` alone no prompt.

    Raises
    ------
    BackboneNotFoundError
        If there is no such model, folder or prompt, or a part of the model is not supported.
    WeightsError
        If its files are missing or damaged, or may not or cannot be downloaded.
    """
    model, prompt = split_prompt(name)
    files = locate(model)
    recipe = read_recipe(files, prompt)
    transformer = _transformer(files, recipe.transformer.path)
    *_, width = transformer.stages.values()
    if width != recipe.width:
        raise WeightsError(f"{files.name!r}: its pooling takes {recipe.width} channels, its transformer gives {width}")
    assert transformer.input_size is not None  # set for texts by the provider hf
    (n_positions,) = transformer.input_size
    return BackboneSpec(
        name=files.name if prompt is None else f"{files.name}#{prompt}",
        loader=_LOADER,
        modality="text",
        stages={**transformer.stages, SENTENCE: recipe.n_features},
        input_size=(min(n_positions, recipe.transformer.max_tokens or n_positions),),
        weights=WeightsSource(location=files.location),
        options={
            "recipe": recipe,
            "transformer": {**transformer.options["config"], "architectures": None},  # without a head
            "loader": transformer.loader,
            "n_positions": n_positions,
            "state": files.state(recipe.folders),
        },
    )


def _transformer(files: ModelFiles, path: str) -> BackboneSpec:
    """Return the spec of the transformer alone, as a backbone `hf/...`."""
    folder = files.root / path
    try:
        if files.find(f"{path}/config.json" if path else "config.json") is None:
            raise WeightsError(f"{folder} lacks config.json")
        spec = find_spec(f"hf/{folder}")
    except SktransferError as error:
        raise type(error)(f"{files.name!r}: its transformer cannot be used: {error}") from error
    if spec.modality != "text":
        raise BackboneNotFoundError(f"{files.name!r}: its transformer takes {spec.modality}s, not texts")
    return spec
