"""The part of a network that is trained: the stages above the cut, and a head."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import pool
from sktransfer.engine.forward import Tap
from sktransfer.engine.placement import has_convolutions

__all__ = ["FineTuneNetwork", "split_taps", "trainable_stages"]


def split_taps(taps: Sequence[Tap], cut: int) -> tuple[list[Tap], list[Tap]]:
    """Return the taps that a cut leaves in the frozen part, and those above it.

    Parameters
    ----------
    taps : sequence of Tap
        What the head sees.
    cut : int
        How many stages are frozen.
    """
    return [tap for tap in taps if tap.stop <= cut], [tap for tap in taps if tap.stop > cut]


def trainable_stages(backbone: Backbone, cut: int, stop: int) -> nn.ModuleList:
    """Return copies of `stages[cut:stop]` that can be trained; what belongs to a frozen stage stays frozen.

    A parameter that several stages share belongs to the first of them.
    """
    frozen = {name for stage in backbone.stages[:cut] for name in map(id, stage.parameters())}
    owned = [[id(p) not in frozen for p in stage.parameters()] for stage in backbone.stages[cut:stop]]
    stages: nn.ModuleList = copy.deepcopy(nn.ModuleList(backbone.stages[cut:stop]))  # one call: shared stays shared
    for stage, flags in zip(stages, owned):
        for parameter, flag in zip(stage.parameters(), flags):
            parameter.requires_grad_(flag)
    return stages


class FineTuneNetwork(nn.Module):
    """Stages above the cut, pooling, and a linear head on standardised features.

    Parameters
    ----------
    stages : nn.ModuleList
        The stages that are trained; empty where all are frozen.
    taps : sequence of Tap
        What the head sees of them, `stop` counted from the backbone's input.
    cut : int
        How many stages lie below.
    n_features, n_outputs : int
        Width of the head's input, frozen taps included, and of its output.
    prefix_tokens : int, default=0
        As in `pool`.
    keep_statistics : bool, default=True
        Whether BatchNorm goes on normalising by its pretrained statistics while its weights are trained. Batches of a
        small data set estimate them badly, and a probe was fitted to features that they gave.
    """

    def __init__(
        self,
        stages: nn.ModuleList,
        taps: Sequence[Tap],
        cut: int,
        n_features: int,
        n_outputs: int,
        *,
        prefix_tokens: int = 0,
        keep_statistics: bool = True,
    ) -> None:
        super().__init__()
        self.stages = stages.to(memory_format=torch.channels_last) if has_convolutions(stages) else stages
        self.keep_statistics = keep_statistics
        self.taps, self.cut, self.prefix_tokens = tuple(taps), cut, prefix_tokens
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.head = nn.Linear(n_features, n_outputs)

    mean: Tensor
    scale: Tensor

    def train(self, mode: bool = True) -> FineTuneNetwork:
        """Turn dropout on or off, and BatchNorm's batch statistics where they are not kept."""
        super().train(mode)
        if self.keep_statistics:
            for module in self.stages.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, fixed: Tensor | None = None, values: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return logits or predictions (n, n_outputs).

        Parameters
        ----------
        fixed : Tensor of shape (n, n_fixed), default=None
            Features pooled from frozen stages.
        values : Tensor, default=None
            What the first trained stage takes.
        mask : Tensor of shape (n, tokens), default=None
            True where a token is real.
        """
        features = [] if fixed is None else [fixed]
        if values is not None and values.ndim == 4:  # maps: convolutions are fastest where channels lie side by side
            values = values.to(memory_format=torch.channels_last)
        for stop, stage in enumerate(self.stages, start=self.cut + 1):
            values = stage(values, mask)
            for tap in self.taps:
                if tap.stop == stop and tap.pooling is not None:
                    features.append(pool(values, mask, tap.pooling, prefix_tokens=self.prefix_tokens))
        return self.logits(torch.cat(features, 1))  # (n, n_outputs)

    def logits(self, features: Tensor) -> Tensor:
        """Return what the head makes of the features (n, n_features) that it sees: (n, n_outputs)."""
        outputs: Tensor = self.head((features - self.mean) / self.scale)  # (n, n_outputs)
        return outputs
