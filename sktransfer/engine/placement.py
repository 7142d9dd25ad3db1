"""A backbone's stages made ready to be run: on a device, in a precision, in the layout that is fastest there."""

from __future__ import annotations

import copy
import threading

import torch
from torch import nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.compute import Compute
from sktransfer.engine.fusing import fuse
from sktransfer.engine.packing import pack

__all__ = ["has_convolutions", "placed"]

_lock = threading.Lock()


def has_convolutions(stages: nn.Module) -> bool:
    """Return whether images go through convolutions, which are fastest where the channels lie side by side."""
    return any(isinstance(module, nn.Conv2d) for module in stages.modules())


def placed(backbone: Backbone, compute: Compute) -> nn.ModuleList:
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
