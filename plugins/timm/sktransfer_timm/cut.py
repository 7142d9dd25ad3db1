"""Divide a network of timm into stages where it passes a single tensor from module to module.

No family of networks is identified by name. A network is run once on a small random batch, and the calls of its
modules are recorded. `feature_info` gives the modules at which resolution or width changes or blocks end. The recorded
calls show whether a stage that begins there takes only the output of the stage before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.exceptions import PluginError
from sktransfer_timm.modules import FixedSize, Head, Stage, Stem, Step, reduced
from sktransfer_timm.record import Call, expanded, recorded

__all__ = ["Cut", "cut", "random_images", "refusal"]

SUPPORTED = (
    "Supported are networks whose forward_features passes one tensor through an ordered list of blocks, with blocks "
    "named by feature_info: resnet, regnet, convnext, efficientnet, mobilenetv3, densenet, vit, deit, beit, eva, swin "
    "and others; list_backbones(pattern='timm/*') shows them"
)


@dataclass
class Cut:
    """Stages and head of a network, which share its tensors.

    Parameters
    ----------
    stages : list of (str, nn.Module)
        Named stages in order from the input, each called as `stage(values, mask=None)`.
    widths : list of int
        Number of output channels of each stage.
    head : nn.Module or None
        From the last stage's values to logits. None if the network has no classifier.
    pooling : str
        Pooling of the last stage in the network, or the closest supported one.
    prefix_tokens : int
        Number of tokens before the patches.
    """

    stages: list[tuple[str, nn.Module]]
    widths: list[int]
    head: nn.Module | None
    pooling: str
    prefix_tokens: int


def random_images(network: Any, n: int, seed: int = 0) -> Tensor:
    """Return random images of the network's training size, on its device.

    Parameters
    ----------
    network : nn.Module
        A network of timm.
    n : int
        Number of images.
    seed : int, default=0
        Seed of a generator of its own.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    size = network.pretrained_cfg["input_size"]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *size, generator=generator).to(device)  # (n, 3, height, width)


@torch.enable_grad()  # gradients reveal values computed from parameters, even if the caller disables them
def cut(network: Any) -> Cut:
    """Divide a network of timm into stages and a head.

    Parameters
    ----------
    network : nn.Module
        Network in eval mode. On the "meta" device, nothing is computed.

    Returns
    -------
    parts : Cut

    Raises
    ------
    PluginError
        If its structure is not supported.
    """
    images = random_images(network, 1)
    marks = _marks(network)
    calls, features = recorded(network, lambda: network.forward_features(images))
    head_calls, _ = recorded(network, lambda: network.forward_head(features))
    chain = expanded(calls, marks)
    groups = _grouped(network, chain, marks)
    _require_chain(network, chain, len(groups[0][1]), features)
    outputs = [group[-1].output for _, group in groups]
    outputs[0] = groups[1][1][0].value  # a network may compute between the stem and its first block
    _require_channels(network, chain)
    prefix = int(getattr(network, "num_prefix_tokens", 0) or 0)
    _require_layout(network, outputs, prefix)
    stem = _stem(network, chain, len(groups[0][1]), images, [call.name for call in head_calls])
    fixed = bool(network.pretrained_cfg.get("fixed_input_size")) or any(_extra(call) for call in chain)
    first: list[nn.Module] = [FixedSize((images.shape[2], images.shape[3])), *stem] if fixed else stem
    modules = [first, *([_step(network, call) for call in group] for _, group in groups[1:])]
    last = [_is_channels_last(network, values) for values in outputs]
    stages = [Stage(part, before, behind) for part, before, behind in zip(modules, [False, *last], last)]
    return Cut(
        stages=[(name, stage) for (name, _), stage in zip(groups, stages)],
        widths=[_width(values, behind) for values, behind in zip(outputs, last)],
        head=_head(network, head_calls, last[-1]) if network.num_classes else None,
        pooling="class_token" if getattr(network, "global_pool", "") == "token" and prefix else "average",
        prefix_tokens=prefix,
    )


def refusal(network: nn.Module, why: str) -> PluginError:
    """Return the error for a network that cannot be divided into stages.

    Parameters
    ----------
    network : nn.Module
        Network of timm.
    why : str
        Reason.
    """
    name = getattr(network, "pretrained_cfg", {}).get("architecture", "")
    return PluginError(f"timm's {name} ({type(network).__name__}) cannot be cut into stages: {why}. {SUPPORTED}.")


def _marks(network: Any) -> list[str]:
    """Return the paths of the last modules of the stages."""
    info = getattr(network, "feature_info", None)
    if not info:
        raise refusal(network, "it has no feature_info")
    return [str(feature["module"]) for feature in info]


