"""Backbones: by name and hash, or with their weights; what was trained of them with its weights in any case."""

from __future__ import annotations

import copy
import stat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.backbones.backbone import Backbone, replace_stages, with_max_length
from sktransfer.backbones.loading import restore_backbone
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.engine.inference import has_convolutions
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.architectures import rebuilt, recipe_of
from sktransfer.persistence.parts import Codec, Loading, Saving, entry
from sktransfer.persistence.states import check_fingerprint, fill

__all__ = ["BACKBONE"]


def _encode(backbone: Backbone, saving: Saving) -> dict[str, Any]:
    make: Any = None
    given: tuple[Any, ...] = ()
    if backbone.origin is not None:
        make, given = backbone.origin
    if make is replace_stages:
        return _encode_trained(backbone, saving, *given)
    if make is with_max_length:
        return {"how": "limit", "source": given[0], "limit": given[1]}
    if make is Backbone.with_preprocess:
        return {"how": "preprocess", "source": given[0], "preprocess": _settings(backbone)}
    if make is rebuilt:
        recipe, _ = given
    elif make is restore_backbone:
        recipe = dict(zip(("name", "weights", "seed", "fingerprint", "preprocess"), given, strict=True))
        recipe["weights"] = str(recipe["weights"])
    else:
        raise SaveError(
            f"{backbone!r} is made of your own modules, and no file without code can say what they compute. Offer it "
            "as a plugin (a BackboneSpec whose loader makes the modules): then its name is saved. Or use joblib.dump, "
            "and load none but your own files"
        )
    if not saving.embed:
        keys = ("name", "weights", "seed", "fingerprint", "preprocess")
        return {"how": "name", **{key: recipe[key] for key in keys}}
    state = saving.state(_network(backbone).state_dict())
    return {"how": "weights", "recipe": recipe_of(backbone, recipe), "state": state}


def _network(backbone: Backbone) -> nn.Module:
    parts = {"stages": backbone.stages} | ({} if backbone.head is None else {"head": backbone.head})
    return nn.ModuleDict(parts)


def _settings(backbone: Backbone) -> ImageTransform:
    if isinstance(backbone.preprocess, ImageTransform):
        return backbone.preprocess
    raise SaveError(f"the preprocessing of {backbone!r}, a {type(backbone.preprocess).__name__}, cannot be saved")


def _encode_trained(
    backbone: Backbone, saving: Saving, source: Backbone, first: int, modules: list[nn.Module]
) -> dict[str, Any]:
    stop = first + len(modules)
    state = nn.ModuleList(modules).state_dict()
    like = source.stages[first:stop]
    plain = {name: _form(value) for name, value in state.items()}
    if repr(like) != repr(nn.ModuleList(modules)) or plain != {n: _form(v) for n, v in like.state_dict().items()}:
        raise SaveError(f"the trained stages of {backbone!r} are not built as those of {source!r}")
    return {
        "how": "trained",
        "source": source,
        "first": first,
        "stop": stop,
        "state": saving.state(state),
        "fingerprint": backbone.fingerprint(),
    }


def _form(value: Any) -> tuple[Any, ...]:
    return (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else (type(value),)


def _decode(data: dict[str, Any], loading: Loading) -> Backbone:
    backbone: Backbone = _WAYS[entry(data, "how", str, tuple(_WAYS))](data, loading)
    return backbone


def _by_name(data: dict[str, Any], loading: Loading) -> Backbone:
    weights = entry(data, "weights", str)
    if weights not in ("pretrained", "random"):
        path = Path(weights)
        if path.exists() and not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise LoadError(f"weights={weights!r} is neither a file nor a folder")
    name, seed = entry(data, "name", str), entry(data, "seed", int)
    try:
        return restore_backbone(name, weights, seed, entry(data, "fingerprint", str), entry(data, "preprocess", str))
    except Exception as error:
        reason = str(error).rstrip(".")
        raise LoadError(
            f"{name} (weights={weights!r}) was saved by name and hash, and is not to be had here as it was: {reason}. "
            "Saved with weights='embed', a file holds all weights itself"
        ) from error


def _with_weights(data: dict[str, Any], loading: Loading) -> Backbone:
    return rebuilt(entry(data, "recipe", dict), loading.state(entry(data, "state", dict)))


def _with_preprocess(data: dict[str, Any], loading: Loading) -> Backbone:
    source: Backbone = entry(data, "source", Backbone)
    given = entry(data, "preprocess", ImageTransform)
    if source.modality != "image":
        raise LoadError(f"the preprocessing {given!r} is none for {source.name}")
    return source.with_preprocess(given)


def _with_limit(data: dict[str, Any], loading: Loading) -> Backbone:
    source, limit = entry(data, "source", Backbone), entry(data, "limit", int)
    if source.modality != "text":
        raise LoadError(f"{source.name} takes {source.modality}s, and has no limit of tokens")
    return with_max_length(source, limit)


def _trained(data: dict[str, Any], loading: Loading) -> Backbone:
    source, first, stop = entry(data, "source", Backbone), entry(data, "first", int), entry(data, "stop", int)
    if not 0 <= first <= stop <= len(source.stages):
        raise LoadError(f"{source.name} has no stages {first} to {stop}")
    modules = copy.deepcopy(nn.ModuleList(source.stages[first:stop]))  # one call: shared stays shared
    if has_convolutions(modules):
        modules = modules.to(memory_format=torch.channels_last)  # as training leaves them
    fill(modules.state_dict(), loading.state(entry(data, "state", dict)), source.name)
    backbone = replace_stages(source, first, list(modules))
    check_fingerprint(backbone, entry(data, "fingerprint", str))
    return backbone


_WAYS: dict[str, Any] = {
    "limit": _with_limit,
    "name": _by_name,
    "preprocess": _with_preprocess,
    "trained": _trained,
    "weights": _with_weights,
}
BACKBONE = Codec("Backbone", _encode, _decode)
