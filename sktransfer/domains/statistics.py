"""BatchNorm statistics of a domain: adaptive batch normalization."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.backbones.backbone import Backbone, replace_stages
from sktransfer.engine.compute import Compute
from sktransfer.engine.inputs import PreprocessedSamples, collate
from sktransfer.exceptions import InvalidParameterError

__all__ = ["DomainInputs", "DomainNorms", "batch_norm_stages", "has_batch_norm", "with_statistics"]

_BATCH = 128  # samples, whose own statistics are near those of all


def _batch_norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the BatchNorms of a module that have running statistics."""
    norms = [one for one in module.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    return [norm for norm in norms if norm.track_running_stats]


def has_batch_norm(backbone: Backbone) -> bool:
    """Return whether a stage has BatchNorm statistics.

    Parameters
    ----------
    backbone : Backbone
        Backbone.
    """
    return bool(_batch_norms(backbone.stages))


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


class DomainInputs(PreprocessedSamples):
    """Preprocessed samples of two domains, of which the target passes a network with statistics of its own.

    Parameters
    ----------
    inputs : PreprocessedSamples
        Samples of both domains.
    is_target : ndarray of shape (n_samples,), bool
        Whether each of them is of the target.
    target : Backbone
        Network of the target. That of the source differs in the statistics only.
    """

    def __init__(self, inputs: PreprocessedSamples, is_target: np.ndarray, target: Backbone) -> None:
        super().__init__(inputs.samples, inputs.preprocess, keep=inputs.keep)
        self.is_target, self.target = is_target, target

    def divided(self, backbone: Backbone, rows: Sequence[int]) -> list[tuple[Backbone, list[int]]]:
        """Return the network of each domain and its rows among some rows."""
        parts = [
            (network, [row for row in rows if self.is_target[row] == is_target])
            for network, is_target in ((backbone, False), (self.target, True))
        ]
        return [(network, part) for network, part in parts if part]


class DomainNorms:
    """BatchNorms of the trained stages, with statistics of each domain and shared weights [1]_.

    Parameters
    ----------
    target : mapping of str to Tensor
        State of the trained stages of the target, which has its statistics. That of the source is in the stages.

    Attributes
    ----------
    is_target : Tensor of shape (n,) or None
        Whether each row of the next batch is of the target. None for a batch of the target.

    References
    ----------
    .. [1] W. Chang et al., "Domain-Specific Batch Normalization for Unsupervised Domain Adaptation", CVPR 2019.
    """

    def __init__(self, target: Mapping[str, Tensor]) -> None:
        self.target = target
        self.is_target: Tensor | None = None

    def __deepcopy__(self, memo: Any) -> DomainNorms:
        return self  # a copy of the network reads the same batches

    def divide(self, stages: nn.ModuleList) -> None:
        """Put two BatchNorms in the place of each one.

        Parameters
        ----------
        stages : nn.ModuleList
            Trained stages of the source, changed in place.
        """
        norms = {id(norm) for norm in _batch_norms(stages)}
        for name, norm in list(stages.named_modules()):
            if id(norm) not in norms:
                continue
            other = copy.deepcopy(norm)
            other.load_state_dict({key: self.target[f"{name}.{key}"] for key in norm.state_dict()})
            other.weight, other.bias = norm.weight, norm.bias
            _replace(stages, name, _DomainNorm(norm, other, self))
        if len(stages):
            stages[-1] = _LastStage(stages[-1], self)

    @staticmethod
    def restore(stages: nn.ModuleList) -> None:
        """Put the BatchNorms of the source in the place of both.

        Parameters
        ----------
        stages : nn.ModuleList
            Stages that `divide` has changed, or a copy of them, changed in place.
        """
        if len(stages) and isinstance(stages[-1], _LastStage):
            stages[-1] = stages[-1].stage
        for name, module in list(stages.named_modules()):
            if isinstance(module, _DomainNorm):
                _replace(stages, name, module.source)


def _replace(stages: nn.ModuleList, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(stages.get_submodule(parent), child, module)


class _DomainNorm(nn.Module):
    """BatchNorms of both domains, each of which reads the rows of its domain.

    Parameters
    ----------
    source, target : nn.Module
        BatchNorms with the same weights.
    norms : DomainNorms
        Knows the domain of each row.
    """

    def __init__(self, source: nn.Module, target: nn.Module, norms: DomainNorms) -> None:
        super().__init__()
        self.source, self.target, self.norms = source, target, norms

    def forward(self, values: Tensor) -> Tensor:
        """Return normalized values (n, channels, ...)."""
        if self.norms.is_target is None:
            normalized: Tensor = self.target(values)
            return normalized
        is_target = self.norms.is_target.to(values.device)  # (n,)
        pairs = [(self.source, (~is_target).nonzero()[:, 0]), (self.target, is_target.nonzero()[:, 0])]
        parts = [norm(values[rows]) for norm, rows in pairs if len(rows)]
        order = torch.cat([rows for _, rows in pairs]).argsort()  # (n,)
        return torch.cat(parts)[order]  # (n, channels, ...)


class _LastStage(nn.Module):
    """The highest trained stage. After it, the domains of the batch are forgotten."""

    def __init__(self, stage: nn.Module, norms: DomainNorms) -> None:
        super().__init__()
        self.stage, self.norms = stage, norms

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the values of the stage."""
        values = self.stage(values, mask)
        self.norms.is_target = None
        return values
