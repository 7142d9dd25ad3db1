"""A learnt mixture of layers in place of one of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ScalarMix"]


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
    >>> from sktransfer.finetuning.mixing import ScalarMix
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
