"""Verify that the stages of a network compute the same as the network, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer_timm.cut import Cut, random_images, refusal
from sktransfer_timm.modules import FixedSize, Pass

__all__ = ["verify"]

ATOL = 1e-5  # relative to the largest value
_SEED = 1  # differs from the seed of the images used in `cut`

Trace = list[tuple[int, tuple[int, ...], float, float]]


@torch.no_grad()
def verify(network: Any, parts: Cut) -> None:
    """Compare the stages and the head with the network's own forward, on two random images.

    The final output alone is not sufficient, because a layer followed by a scale of 1e-6 hardly changes it. Therefore
    the inputs and the order of all layers are compared as well.

    Parameters
    ----------
    network : nn.Module
        Network in eval mode.
    parts : Cut
        Stages and head of the network.

    Raises
    ------
    PluginError
        If they differ.
    """
    images = random_images(network, 2, _SEED)
    # Without a classifier, forward_head only pools, so the features are compared instead.
    whole = network if parts.head is not None else network.forward_features
    expected, calls = _traced(network, lambda: whole(images.clone()))

    def run() -> Tensor:
        values = images.clone()
        for _, stage in parts.stages:
            values = stage(values)
        if parts.head is not None:
            return parts.head(values)  # type: ignore[no-any-return]
        last: Any = parts.stages[-1][1]
        return values.permute(0, 2, 3, 1) if last.gives_last else values  # layout of the network

    modules = nn.ModuleList([stage for _, stage in parts.stages] + ([parts.head] if parts.head is not None else []))
    found, again = _traced(modules, run)
    _require_same_calls(network, calls, again)
    if found.shape != expected.shape or not _close(found, expected):
        raise refusal(network, "its stages and head, run one after the other, give other values than its forward")
    _require_rows(network, parts, images)


def _require_rows(network: nn.Module, parts: Cut, images: Tensor) -> None:
    """Check the order of tokens: a change in one patch must change most the token of that patch."""
    stem = parts.stages[0][1]
    tokens = stem(images)
    side = math.isqrt(tokens.shape[1] - parts.prefix_tokens) if tokens.ndim == 3 else 0
    if side < 4 or side * side != tokens.shape[1] - parts.prefix_tokens:
        return  # a map, or not a square
    row, column = 1, side - 2
    height, width = images.shape[2] // side, images.shape[3] // side  # pixels of a patch
    changed = images.clone()
    changed[:, :, row * height : (row + 1) * height, column * width : (column + 1) * width] += 1
    moved = (stem(changed) - tokens)[:, parts.prefix_tokens :].abs().sum((0, 2))  # (tokens,)
    found = divmod(int(moved.argmax()), side)
    if abs(found[0] - row) > 1 or abs(found[1] - column) > 1:
        raise refusal(network, "its tokens are not in the order of rows and columns, which pooling on a grid relies on")


def _close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) <= ATOL * float(expected.abs().max())


def _require_same_calls(network: nn.Module, expected: Trace, found: Trace) -> None:
    names = {id(module): name for name, module in network.named_modules()}
    for index, (one, other) in enumerate(zip(expected, found)):
        if one[0] != other[0]:
            theirs, ours = names.get(one[0], "?"), names.get(other[0], "?")
            raise refusal(network, f"call {index} of its forward is of {theirs!r}, in its stages of {ours!r}")
        allowed = 10 * ATOL * one[3]
        if one[1] != other[1] or abs(one[2] - other[2]) > allowed or abs(one[3] - other[3]) > allowed:
            raise refusal(network, f"{names.get(one[0], '?')!r} gets other values in its stages than in its forward")
    if len(expected) != len(found):
        raise refusal(network, f"its forward calls {len(expected)} layers, but its stages call {len(found)}")


def _traced(modules: nn.Module, run: Callable[[], Tensor]) -> tuple[Tensor, Trace]:
    trace: Trace = []
    with _watched(modules, trace):
        return run(), trace


@contextmanager
def _watched(modules: nn.Module, trace: Trace) -> Iterator[None]:
    """Record each call of a layer: the layer, and the shape, sum and absolute sum of its input."""

    def note(module: nn.Module, args: Sequence[Any]) -> None:
        if args and isinstance(args[0], Tensor):
            values = args[0].double()
            trace.append((id(module), tuple(values.shape), float(values.sum()), float(values.abs().sum())))

    layers = [module for module in modules.modules() if not any(True for _ in module.children())]
    ours = (Pass, FixedSize, nn.Identity)
    handles = [layer.register_forward_pre_hook(note) for layer in layers if not isinstance(layer, ours)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
