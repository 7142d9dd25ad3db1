"""Convolutions that do the work of the BatchNorm behind them."""

from __future__ import annotations

import warnings
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["fuse"]

# To follow a network's code takes some tenths of a second, once a process. A small network has no use for that.
_WORTH_FOLLOWING = 4_000_000  # parameters


def fuse(stages: nn.ModuleList) -> None:
    """Make BatchNorms part of the convolutions in front of them, in place.

    What the stages give differs by rounding alone. Where a BatchNorm does not stand right behind its convolution in an
    `nn.Sequential`, the stage's code is followed to find out; parts that cannot be followed stay as they are.

    Parameters
    ----------
    stages : nn.ModuleList
        In `eval()`, of no use for training any more.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer.engine.fusing import fuse
    >>> stages = nn.ModuleList([nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())]).eval()
    >>> fuse(stages)
    >>> [type(module).__name__ for module in stages[0]]
    ['Conv2d', 'Identity', 'ReLU']
    """
    shared = _shared(stages)
    for module in stages.modules():
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            _fuse_neighbours(module, shared)
    if not shared and sum(parameter.numel() for parameter in stages.parameters()) >= _WORTH_FOLLOWING:
        _fuse_followed(stages)


def _shared(stages: nn.ModuleList) -> set[int]:
    """Return the modules that stand in several places: what one place folds would be folded for the others."""
    seen: set[int] = set()
    repeated: set[int] = set()
    for _, module in stages.named_modules(remove_duplicate=False):
        (repeated if id(module) in seen else seen).add(id(module))
    return repeated


def _fuse_neighbours(sequence: nn.Sequential, shared: set[int]) -> None:
    for (name, first), (after, second) in pairwise(list(sequence.named_children())):
        alone = not shared & {id(first), id(second)}
        if type(first) is nn.Conv2d and type(second) is nn.BatchNorm2d and second.track_running_stats and alone:
            setattr(sequence, name, fuse_conv_bn_eval(first, second))
            setattr(sequence, after, nn.Identity())


def _fuse_followed(module: nn.Module) -> None:
    from torch.fx.experimental import optimization

    for name, child in module.named_children():
        if not any(isinstance(one, nn.BatchNorm2d) for one in child.modules()):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what a network says when it is given no values
                setattr(module, name, optimization.fuse(child, inplace=True))
        except Exception:  # whatever its code does then
            _fuse_followed(child)
