"""Preparation of stages for inference: placement, BatchNorm fusion, oneDNN convolutions, faster modules."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.compute import Compute
from sktransfer.kernels.attention import pad_attention
from sktransfer.kernels.encoder import fuse_encoder_layers
from sktransfer.kernels.linear import pack, replace_modules
from sktransfer.runtimes.resolve import TORCH, find_runtime, models_key

__all__ = [
    "BatchInvariantConv2d",
    "PreparedStages",
    "StagesOfPass",
    "fuse",
    "has_convolutions",
    "in_working_runtime",
    "prepare_for_inference",
    "prepare_head",
]

_lock = threading.Lock()
_heads: WeakKeyDictionary[nn.Module, tuple[Any, nn.Module]] = WeakKeyDictionary()


class PreparedStages(nn.ModuleList):
    """Copies of stages for inference, with what every pass needs to know of them.

    Parameters
    ----------
    stages : iterable of nn.Module
        The stages.
    channels_last : bool, default=False
        Whether images are fastest in the channels_last layout.
    pads_attention : bool, default=False
        Whether outputs do not depend on the padding of a batch, without `PaddingInvariantAttention` around the stages.
    runtime : str, default="torch"
        Runtime that computes the frozen stages.
    """

    def __init__(
        self,
        stages: Iterable[nn.Module] = (),
        *,
        channels_last: bool = False,
        pads_attention: bool = False,
        runtime: str = TORCH,
    ) -> None:
        super().__init__(stages)
        self.channels_last, self.pads_attention, self.runtime = channels_last, pads_attention, runtime


def has_convolutions(stages: nn.Module) -> bool:
    """Return whether there are 2D convolutions, which are fastest in the channels_last layout."""
    return any(isinstance(module, nn.Conv2d) for module in stages.modules())


def prepare_for_inference(backbone: Backbone, compute: Compute) -> PreparedStages:
    """Return copies of a backbone's stages for inference. They are made once, and kept with the backbone.

    Parameters
    ----------
    backbone : Backbone
        Backbone. Its own stages are not changed.
    compute : Compute
        Device, precision and runtime.
    """
    if compute.runtime != TORCH:
        n = len(backbone.stages)
        return StagesOfPass(backbone, compute, n, range(1, n + 1)).at(0)
    key = f"{compute.device} {compute.dtype} {compute.compiled}"
    with _lock:  # several threads may ask at once, and a large network is copied only once
        backbone.forget_if_changed()
        if key not in backbone.copies:
            backbone.copies[key] = _copy(backbone.stages, compute)
        prepared = backbone.copies[key]
        assert isinstance(prepared, PreparedStages)
        return prepared


class StagesOfPass:
    """Prepared stages of one forward pass. Make it in the thread of the caller, whose number of threads it takes.

    Parameters
    ----------
    backbone : Backbone
        Backbone.
    compute : Compute
        Device, precision and runtime.
    n_frozen : int
        Number of first stages that are frozen, which a runtime computes.
    stops : iterable of int
        Numbers of stages after which the pass reads an output. A runtime gives no other outputs.
    """

    def __init__(self, backbone: Backbone, compute: Compute, n_frozen: int, stops: Iterable[int]) -> None:
        self._backbone, self._compute = backbone, compute
        self._n_frozen, self._stops = n_frozen, sorted(stops)
        self._n_threads = torch.get_num_threads()
        self._known: dict[int, PreparedStages] = {}

    def at(self, start: int) -> PreparedStages:
        """Return the stages for a batch that resumes after some stages.

        Parameters
        ----------
        start : int
            Number of stages that do not run.
        """
        if self._compute.runtime == TORCH:
            start = 0
        if start not in self._known:
            in_torch = self._compute.runtime == TORCH
            self._known[start] = (
                prepare_for_inference(self._backbone, self._compute) if in_torch else self._in_runtime(start)
            )
        return self._known[start]

    def _in_runtime(self, start: int) -> PreparedStages:
        """Return the frozen stages as the runtime computes them, and the others as torch does."""
        from sktransfer.runtimes.stages import compile_stages  # imports the exporter of torch

        compute, stages = self._compute, self._backbone.stages
        runtime = find_runtime(compute.runtime, compute.precision, on_cpu=compute.on_cpu)
        assert runtime is not None
        ends = {min(stop, self._n_frozen) for stop in self._stops}
        borders = sorted({start, *(stop for stop in ends if stop > start)})
        compiled: list[nn.Module] = []
        if len(borders) > 1:
            compiled = compile_stages(self._backbone, runtime, compute.precision, borders, self._n_threads)
        n = len(compiled)
        if compiled and self._stops[-1] <= self._n_frozen:
            # The others do not run.
            return PreparedStages([*compiled, *stages[n:]], pads_attention=True, runtime=compute.runtime)
        in_torch = prepare_for_inference(self._backbone, replace(compute, runtime=TORCH))
        return PreparedStages(
            [*compiled, *list(in_torch)[n:]],
            channels_last=in_torch.channels_last and not compiled,
            pads_attention=in_torch.pads_attention,
            runtime=TORCH if len(borders) > 1 and not compiled else compute.runtime,
        )


def in_working_runtime(backbone: Backbone, compute: Compute) -> Compute:
    """Return the same, or in torch if the runtime is known to fail for a backbone.

    Parameters
    ----------
    backbone : Backbone
        Backbone that is not joined.
    compute : Compute
        Device, precision and runtime.
    """
    if compute.runtime == TORCH or compute.is_int8:  # which never falls back
        return compute
    backbone.forget_if_changed()
    models = backbone.copies.get(models_key(backbone, compute.runtime, compute.precision, torch.get_num_threads()))
    return compute if getattr(models, "reason", None) is None else replace(compute, runtime=TORCH)


def _copy(stages: nn.ModuleList, compute: Compute) -> PreparedStages:
    tensors = [*stages.parameters(), *stages.buffers()]
    stays = all(tensor.device == compute.device and tensor.dtype == compute.dtype for tensor in stages.parameters())
    # Unchanged weights are shared with the backbone. Fused, reordered and packed weights are new.
    stages = copy.deepcopy(stages, {id(tensor): tensor for tensor in tensors} if stays else {})
    channels_last, pads_attention = has_convolutions(stages), False
    if channels_last:
        fuse(stages)  # in float32: in a lower precision, weights would be rounded twice
        for module in stages.modules():
            if isinstance(module, nn.Conv2d):
                weight = module.weight.detach().contiguous(memory_format=torch.channels_last)
                module.weight = nn.Parameter(weight, requires_grad=False)
    if not stays:
        stages = stages.to(device=compute.device, dtype=compute.dtype)
    if compute.compiled:
        for stage in stages:
            stage.compile(dynamic=True)
    elif compute.on_cpu:  # the compiler packs weights itself
        pads_attention = pad_attention(stages)
        _replace_convolutions(stages)
        pack(stages)
        fuse_encoder_layers(stages)
    return PreparedStages(stages.eval(), channels_last=channels_last, pads_attention=pads_attention)


def prepare_head(head: nn.Module) -> nn.Module:
    """Return a copy of a head for inference on the CPU, whose outputs for a sample do not depend on the batch.

    The copy is kept until the head is deleted, or its weights are replaced or changed in place.

    Parameters
    ----------
    head : nn.Module
        Head on the CPU, not changed. The copy shares its weights.
    """
    modules = list(head.modules())  # walked once, because a service prepares its head for each request
    held = (tensor for module in modules for tensor in (*module._parameters.values(), *module._buffers.values()))
    tensors = [tensor for tensor in held if tensor is not None]
    if any(tensor.is_inference() for tensor in tensors):  # torch does not count their changes
        return _copy_head(head, tensors)
    # The copy holds the weights, so that no other tensor gets their id.
    state = [(id(tensor), tensor.data_ptr(), tensor._version) for tensor in tensors], [*map(type, modules)]
    with _lock:
        if _heads.get(head, (None,))[0] != state:
            _heads[head] = state, _copy_head(head, tensors)
        return _heads[head][1]


def _copy_head(head: nn.Module, tensors: list[Tensor]) -> nn.Module:
    copied = nn.ModuleList([copy.deepcopy(head, {id(tensor): tensor for tensor in tensors})])
    _replace_convolutions(copied)
    pack(copied)
    return copied[0].eval()


class BatchInvariantConv2d(nn.Conv2d):
    """Convolution in float32 on the CPU whose rounding does not depend on the batch or on the number of threads.

    `nn.Conv2d` calls oneDNN or another kernel, by the number of images, their size, and the number of threads. An image
    in a batch of its own then has other last bits than in a larger one.

    oneDNN reorders weights in each call, which takes a third of the time of a small network on a single image. From the
    second single image of a size on, weights are kept in that order, if the bits stay the same.

    Parameters
    ----------
    convolution : nn.Conv2d
        Layer to replace, padded with zeros. Its weights are shared.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        nn.Module.__init__(self)  # that of nn.Conv2d would draw weights
        self.__dict__.update(convolution.__dict__)
        # Shape and threads of the last single image, and weights ordered for it: None before the second such image,
        # False if they give other bits. One attribute, because several threads set it.
        self._alone: tuple[Any, Tensor | bool | None] = None, None

    def forward(self, values: Tensor) -> Tensor:
        """Return the output (n, out_channels, height, width)."""
        assert not isinstance(self.padding, str)  # "same" and "valid" are left to torch
        if values.shape[0] == 1:
            now = values.shape, torch.get_num_threads()
            known, ordered = self._alone
            if known != now:
                self._alone = now, None
            elif isinstance(ordered, Tensor):
                return self._ordered(values, ordered)
            elif ordered is None:
                self._alone = now, self._order(values)
        out: Tensor = torch.mkldnn_convolution(
            values, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )
        return out

    def _ordered(self, values: Tensor, ordered: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            values, ordered, self.bias, self.padding, self.stride, self.dilation, self.groups, "none", [], ""
        )
        return out

    def _order(self, values: Tensor) -> Tensor | bool:
        """Return weights in the order that oneDNN takes for an image, or False if torch or the bits do not allow it."""
        sizes: Any = self.padding, self.stride, self.dilation, self.groups
        try:
            ordered: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight.detach(), *sizes, list(values.shape)
            )
            found = self._ordered(values, ordered)
        except (AttributeError, RuntimeError, TypeError):  # operators private to torch, which may change
            return False
        return (
            ordered if torch.equal(found, torch.mkldnn_convolution(values, self.weight, self.bias, *sizes)) else False
        )


