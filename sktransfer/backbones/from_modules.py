"""Arguments of a backbone made of a user's own modules, validated and completed with defaults."""

from __future__ import annotations

import copy
import inspect
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sktransfer._validation import is_int
from sktransfer.backbones.language import LanguageModelHead
from sktransfer.backbones.naming import object_hint
from sktransfer.backbones.pooling import check_pooling, default_pooling
from sktransfer.backbones.preprocess import ImageTransform, Preprocess, TextPreprocess
from sktransfer.backbones.spec import MODALITIES, RESERVED
from sktransfer.backbones.stages import ImageStage, PooledHead
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.columns import quoted

__all__ = ["backbone_arguments", "has_statistics", "is_own", "misfit"]

_OWN = "own "  # start of the definition of backbones that are made here
_FORM = "modules must be a list of (name, module) pairs, as in list(network.named_children())"


def is_own(definition: str) -> bool:
    """Return whether a backbone of this definition is made of a user's own modules."""
    return definition.startswith(_OWN)


def misfit(name: str, module: nn.Module, values: Tensor, error: Exception) -> InvalidParameterError:
    """Return the error for a stage of a user's own modules that does not take the values before it.

    Parameters
    ----------
    name, module : str and nn.Module
        The stage.
    values : Tensor
        Output of the stage before it, or the input.
    error : Exception
        Error of the module.
    """
    own = module.body[0] if isinstance(module, ImageStage) else module
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
    shape = f"(n, {', '.join(map(str, values.shape[1:]))})"
    if values.ndim == 4 and any(isinstance(part, nn.Linear) for part in module.modules()):
        remedy = (
            f"If the network's forward flattens before it, flatten in the stage: nn.Sequential(nn.Flatten(), {name}). "
            "If it is the head, leave it out of the stages and pass it as head"
        )
    else:
        remedy = (
            "Each stage reads the output of the one before, so give the stages in the order of the network's forward, "
            "and wrap what it does between them in modules of your own"
        )
    return InvalidParameterError(
        f"stage {name!r} ({type(own).__name__}) of Backbone.from_modules does not take values of shape {shape}: "
        f"{reason}. {remedy}"
    )


def backbone_arguments(
    modules: Sequence[tuple[str, nn.Module]],
    name: str | None,
    modality: str,
    input_size: tuple[int, int] | None,
    preprocess: Preprocess | Mapping[str, Any] | None,
    head: nn.Module | None,
    pooling: str,
    categories: Sequence[str],
    lm_head: LanguageModelHead | None = None,
) -> dict[str, Any]:
    """Return the keyword arguments of `Backbone` for `Backbone.from_modules`, which documents the parameters."""
    if modality not in MODALITIES:
        raise InvalidParameterError(f"modality={modality!r} must be one of {MODALITIES}")
    if head is not None and not isinstance(head, nn.Module):
        raise InvalidParameterError(
            f"head={quoted(head, 60)} must be a torch.nn.Module or None, not {type(head).__name__}"
        )
    if lm_head is not None and (not isinstance(lm_head, LanguageModelHead) or modality != "text"):
        raise InvalidParameterError(
            f"lm_head={quoted(lm_head, 60)} must be a LanguageModelHead of sktransfer.backbones, for modality='text', "
            "or None"
        )
    pooling = check_pooling(pooling, modality)
    pooling = default_pooling(modality) if pooling == "auto" else pooling
    pairs = _check_modules(modules)
    transform = _check_preprocess(preprocess, modality, input_size)
    # One call, so that tensors shared by modules and head stay shared. All backbones are float32 on the CPU.
    copied, head, lm_head = copy.deepcopy(([module for _, module in pairs], head, lm_head))
    nn.ModuleList([*copied, *(one for one in (head, lm_head) if one is not None)]).cpu().float()
    return {
        "name": "own/network" if name is None else name,
        "modality": modality,
        "stages": [(stage, _stage(stage, module, modality)) for (stage, _), module in zip(pairs, copied)],
        "preprocess": transform,
        "pooling": pooling,
        "head": head if head is None or _takes_mask(head) else PooledHead(head, pooling),
        "categories": categories,
        "lm_head": lm_head,
        # Structure and weights do not identify the computation of a user's own code. A unique definition keeps the
        # cache entries of similar networks apart.
        "definition": f"{_OWN}{uuid.uuid4()}",
    }


