"""Codec of backbones: by name and hash, or with embedded weights. Trained stages are always written with weights.

A backbone is saved by its `origin`, the function and arguments that make it again. The codec is not a pair of methods
of `Backbone`, because `from_state` would need the loader of backbones, which imports `Backbone`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer._validation import require_field
from sktransfer.backbones.backbone import Backbone, replace_stages, restore_stages, with_max_length, with_preprocess
from sktransfer.backbones.generators import private_draws
from sktransfer.backbones.language import LM_KINDS, HeldHead, own_state
from sktransfer.backbones.loading import build_backbone, restore_backbone
from sktransfer.backbones.pooling import pooling_names
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.backbones.registry import registry
from sktransfer.backbones.spec import BackboneSpec
from sktransfer.backbones.tokens import Tokens
from sktransfer.config import config_context
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.objectives.heads import with_new_lm_head
from sktransfer.persistence.context import Codec, LoadContext, SaveContext
from sktransfer.providers.huggingface import spec_from_state, spec_to_state
from sktransfer.towers.joined import JoinedBackbone
from sktransfer.weights.reading import copy_state

__all__ = ["CODECS", "rebuild_backbone"]

_REFERENCE = ("name", "weights", "seed", "fingerprint", "preprocess", "properties")  # arguments of restore_backbone


def _encode(backbone: Backbone, context: SaveContext) -> dict[str, Any]:
    function, arguments = backbone.origin or (None, ())
    if function is replace_stages:
        return {"origin": "trained", **_encode_trained(backbone, *arguments)}
    if function is with_max_length:
        return {"origin": "max_length", "source": arguments[0], "max_length": arguments[1]}
    if function is with_preprocess:
        if not isinstance(backbone.preprocess, ImageTransform):
            kind = type(backbone.preprocess).__name__
            raise SaveError(f"the preprocessing of {backbone!r}, a {kind}, cannot be saved")
        return {"origin": "preprocess", "source": arguments[0], "preprocess": backbone.preprocess}
    if function is with_new_lm_head:
        return {"origin": "new_lm_head", "source": arguments[0], "kind": arguments[1]}
    if function is rebuild_backbone:
        recipe = arguments[0]
    elif function is restore_backbone:
        recipe = dict(zip(_REFERENCE, arguments, strict=True))
        recipe["weights"] = str(recipe["weights"])
    else:
        raise SaveError(
            f"{backbone!r} is made of your own modules, or its weights were changed in place, and a file "
            "without code cannot describe it. "
            "Offer it as a plugin (a BackboneSpec whose loader makes the modules): then its name is saved. Or use "
            "joblib.dump, and load only files of your own"
        )
    if not context.embed:
        return {"origin": "reference", **{name: recipe[name] for name in _REFERENCE}}
    return {"origin": "embedded", "recipe": _recipe(backbone, recipe), "state": _state(backbone)}


def _state(backbone: Backbone) -> dict[str, Tensor]:
    """Return the tensors of stages and heads, those that the language-model head shares with stages once."""
    parts = nn.ModuleDict({"stages": backbone.stages} | ({} if backbone.head is None else {"head": backbone.head}))
    lm_head = backbone.lm_head
    own = {} if lm_head is None else own_state(lm_head, backbone.stages)
    return dict(parts.state_dict()) | {f"lm_head.{name}": tensor for name, tensor in own.items()}


def _recipe(backbone: Backbone, reference: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything except the weights that `rebuild_backbone` needs."""
    if "has_head" in reference:  # the backbone was itself rebuilt from embedded weights
        return dict(reference)
    # Packages of other providers know how to build their networks, and how to read texts for them.
    spec = spec_to_state(registry().find(reference["name"]))
    return {
        **reference,
        "has_head": backbone.head is not None,
        "has_lm_head": backbone.lm_head is not None,
        "pretrained": backbone.pretrained,
        "categories": list(backbone.categories),
        "pooling": backbone.pooling,
        "unit_length": backbone.unit_length,
        "transform": backbone.preprocess if isinstance(backbone.preprocess, ImageTransform) else None,
        "tokens": backbone.preprocess if spec is not None and isinstance(backbone.preprocess, Tokens) else None,
        "spec": spec,
    }