def _replace_convolutions(stages: nn.ModuleList) -> None:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    replace_modules(
        stages,
        {
            id(module): BatchInvariantConv2d(module)
            for module in stages.modules()
            if type(module) is nn.Conv2d
            and module.weight.dtype == torch.float32
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        },
    )


# Tracing takes some tenths of a second, once per process, which a small network does not regain.
_WORTH_TRACING = 4_000_000  # parameters


def fuse(stages: nn.ModuleList) -> None:
    """Fuse BatchNorms into the convolutions before them, in place.

    Outputs change by rounding only. A module can tell by an attribute `norm_of` which BatchNorm directly follows which
    of its convolutions, as a dict of their names. If neither this attribute nor an `nn.Sequential` tells, the stages of
    a large network are traced with torch.fx. Parts that cannot be traced stay unchanged.

    Parameters
    ----------
    stages : nn.ModuleList
        Stages in `eval()`. They cannot be trained afterwards.

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
        pairs: Iterable[tuple[str, str]] = getattr(module, "norm_of", {}).items()
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            pairs = pairwise(name for name, _ in list(module.named_children()))
        _fuse_pairs(module, pairs, shared)
    if not shared and sum(parameter.numel() for parameter in stages.parameters()) >= _WORTH_TRACING:
        _fuse_traced(stages)


def _shared(stages: nn.ModuleList) -> set[int]:
    """Return the ids of modules used in several places. Fusing them for one place would change the others."""
    seen: set[int] = set()
    repeated: set[int] = set()
    for _, module in stages.named_modules(remove_duplicate=False):
        (repeated if id(module) in seen else seen).add(id(module))
    return repeated


def _fuse_pairs(module: nn.Module, pairs: Iterable[tuple[str, str]], shared: set[int]) -> None:
    for name, after in pairs:
        first, second = getattr(module, name), getattr(module, after)
        alone = not shared & {id(first), id(second)}
        if type(first) is nn.Conv2d and type(second) is nn.BatchNorm2d and second.track_running_stats and alone:
            setattr(module, name, fuse_conv_bn_eval(first, second))
            setattr(module, after, nn.Identity())


def _fuse_traced(module: nn.Module) -> None:
    from torch.fx.experimental import optimization

    for name, child in module.named_children():
        if not any(isinstance(inner, nn.BatchNorm2d) for inner in child.modules()):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tracing runs the network's code without values
                setattr(module, name, optimization.fuse(child, inplace=True))
        except Exception:  # tracing may fail with any exception
            _fuse_traced(child)
