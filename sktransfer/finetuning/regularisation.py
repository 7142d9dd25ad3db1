"""What holds a training back: to where it started, and from being too sure."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LabelLoss", "pull_to_start"]


def pull_to_start(stages: nn.Module, l2_sp: float) -> Callable[[], None]:
    """Return what adds the gradient of L2-SP's penalty, `l2_sp / 2 * |w - w_start|²` [1]_, to that of the loss.

    Parameters
    ----------
    stages : nn.Module
        Whose trained parameters are held; where they are now is where they start.
    l2_sp : float
        How firmly.

    References
    ----------
    .. [1] X. Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML 2018.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.finetuning.regularisation import pull_to_start
    >>> layer = torch.nn.Linear(1, 1, bias=False)
    >>> pull = pull_to_start(layer, 0.5)
    >>> _ = layer.weight.data.add_(2.0)
    >>> layer.weight.grad = torch.zeros(1, 1)
    >>> pull()
    >>> layer.weight.grad.item()
    1.0
    """
    held = [(parameter, parameter.detach().clone()) for parameter in stages.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def pull() -> None:
        for parameter, start in held:
            if parameter.grad is not None:  # what waits for its turn has none
                parameter.grad.add_(parameter.detach() - start, alpha=l2_sp)

    return pull


class LabelLoss(nn.Module):
    """Binary cross entropy of labels that hold or do not, each on its own.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        How far targets are moved from 0 and 1 towards one half.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.finetuning.regularisation import LabelLoss
    >>> LabelLoss()(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    tensor([[0.6931, 0.6931]])
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return losses (n, n_labels)."""
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / 2  # (n, n_labels)
        return functional.binary_cross_entropy_with_logits(logits, smooth, reduction="none")  # (n, n_labels)