def _grouped(network: nn.Module, chain: Sequence[Call], marks: Sequence[str]) -> list[tuple[str, list[Call]]]:
    """Return the calls of each stage. The first stage is the stem, and the last one includes all later calls."""
    names = [call.name for call in chain]
    # A mark inside a module that stays whole marks that module.
    ends = [max((i for i, name in enumerate(names) if f"{mark}.".startswith(f"{name}.")), default=-1) for mark in marks]
    if -1 in ends:
        raise refusal(
            network, f"its forward_features does not call {marks[ends.index(-1)]!r}, which feature_info names"
        )
    ends = sorted(set(ends))
    # If the first mark is the first of a list of blocks, the stem ends before the list.
    begin = ends[0] if names[ends[0]].endswith(".0") else ends[0] + 1
    bounds = [begin, *(end + 1 for end in ends if end + 1 > begin)]
    if len(bounds) < 2 or begin == 0:
        raise refusal(network, f"its feature_info {list(marks)} leaves no stem and blocks in its modules {names}")
    bounds[-1] = len(chain)
    groups = [("stem", list(chain[:begin]))]
    for start, stop, end in zip(bounds, bounds[1:], [end for end in ends if end + 1 > begin]):
        groups.append((names[end], list(chain[start:stop])))
    return groups


def _require_chain(network: nn.Module, chain: Sequence[Call], begin: int, features: Any) -> None:
    for before, call in zip(chain[begin:], chain[begin + 1 :]):
        if not isinstance(before.output, Tensor):
            raise refusal(network, f"{before.name!r} gives {type(before.output).__name__}, not one tensor")
        if call.value is not before.output:
            raise refusal(network, f"it computes something between {before.name!r} and {call.name!r}, or skips there")
    if chain[-1].output is not features or not isinstance(features, Tensor):
        raise refusal(network, f"its forward_features computes something after {chain[-1].name!r}, its last module")


def _stem(
    network: nn.Module, chain: Sequence[Call], begin: int, images: Tensor, head: Sequence[str]
) -> list[nn.Module]:
    """Return the modules of the stem, or the network's code up to the first block if it computes between them."""
    value: Any = images
    for call in chain[:begin]:
        if call.value is not value or _extra(call):
            break
        value = call.output
    else:
        if chain[begin].value is value:
            return [call.module for call in chain[:begin]]
    above = ({call.name for call in chain[begin:]} | set(head)) - {call.name for call in chain[:begin]}
    return [Stem(reduced(network, above, parameters=True))]


def _head(network: nn.Module, calls: Sequence[Call], takes_last: bool) -> nn.Module:
    used = {call.name.partition(".")[0] for call in calls}
    unused = {name for name, _ in network.named_children() if name not in used}
    return Head(reduced(network, unused, parameters=False), takes_last)


def _extra(call: Call) -> bool:
    """Return whether a module is called with arguments besides the values."""
    return any(value is not None for value in (*call.args[1:], *call.kwargs.values()))


def _step(network: nn.Module, call: Call) -> nn.Module:
    if not _extra(call):
        return call.module
    for value in (*call.args[1:], *call.kwargs.values()):
        if isinstance(value, Tensor) and value.requires_grad:
            raise refusal(network, f"{call.name!r} is called with values computed from parameters of other modules")
        if not isinstance(value, (Tensor, bool, int, float, str, torch.Size, tuple, type(None))):
            raise refusal(network, f"{call.name!r} is called with {type(value).__name__} besides the values")
    return Step(call.module, call.args[1:], call.kwargs)


def _require_channels(network: Any, chain: Sequence[Call]) -> None:
    """Check the number of channels of each module against `feature_info`."""
    expected = {feature["module"]: feature["num_chs"] for feature in network.feature_info}
    for call in chain:
        if call.name not in expected or not isinstance(call.output, Tensor):
            continue
        shape, channels = tuple(call.output.shape), expected[call.name]
        if channels not in (shape[1:2] if len(shape) == 4 else ()) + shape[-1:]:
            raise refusal(network, f"{call.name!r} gives {shape}, by feature_info {channels} channels")


def _is_channels_last(network: nn.Module, values: Tensor) -> bool:
    """Return whether maps are (n, height, width, channels). Maps of square images are square."""
    if values.ndim != 4:
        return False
    _, first, second, third = values.shape
    if (first == second) != (second == third):
        return bool(first == second)
    return bool(getattr(network, "output_fmt", "NCHW") == "NHWC")


def _require_layout(network: nn.Module, outputs: Sequence[Any], prefix: int) -> None:
    for values in outputs:
        if not isinstance(values, Tensor) or values.ndim not in (2, 3, 4):
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise refusal(network, f"a stage gives {shape}, which is neither a map, a sequence nor a vector")
    if prefix and len({values.shape[1] for values in outputs}) > 1:
        raise refusal(network, f"its {prefix} tokens before the patches are missing in some stages")


def _width(values: Tensor, channels_last: bool) -> int:
    return int(values.shape[1] if values.ndim == 4 and not channels_last else values.shape[-1])
