"""Contrastive tension: two networks agree on a text, and disagree on different ones."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from sktransfer._validation import check_int
from sktransfer.objectives.base import TextObjective

__all__ = ["ContrastiveTension"]


class ContrastiveTension(TextObjective):
    """Tell texts apart by two networks: contrastive tension [1]_, for `SelfSupervisedTuner`.

    Two copies of the trained stages start equal, and are trained apart. One of them reads the first text of a pair, and
    the other one the second. The dot product of their pooled features is the logit that both texts are the same. Each
    text makes a pair with itself and with other texts of its batch, and its loss is the mean binary cross entropy of
    these pairs. The texts are not changed, so lower stages can be frozen, and run once for both copies. One copy
    becomes the adapted backbone, and the other one is thrown away after the training.

    Parameters
    ----------
    negatives : int, default=7
        Number of other texts that each text is paired with, at least 1. At most all others of the batch are.

    See Also
    --------
    SelfSupervisedTuner : Trains a backbone by it.
    DropoutViews : Tells texts apart by one network under dropout.

    Notes
    -----
    The publication draws pairs of texts. Here the pairs are those of a batch, so that each network reads each text once
    and not once per pair.

    References
    ----------
    .. [1] F. Carlsson et al., "Semantic Re-Tuning with Contrastive Tension", ICLR 2021.

    Examples
    --------
    >>> import torch
    >>> from sktransfer import ContrastiveTension
    >>> features = torch.tensor([[9.0, -9.0], [-9.0, 9.0], [9.0, -9.0], [-9.0, 9.0]])  # two texts by both networks
    >>> (ContrastiveTension(1).loss(None, torch.zeros(2), features) < 1e-3).tolist()
    [True, True]
    """

    kind = "contrastive-tension"
    pairwise = True
    reads_twice = True

    def __init__(self, negatives: int = 7) -> None:
        self.negatives = negatives

    def check_parameters(self) -> None:
        """Raise if a parameter is not allowed."""
        check_int("negatives", self.negatives, minimum=1)

    def change_stages(self, stages: nn.ModuleList) -> None:
        """Add a second network to the trained stages."""
        copies = copy.deepcopy(stages)  # in one call: parameters that stages share stay shared
        for index, (stage, other) in enumerate(zip(list(stages), copies, strict=True)):
            stages[index] = _TwoStages(stage, other)

    def restore_stages(self, stages: nn.ModuleList) -> None:
        """Drop the second network."""
        for index, stage in enumerate(list(stages)):
            if isinstance(stage, _TwoStages):
                stages[index] = stage.first

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the mean binary cross entropy of the pairs of each text (n,)."""
        first, second = features.chunk(2)  # (n, n_features) each
        n_pairs = min(1 + self.negatives, len(first))
        products = [(first * second.roll(-shift, 0)).sum(1) for shift in range(n_pairs)]  # (n,) each
        logits = torch.stack(products, 1)  # (n, n_pairs)
        same = torch.zeros_like(logits)
        same[:, 0] = 1
        return functional.binary_cross_entropy_with_logits(logits, same, reduction="none").mean(1)  # (n,)


class _TwoStages(nn.Module):
    """A stage of both networks. Each of them reads one half of a batch.

    Parameters
    ----------
    first, second : nn.Module
        The stage and its copy.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the values of the first half by one network, and of the second half by the other, (2 n, ...)."""
        halves = values.chunk(2)  # (n, ...) each
        masks = (None, None) if mask is None else mask.chunk(2)  # (n, n_tokens) each
        parts = zip((self.first, self.second), halves, masks, strict=True)
        return torch.cat([stage(half, of_half) for stage, half, of_half in parts])