def _check_modules(modules: Any) -> list[tuple[str, nn.Module]]:
    if isinstance(modules, (str, nn.Module, Mapping)) or not isinstance(modules, Sequence):
        hint = object_hint(modules)
        raise InvalidParameterError(f"{_FORM}, not {type(modules).__name__}{'.' if hint else ''}{hint}")
    if not modules:
        raise InvalidParameterError(f"modules={quoted(modules, 60)} holds no stage; {_FORM}")
    for index, pair in enumerate(modules):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InvalidParameterError(f"modules[{index}] is {quoted(pair, 60)}; {_FORM}")
        _check_pair(index, *pair)
    names = [name for name, _ in modules]
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise InvalidParameterError(f"modules: two stages have the name {twice[0]!r}; give each its own name")
    return [(name, module) for name, module in modules]


def _check_pair(index: int, name: object, module: object) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidParameterError(f"modules[{index}]: the stage's name {name!r} must be a non-empty str")
    if name in RESERVED:
        raise InvalidParameterError(
            f"modules[{index}]: the name {name!r} is reserved; {RESERVED} stand for several stages. Choose another name"
        )
    if not isinstance(module, nn.Module):
        hint = " (an instance, not the class)" if inspect.isclass(module) and issubclass(module, nn.Module) else ""
        given = module.__name__ if inspect.isclass(module) else type(module).__name__
        raise InvalidParameterError(f"modules[{index}]: {name!r} must be a torch.nn.Module{hint}, not {given}")
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise InvalidParameterError(
            f"modules[{index}]: {name!r} has weights of unknown shape; run the network on a sample first"
        )


def _check_preprocess(given: Any, modality: str, input_size: tuple[int, int] | None) -> Preprocess:
    if modality == "text":
        if input_size is not None:
            raise InvalidParameterError(f"input_size={input_size!r} is for images; give texts a preprocess instead")
        if not isinstance(given, TextPreprocess):
            raise InvalidParameterError(
                f"preprocess={quoted(given, 60)}: for modality='text' give an object that converts texts to token ids, "
                "such as Tokens or an object with the methods of TextPreprocess, both of sktransfer.backbones"
            )
        return given
    if given is None or isinstance(given, Mapping):
        return ImageTransform(resize=_size(input_size)).updated({} if given is None else given)
    if input_size is not None:
        raise InvalidParameterError(
            f"input_size={input_size!r}: preprocess={quoted(given, 60)} sets the size already; give only one of them"
        )
    is_image = callable(given) and isinstance(getattr(given, "key", None), str) and hasattr(given, "pad_value")
    if not is_image or isinstance(given, TextPreprocess):
        raise InvalidParameterError(
            f"preprocess={quoted(given, 60)}: for modality='image' give an ImageTransform, a dict of its settings, "
            "None, or an object with the members of sktransfer.backbones.Preprocess"
        )
    return given  # type: ignore[no-any-return]


def _size(input_size: Any) -> tuple[int, int] | None:
    if input_size is None:
        return None
    pair = isinstance(input_size, (tuple, list)) and len(input_size) == 2
    if not pair or not all(is_int(n) and n > 0 for n in input_size):
        raise InvalidParameterError(f"input_size={input_size!r} must be (height, width) in pixels, or None for any")
    return int(input_size[0]), int(input_size[1])


def _stage(name: str, module: nn.Module, modality: str) -> nn.Module:
    if _takes_mask(module):
        return module
    if modality == "image":
        return ImageStage(module)
    raise InvalidParameterError(
        f"modules: the forward of {name!r} ({type(module).__name__}) must have the parameters (values, mask), "
        "because padding must not change the output for a text; mask is True where a token is real. A module that "
        "processes each token separately may be wrapped: sktransfer.backbones.ImageStage(module)"
    )


def _takes_mask(module: nn.Module) -> bool:
    """Return whether a module is called as `module(values, mask)`, which its second parameter shows."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    return len(parameters) > 1 and parameters[1].name == "mask"


def has_statistics(modules: nn.Module) -> bool:
    """Return whether every BatchNorm has running statistics other than the initial 0 and 1.

    Parameters
    ----------
    modules : nn.Module
        Network with any number of BatchNorms.
    """
    norms = [module for module in modules.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return not any(_is_unused(norm.running_mean, norm.running_var) for norm in norms)


def _is_unused(mean: torch.Tensor | None, variance: torch.Tensor | None) -> bool:
    return mean is not None and variance is not None and bool((mean == 0).all() and (variance == 1).all())
