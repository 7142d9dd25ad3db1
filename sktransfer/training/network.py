"""The part of a network that is trained: the stages above the cut, and a head."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import pool
from sktransfer.engine.forward import LayerOutput
from sktransfer.engine.inference import has_convolutions

__all__ = ["FineTuneNetwork", "ScalarMix", "split_taps", "trainable_stages"]


def split_taps(taps: Sequence[LayerOutput], cut: int) -> tuple[list[LayerOutput], list[LayerOutput]]:
    """Return the taps that a cut leaves in the frozen part, and those above it.

    Parameters
    ----------
    taps : sequence of LayerOutput
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
    taps : sequence of LayerOutput
        What the head sees of them, `stop` counted from the backbone's input.
    cut : int
        How many stages lie below.
    n_features : int
        Width of the head's input, frozen taps included.
    n_outputs : int or None
        Width of its output; None for no head: the network then gives what one would see.
    prefix_tokens : int, default=0
        As in `pool`.
    keep_statistics : bool, default=True
        Whether BatchNorm goes on normalising by its pretrained statistics while its weights are trained. Batches of a
        small data set estimate them badly, and a probe was fitted to features that they gave.
    n_mixed : int, default=None
        How many layers of equal width are mixed into one by learnt weights; None where the head sees them side by side.
    """

    def __init__(
        self,
        stages: nn.ModuleList,
        taps: Sequence[LayerOutput],
        cut: int,
        n_features: int,
        n_outputs: int | None,
        *,
        prefix_tokens: int = 0,
        keep_statistics: bool = True,
        n_mixed: int | None = None,
    ) -> None:
        super().__init__()
        self.stages = stages.to(memory_format=torch.channels_last) if has_convolutions(stages) else stages
        self.keep_statistics = keep_statistics
        self.taps, self.cut, self.prefix_tokens = tuple(taps), cut, prefix_tokens
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.mix = None if n_mixed is None else ScalarMix(n_mixed)
        n_seen = n_features // (n_mixed or 1)
        self.head: Any = nn.Identity() if n_outputs is None else nn.Linear(n_seen, n_outputs)
        self.n_outputs = n_seen if n_outputs is None else n_outputs
        # What may be trained at all; what has its turn later is frozen until then.
        self.trainable = frozenset(name for name, parameter in self.named_parameters() if parameter.requires_grad)
        self.waiting: frozenset[int] = frozenset()

    mean: Tensor
    scale: Tensor

    def train(self, mode: bool = True) -> FineTuneNetwork:
        """Turn dropout on or off, and BatchNorm's batch statistics where they are not kept; what waits stays off."""
        super().train(mode)
        for place in self.waiting:
            self.stages[place].eval()
        if self.keep_statistics:
            for norm in self.norms():
                norm.eval()
        return self

    def norms(self) -> list[nn.modules.batchnorm._BatchNorm]:
        """Return the BatchNorms of the trained stages."""
        return [module for module in self.stages.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    def places(self) -> list[int]:
        """Return which stages have something to learn, from the lowest to the top."""
        return sorted({int(name.split(".")[1]) for name in self.trainable if name.startswith("stages.")})

    def thaw(self, stages: Collection[int], head: bool = True) -> None:
        """Let some stages learn, and the head; the others wait, without gradient and as in evaluation.

        Parameters
        ----------
        stages : collection of int
            Their places above the cut, 0 the lowest.
        head : bool, default=True
            Whether the head learns, and the mixture of layers.
        """
        self.waiting = frozenset(range(len(self.stages))) - set(stages)
        for name, parameter in self.named_parameters():
            part, _, rest = name.partition(".")
            learns = int(rest.partition(".")[0]) in stages if part == "stages" else head
            parameter.requires_grad_(name in self.trainable and learns)

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
        outputs: Tensor = self.head(self.seen(features))  # (n, n_outputs)
        return outputs

    def seen(self, features: Tensor) -> Tensor:
        """Return features as the linear layer sees them: standardised, and mixed where layers are mixed."""
        standard = (features - self.mean) / self.scale  # (n, n_features)
        return standard if self.mix is None else self.mix(standard)  # (n, n_features / n_mixed)


class ScalarMix(nn.Module):
    """Weight layers by a softmax, add them up, and scale the sum: ELMo's mixture [1]_.

    Parameters
    ----------
    n_layers : int
        How many layers; they start with equal weights.

    References
    ----------
    .. [1] M. Peters et al., "Deep Contextualized Word Representations", NAACL 2018, equation 1.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.training.network import ScalarMix
    >>> mix = ScalarMix(2)
    >>> mix(torch.tensor([[1.0, 2.0, 3.0, 6.0]])).tolist()  # layers [1, 2] and [3, 6], one after the other
    [[2.0, 4.0]]
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(n_layers))
        self.gamma = nn.Parameter(torch.ones(()))

    @property
    def weights(self) -> Tensor:
        """The weight of each layer, (n_layers,); they sum to one."""
        return self.scores.softmax(0)

    def forward(self, features: Tensor) -> Tensor:
        """Return the mixture (n, n_features) of layers that lie side by side (n, n_layers * n_features)."""
        layers = features.reshape(len(features), len(self.scores), -1)  # (n, n_layers, n_features)
        mixed: Tensor = self.gamma * torch.einsum("l,nlf->nf", self.weights, layers)  # (n, n_features)
        return mixed