def _encode_trained(
    backbone: Backbone, source: Backbone, first: int, modules: list[nn.Module], lm_state: Mapping[str, Tensor] | None
) -> dict[str, Any]:
    stop = first + len(modules)
    trained, original = nn.ModuleList(modules), source.stages[first:stop]
    if repr(trained) != repr(original) or _layout(trained) != _layout(original):
        raise SaveError(f"the trained stages of {backbone!r} are not built like those of {source!r}")
    return {
        "source": source,
        "first": first,
        "stop": stop,
        "state": dict(trained.state_dict()),
        "lm_state": None if lm_state is None else dict(lm_state),
        "fingerprint": backbone.fingerprint(),
    }


def _layout(modules: nn.Module) -> dict[str, tuple[Any, ...]]:
    state = modules.state_dict().items()
    return {name: (tuple(v.shape), v.dtype) if isinstance(v, Tensor) else (type(v),) for name, v in state}


def _decode(data: dict[str, Any], context: LoadContext) -> Backbone:
    backbone: Backbone = _DECODERS[require_field(data, "origin", str, tuple(_DECODERS))](data)
    if data["origin"] == "reference" and backbone.origin is not None:
        name, weights, *_ = backbone.origin[1]
        context.moved |= {data[key]: now for key, now in (("name", name), ("weights", weights)) if now != data[key]}
    return backbone


def _decode_reference(data: dict[str, Any]) -> Backbone:
    weights = require_field(data, "weights", str)
    if weights not in ("pretrained", "random"):
        path = Path(weights)
        if path.exists() and not path.is_file() and not path.is_dir():
            raise LoadError(f"weights={weights!r} is neither a file nor a folder")
    name, seed = require_field(data, "name", str), require_field(data, "seed", int)
    fingerprint, preprocess = require_field(data, "fingerprint", str), require_field(data, "preprocess", str)
    properties = require_field(data, "properties", dict)
    try:
        return restore_backbone(name, weights, seed, fingerprint, preprocess, properties)
    except Exception as error:
        reason = str(error).rstrip(".")
        raise LoadError(
            f"{name} (weights={weights!r}) was saved by name and hash, and the same backbone cannot be loaded here: "
            f"{reason}. A file saved with weights='embed' holds all weights itself"
        ) from error


def _decode_embedded(data: dict[str, Any]) -> Backbone:
    return rebuild_backbone(require_field(data, "recipe", dict), require_field(data, "state", dict))


def _decode_preprocess(data: dict[str, Any]) -> Backbone:
    source, preprocess = require_field(data, "source", Backbone), require_field(data, "preprocess", ImageTransform)
    if source.modality != "image":
        raise LoadError(f"{preprocess!r} does not fit {source.name}, which takes {source.modality}s")
    backbone: Backbone = source.with_preprocess(preprocess)
    return backbone


def _decode_max_length(data: dict[str, Any]) -> Backbone:
    source, max_length = require_field(data, "source", Backbone), require_field(data, "max_length", int)
    if source.modality != "text":
        raise LoadError(f"{source.name} takes {source.modality}s, which have no max_length")
    return with_max_length(source, max_length)


def _decode_new_lm_head(data: dict[str, Any]) -> Backbone:
    source, kind = require_field(data, "source", Backbone), require_field(data, "kind", str, LM_KINDS)
    if source.modality != "text":
        raise LoadError(f"{source.name} takes {source.modality}s, and no language-model head fits it")
    return with_new_lm_head(source, kind)


def _decode_trained(data: dict[str, Any]) -> Backbone:
    source = require_field(data, "source", Backbone)
    first, stop = require_field(data, "first", int), require_field(data, "stop", int)
    lm_state = require_field({"lm_state": data.get("lm_state")}, "lm_state", (dict, type(None)))
    backbone: Backbone = restore_stages(source, first, stop, require_field(data, "state", dict), lm_state)
    if lm_state is not None and backbone.lm_head is None:
        raise LoadError(f"{source.name} has no language-model head, and a trained one was saved")
    _check_fingerprint(backbone, require_field(data, "fingerprint", str))
    return backbone


_DECODERS: dict[str, Any] = {
    "embedded": _decode_embedded,
    "max_length": _decode_max_length,
    "new_lm_head": _decode_new_lm_head,
    "preprocess": _decode_preprocess,
    "reference": _decode_reference,
    "trained": _decode_trained,
}


