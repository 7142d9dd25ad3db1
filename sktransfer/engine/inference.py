"""A backbone's stages made ready to be run: on a device, in a precision, in the layout that is fastest there."""

from __future__ import annotations

import copy
import threading
import warnings
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.compute import Compute

__all__ = ["PackedLinear", "fuse", "has_convolutions", "pack", "prepare_for_inference"]

_lock = threading.Lock()


def has_convolutions(stages: nn.Module) -> bool:
    """Return whether images go through convolutions, which are fastest where the channels lie side by side."""
    return any(isinstance(module, nn.Conv2d) for module in stages.modules())


def prepare_for_inference(backbone: Backbone, compute: Compute) -> nn.ModuleList:
    """Return copies of a backbone's stages for running, never for training; they are made once, and kept with it.

    Parameters
    ----------
    backbone : Backbone
        Not changed; copies are kept with it.
    compute : Compute
        Where, and in which precision.
    """
    key = f"{compute.device} {compute.dtype} {compute.compiled}"
    with _lock:  # several threads may ask at once, and a copy of a large network is made but once
        if key not in backbone.copies:
            backbone.copies[key] = _copy(backbone.stages, compute)
        return backbone.copies[key]


def _copy(stages: nn.ModuleList, compute: Compute) -> nn.ModuleList:
    tensors = [*stages.parameters(), *stages.buffers()]
    stays = all(tensor.device == compute.device and tensor.dtype == compute.dtype for tensor in stages.parameters())
    # Weights that stay as they are belong to both; what is folded, laid out anew or packed is made anew.
    stages = copy.deepcopy(stages, {id(tensor): tensor for tensor in tensors} if stays else {})
    if has_convolutions(stages):
        fuse(stages)  # in float32: folded in a lower precision, weights would be rounded twice
        for module in stages.modules():
            if isinstance(module, nn.Conv2d):
                weight = module.weight.detach().contiguous(memory_format=torch.channels_last)
                module.weight = nn.Parameter(weight, requires_grad=False)
    if not stays:
        stages = stages.to(device=compute.device, dtype=compute.dtype)
    if compute.compiled:
        for stage in stages:
            stage.compile(dynamic=True)
    elif compute.on_cpu:  # the compiler packs in a way of its own
        pack(stages)
    return stages.eval()


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
    >>> from sktransfer.engine.inference import fuse
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


_MOST = 2 * 1024**3  # bytes of weights: beyond, a second copy of them costs more than it saves
_TYPES = (torch.float32, torch.bfloat16)


class PackedLinear(nn.Linear):
    """What a linear layer gives, faster; on the CPU, for inference only.

    Parameters
    ----------
    linear : nn.Linear
        Whose weights are packed. They stay within reach as they are, for code that reads them.
    activation : {"none", "gelu"}, default="none"
        Applied to what comes out, in the same pass over it.
    """

    def __init__(self, linear: nn.Linear, activation: str = "none") -> None:
        nn.Module.__init__(self)  # nn.Linear's own would draw weights
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._activation = activation
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)

    def forward(self, values: Tensor) -> Tensor:
        """Return (..., out_features)."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(values, self._packed, self.bias, self._activation, [], "none")
        return out


def pack(stages: nn.ModuleList) -> None:
    """Put packed linear layers in the place of plain ones, in place, where torch has what it takes.

    Parameters
    ----------
    stages : nn.ModuleList
        On the CPU, in `eval()`, of no use for training any more.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer.engine.inference import pack
    >>> stages = nn.ModuleList([nn.Linear(4, 8)]).eval()
    >>> pack(stages)
    """
    linears = [module for module in stages.modules() if type(module) is nn.Linear and module.weight.dtype in _TYPES]
    if not linears or sum(one.weight.nbytes for one in linears) > _MOST or not _agrees(linears[0]):
        return
    activated = _with_gelu(stages)
    packed = {id(linear): PackedLinear(linear, activated.get(id(linear), "none")) for linear in linears}
    for module in list(stages.modules()):
        for name, child in module._modules.items():  # each place, where named_children would leave out repeated ones
            if id(child) in packed:
                setattr(module, name, packed[id(child)])


def _with_gelu(stages: nn.ModuleList) -> dict[int, str]:
    """Return the linear layers that do the work of the GELU behind them, which is taken out.

    So it stands in the encoders of transformers: `intermediate_act_fn(dense(values))`, and nothing else.
    """
    found = {}
    for module in stages.modules():
        dense, activation = getattr(module, "dense", None), getattr(module, "intermediate_act_fn", None)
        ours = type(module).__module__.startswith("transformers.") and type(dense) is nn.Linear
        if (
            ours
            and type(activation).__name__ == "GELUActivation"
            and getattr(activation, "act", None) is nn.functional.gelu
        ):
            module.intermediate_act_fn = nn.Identity()
            found[id(dense)] = "gelu"
    return found


def _agrees(linear: nn.Linear) -> bool:
    """Return whether torch packs as this code expects: what it calls is not promised to stay."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    values = torch.linspace(-1, 1, 3 * linear.in_features, dtype=linear.weight.dtype).view(3, -1)  # (3, in_features)
    try:
        with torch.no_grad():
            expected, found = linear(values), PackedLinear(linear)(values)  # (3, out_features)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return bool(torch.allclose(found.float(), expected.float(), atol=float(expected.abs().max()) * 1e-2))
