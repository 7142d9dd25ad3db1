"""Networks whose weights are in the file: built by their name, or for transformers' by the settings in the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.loading import build_backbone
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.backbones.registry import registry
from sktransfer.backbones.spec import BackboneSpec
from sktransfer.backbones.tokens import Tokens
from sktransfer.config import config_context
from sktransfer.exceptions import LoadError
from sktransfer.persistence.parts import entry
from sktransfer.persistence.states import check_fingerprint, fill
from sktransfer.providers import huggingface

__all__ = ["rebuilt", "recipe_of"]

_LARGEST = 2**31  # of any whole number in the settings of a network


def recipe_of(backbone: Backbone, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that `rebuilt` needs beside weights.

    Parameters
    ----------
    backbone : Backbone
        As a spec's loader has made it.
    origin : mapping
        Its name, weights, seed, fingerprint and the key of its preprocessing.

    """
    if "has_head" in origin:  # it was rebuilt itself
        return dict(origin)
    recipe = {
        **origin,
        "has_head": backbone.head is not None,
        "pretrained": backbone.pretrained,
        "categories": list(backbone.categories),
        "transform": backbone.preprocess if isinstance(backbone.preprocess, ImageTransform) else None,
        "config": None,
        "preprocessor": None,
        "tokens": None,
    }
    spec = registry().find(origin["name"])
    if spec.loader != huggingface.LOADER:
        return recipe  # its package knows how to build it, and to read texts for it
    recipe["config"], recipe["preprocessor"] = dict(spec.options["config"]), spec.options["preprocessor"]
    if isinstance(backbone.preprocess, Tokens):
        recipe["tokens"] = _tokens_as_data(backbone.preprocess)
    return recipe


def _tokens_as_data(tokens: Tokens) -> dict[str, Any]:
    return {
        "tokenizer": tokens._tokenizer.to_str(),
        "limit": tokens.model_limit,
        "max_length": tokens.max_length,
        "pad_value": tokens.pad_value,
        "empty_value": tokens.empty_value,
        "side": tokens.side,
    }


def _tokens(data: Mapping[str, Any]) -> Tokens:
    text = entry(data, "tokenizer", str)
    try:
        tokenizer = Tokenizer.from_str(text)
    except BaseException as error:  # a panic of Rust code is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise LoadError(f"its tokenizer cannot be read ({error})") from error
    return Tokens(
        tokenizer,
        limit=entry(data, "limit", int),
        max_length=entry(data, "max_length", (int, type(None))),
        pad_value=entry(data, "pad_value", int),
        empty_value=entry(data, "empty_value", int),
        side=entry(data, "side", str, ("right", "left")),
    )


def rebuilt(recipe: dict[str, Any], state: dict[str, Tensor]) -> Backbone:
    """Return a backbone of the weights that were saved with it; nothing is looked for elsewhere.

    Parameters
    ----------
    recipe : dict
        As `recipe_of` gives it.
    state : dict of str to Tensor
        Weights of `stages` and `head`.

    Raises
    ------
    LoadError
        If the network cannot be built, or is another than was saved.
    """
    name = entry(recipe, "name", str)
    with config_context(download="never"):
        spec = _spec(recipe, name, state)
        if recipe["config"] is not None:
            _check_sizes(spec, state)
        backbone = _drawn(spec)
    if not entry(recipe, "has_head", bool):
        backbone.head = None
    parts = {"stages": backbone.stages} | ({} if backbone.head is None else {"head": backbone.head})
    own = nn.ModuleDict(parts).state_dict()
    fill(own, state, name)
    backbone.pretrained = entry(recipe, "pretrained", bool)
    backbone.categories = tuple(map(str, entry(recipe, "categories", list)))
    transform = entry(recipe, "transform", (ImageTransform, type(None)))
    if transform is not None:
        backbone.preprocess = transform
    check_fingerprint(backbone, entry(recipe, "fingerprint", str))
    if backbone.preprocess.key != entry(recipe, "preprocess", str):
        raise LoadError(f"the preprocessing of {name} is {backbone.preprocess.key}, and was {recipe['preprocess']}")
    backbone.origin = (rebuilt, (recipe, {key: value.detach() for key, value in own.items()}))
    return backbone


def _spec(recipe: Mapping[str, Any], name: str, state: Mapping[str, Tensor]) -> BackboneSpec:
    config = entry(recipe, "config", (dict, type(None)))
    if config is None:
        return registry().find(name)
    for number in _numbers(config):
        if abs(number) > _LARGEST:
            raise LoadError(f"the settings of {name} hold the number {number}")
    family = huggingface.family_of(config, name)
    layers = config.get(*family.layers)
    n_layers = len(layers) if isinstance(layers, list) else layers
    deepest = max([n_layers, *(layers if isinstance(layers, list) else [])])
    if deepest > len(state):
        raise LoadError(f"the settings of {name} ask for {deepest} layers, and it has {len(state)} tensors")
    spec = huggingface.make_spec(name, config, None, f"file:{name}")
    preprocessor = entry(recipe, "preprocessor", (dict, type(None)))
    tokens = entry(recipe, "tokens", (dict, type(None)))
    options = {**spec.options, "preprocessor": preprocessor, "tokens": None if tokens is None else _tokens(tokens)}
    if spec.modality == "text" and tokens is None:
        raise LoadError(f"the tokenizer of {name} is missing")
    return dataclasses.replace(spec, options=options)


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int):
        yield value


def _check_sizes(spec: BackboneSpec, state: Mapping[str, Tensor]) -> None:
    """Raise where a network would be larger than the weights in the file: before it takes memory."""
    with torch.device("meta"):
        own = _drawn(spec).stages.state_dict()
    for key, value in own.items():
        saved = state.get(f"stages.{key}")
        if saved is None or saved.shape != value.shape:
            found = None if saved is None else tuple(saved.shape)
            raise LoadError(f"the weights of {spec.name}: {key} is {found}, and must be {tuple(value.shape)}")


def _drawn(spec: BackboneSpec) -> Backbone:
    """Return a network with random weights."""
    with torch.random.fork_rng(devices=[]):
        return build_backbone(spec, None)