def rebuild_backbone(recipe: dict[str, Any], state: dict[str, Tensor]) -> Backbone:
    """Build a backbone from embedded weights, without network access.

    It is the `origin` of the backbone that it returns.

    Parameters
    ----------
    recipe : dict
        Name, preprocessing and settings of the backbone, as read from a file.
    state : dict of str to Tensor
        Weights of its stages and head.

    Raises
    ------
    LoadError
        If the network cannot be built, or is not the one that was saved.
    """
    name = require_field(recipe, "name", str)
    with config_context(download="never"):
        backbone = _build(name, recipe, state)
    if not require_field(recipe, "has_head", bool):
        backbone.head = None
    has_lm_head = require_field({"has_lm_head": recipe.get("has_lm_head", False)}, "has_lm_head", bool)
    with private_draws():  # its weights are loaded, too
        backbone._lm_head = HeldHead(backbone.lm_head) if has_lm_head else None
    own = _state(backbone)
    copy_state(own, state, name)
    backbone.pretrained = require_field(recipe, "pretrained", bool)
    backbone.categories = tuple(map(str, require_field(recipe, "categories", list)))
    backbone.pooling = require_field(recipe, "pooling", str, pooling_names(backbone.modality))
    backbone.unit_length = require_field(recipe, "unit_length", bool)
    transform = require_field(recipe, "transform", (ImageTransform, type(None)))
    if transform is not None:
        backbone.preprocess = transform
    _check_fingerprint(backbone, require_field(recipe, "fingerprint", str))
    if backbone.preprocess.key != require_field(recipe, "preprocess", str):
        raise LoadError(f"the preprocessing of {name} is {backbone.preprocess.key}, and was {recipe['preprocess']}")
    backbone.origin = (rebuild_backbone, (recipe, {key: value.detach() for key, value in own.items()}))
    return backbone


def _build(name: str, recipe: dict[str, Any], state: Mapping[str, Tensor]) -> Backbone:
    """Return the backbone of a recipe with random weights, after a check that it is not larger than the saved one."""
    settings = require_field(recipe, "spec", (dict, type(None)))
    if settings is None:
        return _random_backbone(registry().find(name))
    tokens = require_field(recipe, "tokens", (Tokens, type(None)))
    spec = spec_from_state(name, settings, tokens=tokens, max_layers=len(state))
    with torch.device("meta"):  # takes no memory
        own = _random_backbone(spec).stages.state_dict()
    for key, value in own.items():
        saved = state.get(f"stages.{key}")
        if saved is None or saved.shape != value.shape:
            shape = None if saved is None else tuple(saved.shape)
            raise LoadError(f"the weights of {name}: {key} is {shape}, and must be {tuple(value.shape)}")
    return _random_backbone(spec)


def _random_backbone(spec: BackboneSpec) -> Backbone:
    with private_draws():  # the weights are loaded
        backbone = build_backbone(spec, None)
    if not isinstance(backbone, Backbone):
        raise LoadError(f"{spec.name}: its loader does not return a Backbone")
    return backbone


def _check_fingerprint(backbone: Backbone, expected: str) -> None:
    fingerprint = backbone.fingerprint()
    if fingerprint != expected:
        raise LoadError(
            f"{backbone.name} is not the backbone that was saved: its fingerprint is {fingerprint}, and was "
            f"{expected}. Install the versions that the file's manifest.json names"
        )


def _encode_joined(backbone: JoinedBackbone, context: SaveContext) -> dict[str, Any]:
    return {
        "towers": dict(backbone.towers),
        "missing": backbone.missing,
        "networks": [list(names) for names, _ in backbone.networks],
        "fingerprint": backbone.fingerprint(),
    }


def _decode_joined(data: dict[str, Any], context: LoadContext) -> JoinedBackbone:
    towers = require_field(data, "towers", dict)
    if not all(isinstance(tower, Backbone) for tower in towers.values()):
        raise LoadError(f"the towers {list(towers)} of a joined backbone are not all backbones")
    networks = require_field(data, "networks", list)
    named = [name for names in networks for name in (names if isinstance(names, list) else [None])]
    if sorted(map(str, named)) != sorted(map(str, towers)) or not all(networks):
        raise LoadError(f"its networks are {networks!r}, of towers {list(towers)}")
    for first, *others in networks:
        for name in others:  # weights that towers share are one network again
            preprocess = towers[name].preprocess
            same = preprocess.key == towers[first].preprocess.key
            towers[name] = towers[first] if same else towers[first].with_preprocess(preprocess)
    backbone = JoinedBackbone(towers, require_field(data, "missing", str))
    _check_fingerprint(backbone, require_field(data, "fingerprint", str))
    return backbone


CODECS = (
    Codec("Backbone", "sktransfer.backbones.backbone:Backbone", _encode, _decode),
    Codec("JoinedBackbone", "sktransfer.towers.joined:JoinedBackbone", _encode_joined, _decode_joined),
)
