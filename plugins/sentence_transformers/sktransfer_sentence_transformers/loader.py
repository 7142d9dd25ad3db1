"""Loader: build the stages of the transformer, and a last stage that returns one vector per text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sktransfer.backbones import (
    Backbone,
    BackboneSpec,
    Tokens,
    WeightsSource,
    build_backbone,
    hub_file,
    hub_tokenizer,
)
from sktransfer.exceptions import WeightsError
from sktransfer_sentence_transformers.recipe import Recipe
from sktransfer_sentence_transformers.sentence import WEIGHTS, sentence_stage
from sktransfer_sentence_transformers.texts import texts_of

__all__ = ["load"]

_TRAINED = ("Dense", "LayerNorm")


def load(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Build a model of sentence-transformers as a backbone.

    Parameters
    ----------
    spec : BackboneSpec
        Spec of `sktransfer_find_backbone`.
    path : Path or None
        Folder of the model, or a file with the weights of a transformer without trained layers after it. None for
        random weights.

    Returns
    -------
    backbone : Backbone

    Raises
    ------
    WeightsError
        If weights or tokenizer cannot be read, or do not fit each other.
    """
    recipe: Recipe = spec.options["recipe"]
    if path is not None and not path.is_dir() and any(layer.kind in _TRAINED for layer in recipe.layers):
        raise WeightsError(
            f"{spec.name}: {path} is a single file, and this model has weights in several; give a folder "
            "saved by `SentenceTransformer(...).save(folder)`"
        )
    root = path if path is not None and path.is_dir() else None
    if root is not None:
        _fetch_layers(spec, recipe, root)
    home = root or _home(spec)  # folder of the tokenizer
    folder = home / recipe.transformer.path
    *names, last = spec.stages
    transformer = build_backbone(
        replace(
            spec,
            loader=spec.options["loader"],
            stages={name: spec.stages[name] for name in names},
            input_size=(spec.options["n_positions"],),
            weights=WeightsSource(location=f"file:{folder}"),
            options={"config": spec.options["transformer"], "preprocessor": None},
        ),
        folder if root else path,
    )
    assert isinstance(transformer.preprocess, Tokens)  # set for texts by the provider hf
    preprocess, prompt_length = texts_of(transformer.preprocess, folder, recipe, spec.options["n_positions"])
    return Backbone(
        name=spec.name,
        modality="text",
        stages=[*zip(names, transformer.stages), (last, sentence_stage(recipe, prompt_length, root))],
        preprocess=preprocess,
        pooling="mean",  # for the stages below the last one, which gives vectors
        definition=transformer.definition,
    )


def _fetch_layers(spec: BackboneSpec, recipe: Recipe, root: Path) -> None:
    """Download weights of layers that an interrupted download left out."""
    assert spec.weights is not None  # set by sktransfer_find_backbone
    scheme, _, model = spec.weights.location.partition(":")
    for layer in recipe.layers:
        folder = root / layer.path
        if scheme == "hub" and layer.kind in _TRAINED and not any((folder / name).is_file() for name in WEIGHTS):
            hub_file(model, f"{layer.path}/{WEIGHTS[0]}", spec.name)


def _home(spec: BackboneSpec) -> Path:
    assert spec.weights is not None  # set by sktransfer_find_backbone
    scheme, _, place = spec.weights.location.partition(":")
    return Path(place) if scheme == "file" else hub_tokenizer(place, spec.name)
