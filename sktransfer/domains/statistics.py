"""BatchNorm statistics of a domain: adaptive batch normalization."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from sktransfer.backbones.backbone import Backbone, replace_stages
from sktransfer.engine.compute import Compute
from sktransfer.engine.inputs import PreprocessedSamples, collate
from sktransfer.exceptions import InvalidParameterError

__all__ = ["batch_norm_stages", "choose_alignment", "with_statistics"]

_BATCH = 128  # samples, whose own statistics are near those of all


def _batch_norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the BatchNorms of a module that have running statistics."""
    norms = [one for one in module.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    return [norm for norm in norms if norm.track_running_stats]


def choose_alignment(backbone: Backbone) -> str:
    """Return the alignment that suits a backbone: "adabn" if it has BatchNorm statistics, else "coral".

    Parameters
    ----------
    backbone : Backbone
        Backbone.
    """
    return "adabn" if any(_batch_norms(stage) for stage in backbone.stages) else "coral"


def batch_norm_stages(backbone: Backbone) -> list[int]:
    """Return the indices of the stages that have BatchNorm statistics, in ascending order.

    Parameters
    ----------
    backbone : Backbone
        Backbone.

    Raises
    ------
    InvalidParameterError
        If no stage has any.
    """
    found = [index for index, stage in enumerate(backbone.stages) if _batch_norms(stage)]
    if not found:
        raise InvalidParameterError(
            f"alignment='adabn' takes BatchNorm statistics of the target, and {backbone.name} has no BatchNorm; use "
            "another alignment, such as 'coral'"
        )
    return found


@torch.no_grad()
def with_statistics(backbone: Backbone, inputs: PreprocessedSamples, compute: Compute) -> Backbone:
    """Return a backbone whose BatchNorms have the statistics of given samples [1]_.

    All BatchNorms take them in one pass, as the mean over shuffled batches. Weights do not change. Stages below the
    first BatchNorm are shared.

    Parameters
    ----------
    backbone : Backbone
        Backbone, not changed.
    inputs : PreprocessedSamples
        Samples.
    compute : Compute
        Device. The pass is in float32.

    References
    ----------
    .. [1] Y. Li et al., "Revisiting Batch Normalization For Practical Domain Adaptation", ICLR Workshops 2017.
    """
    first = batch_norm_stages(backbone)[0]
    stages = copy.deepcopy(nn.ModuleList(backbone.stages)).to(compute.device).eval()
    momenta = {}
    for norm in _batch_norms(stages):
        momenta[norm], norm.momentum = norm.momentum, None  # the mean over batches
        norm.reset_running_stats()
        norm.train()
    order = np.random.default_rng(0).permutation(len(inputs))  # (n_samples,), samples may be sorted by class
    pad_value = backbone.preprocess.pad_value if backbone.modality == "text" else 0
    for rows in np.array_split(order, -(-len(order) // _BATCH)):
        values, mask = collate(inputs.tensors(rows.tolist()), backbone.modality, pad_value)
        values = values.to(compute.device)
        mask = None if mask is None else mask.to(compute.device)
        for stage in stages:
            values = stage(values, mask)
    for norm, momentum in momenta.items():
        norm.momentum = momentum
    return replace_stages(backbone, first, list(stages[first:].cpu().eval()))
