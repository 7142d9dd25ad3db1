"""Alignment by a discriminator of domains, whose gradient is reversed."""

from __future__ import annotations

import math
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional

from sktransfer._validation import check_float, check_int
from sktransfer.domains.base import Alignment
from sktransfer.tasks.heads import FeatureHead

__all__ = ["DANN", "DomainHead", "GradientReversal", "ReversalSchedule", "reversal_strength"]

_STEEPNESS = 10.0  # of the schedule, as published


class _Reverse(torch.autograd.Function):
    """The identity, with a gradient that is multiplied by a negative number."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return -ctx.strength * gradient, None


class GradientReversal(nn.Module):
    """The identity, whose gradient is multiplied by `-strength`.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.domains.adversarial import GradientReversal
    >>> values, reversal = torch.ones(2, requires_grad=True), GradientReversal()
    >>> reversal.strength = 0.5
    >>> reversal(values).sum().backward()
    >>> values.grad.tolist()
    [-0.5, -0.5]
    """

    strength: float = 0.0

    def forward(self, values: Tensor) -> Tensor:
        """Return the values unchanged."""
        reversed_: Tensor = _Reverse.apply(values, self.strength)  # type: ignore[no-untyped-call]
        return reversed_


class DomainHead(FeatureHead):
    """Discriminator of domains on standardized features: a gradient reversal, and one hidden layer.

    Parameters
    ----------
    n_features : int
        Width of the features.
    hidden : int
        Width of the hidden layer.
    lr : float
        Learning rate, which does not depend on that of the stages.
    n_mixed : int, default=None
        Number of layers of equal width to mix at equal weights.
    """

    def __init__(self, n_features: int, hidden: int, lr: float, n_mixed: int | None = None) -> None:
        super().__init__(n_features, None, n_mixed)
        self.requires_grad_(False)  # of the weights of mixed layers
        self.reversal, self.own_lr = GradientReversal(), lr
        self.linear = nn.Sequential(
            self.reversal, nn.Linear(self.n_outputs, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )  # (..., width) to (..., 1)
        self.n_outputs = 1


def reversal_strength(progress: float) -> float:
    """Return the factor of the reversed gradient, from 0 at the start of a training to almost 1 at its end [1]_.

    Parameters
    ----------
    progress : float
        Share of the steps that are done.

    References
    ----------
    .. [1] Y. Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016, section 5.2.2.

    Examples
    --------
    >>> from sktransfer.domains.adversarial import reversal_strength
    >>> [round(reversal_strength(progress), 3) for progress in (0.0, 0.1, 0.5, 1.0)]
    [0.0, 0.462, 0.987, 1.0]
    """
    return math.tanh(_STEEPNESS / 2 * progress)


class ReversalSchedule(Callback):  # type: ignore[misc]
    """Raise the strength of the gradient reversal from batch to batch."""

    reads_batch_losses = False

    def on_train_begin(self, net: NeuralNet, X: Any = None, **kwargs: Any) -> None:
        """Count the batches of an epoch."""
        self._n_batches = len(net.get_iterator(X, training=True))

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Begin at the first batch of the epoch. skorch has already added the epoch to its history."""
        self._step = (len(net.history) - 1) * self._n_batches

    def on_batch_begin(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Set the strength for a batch of the training."""
        if training:
            strength = reversal_strength(self._step / (net.max_epochs * self._n_batches))
            for head in net.module_.heads.values():
                if isinstance(head, DomainHead):
                    head.reversal.strength = strength
            self._step += 1


class DANN(Alignment):
    """Align two domains by a discriminator that cannot tell them apart: domain-adversarial training [1]_.

    The discriminator learns the domain of each sample. Its gradient reaches the stages with the opposite sign, times a
    factor that rises from 0 to 1 in the training. It is for `DomainAdaptationClassifier`.

    Parameters
    ----------
    lr : float, default=1e-3
        Peak learning rate of the discriminator. It follows `lr_schedule`, and is independent of the `lr` of the stages.
    hidden : int, default=128
        Width of its hidden layer.

    References
    ----------
    .. [1] Y. Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016.

    Examples
    --------
    >>> from sktransfer import DANN, DomainAdaptationClassifier
    >>> DomainAdaptationClassifier("tiny/cnn", alignment=DANN(lr=1e-2)).alignment
    DANN(lr=0.01, hidden=128)
    """

    def __init__(self, lr: float = 1e-3, hidden: int = 128) -> None:
        self.lr, self.hidden = lr, hidden

    def check_parameters(self) -> None:
        """Raise if a parameter is not allowed."""
        check_float("lr", self.lr, exclude_minimum=True)
        check_int("hidden", self.hidden, 1)

    def callbacks(self) -> list[tuple[str, Any]]:
        """Return the schedule of the gradient reversal."""
        return [("reversal_schedule", ReversalSchedule())]

    def make_head(self, n_features: int, n_mixed: int | None = None) -> DomainHead:
        """Return a new discriminator."""
        return DomainHead(n_features, self.hidden, self.lr, n_mixed)

    def distance(self, outputs: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Return the mean of the cross entropies of both domains ()."""
        logits = outputs[:, 0]  # (n,)
        return (source @ functional.softplus(-logits) + target @ functional.softplus(logits)) / 2
