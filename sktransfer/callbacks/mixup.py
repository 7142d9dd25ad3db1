"""Samples mixed with others of their batch: between two of them, the network is to give what lies between."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor

from sktransfer.exceptions import InvalidParameterError
from sktransfer.training.data import Batches

__all__ = ["Mixture", "Mixup"]


@dataclass(frozen=True)
class Mixture:
    """Whom each sample of a batch is mixed with, and how much of it stays itself.

    Parameters
    ----------
    partners : Tensor of shape (n,)
        Places in the batch, each once.
    share : Tensor of shape ()
        From 0 to 1, the same for all.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.callbacks.mixup import Mixture
    >>> mixture = Mixture(torch.tensor([1, 0]), torch.tensor(0.75))
    >>> mixture.of(torch.tensor([[0.0], [4.0]])).tolist()
    [[1.0], [3.0]]
    """

    partners: Tensor
    share: Tensor

    def of(self, values: Tensor) -> Tensor:
        """Return mixed values, of the shape of values (n, ...); those given stay as they are."""
        partners, share = self.partners.to(values.device), self.share.to(values.device, values.dtype)
        return torch.lerp(values[partners], values, share)  # (n, ...)

    def inputs(self, arguments: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the network's arguments, mixed; those of texts as they are, for `outputs` mixes them."""
        return arguments if "mask" in arguments else {name: self.of(value) for name, value in arguments.items()}

    def outputs(self, y_pred: Tensor, arguments: dict[str, Tensor]) -> Tensor:
        """Return outputs (n, n_outputs), of texts mixed: the head is linear, so that mixes the features it saw."""
        return self.of(y_pred) if "mask" in arguments else y_pred

    def targets(self, y_true: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return targets and weights of the samples and of their partners; the weights' sum is as it was."""
        targets, weight = y_true
        return targets, weight * self.share, targets[self.partners], weight[self.partners] * (1 - self.share)


class Mixup(Callback):  # type: ignore[misc]
    """Train on mixtures of two samples, held to both their targets [1]_ [2]_: an augmentation that needs no pixels.

    A share is drawn for each batch from Beta(alpha, alpha), and to each sample a partner. Images are mixed at the cut,
    in what the frozen stages gave (pixels, where none is frozen), so that these run once a sample as ever, and
    what is stored does not change. Texts are of different lengths and have no values to mix token by token: they are
    mixed where all have one vector each, behind pooling, before the head [3]_.

    The loss is that of the sample's target and of its partner's, each by its share and its sample's weight. For cross
    entropy, with smoothed labels as well, and for squared errors that has the gradient of a mixed target. With
    `MicroBatches` partners are found in the same part of a batch.

    Parameters
    ----------
    alpha : float, default=0.2
        Small: mostly one of the two with a trace of the other; 1: every share is as likely; large: halves.

    References
    ----------
    .. [1] H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    .. [2] V. Verma et al., "Manifold Mixup: Better Representations by Interpolating Hidden States", ICML 2019.
    .. [3] H. Guo et al., "Augmenting Data with Mixup for Sentence Classification: An Empirical Study", 2019.

    Examples
    --------
    >>> from sktransfer import FineTuneClassifier, Mixup
    >>> clf = FineTuneClassifier(freeze_depth=-2, callbacks=[Mixup(0.4)])
    """

    def __init__(self, alpha: float = 0.2) -> None:
        self.alpha = alpha

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Tell the net."""
        alpha = self.alpha
        if isinstance(alpha, bool) or not isinstance(alpha, Real) or not 0 < float(alpha) < math.inf:
            raise InvalidParameterError(
                f"alpha={alpha!r} must be a number greater than 0; leave Mixup out to mix nothing"
            )
        if net.batches is not Batches:
            raise InvalidParameterError(
                "Mixup mixes the targets of two samples, and here the loss goes by pairs of samples, of one class or "
                "of two; leave it out of callbacks"
            )
        net.mixture = self._draw

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Let go of the net: a pickle has no use for it."""
        net.mixture = None

    def _draw(self, n: int) -> Mixture:
        """Return the mixture of a batch of n samples, drawn by the training's own random numbers."""
        beta = torch.distributions.Beta(float(self.alpha), float(self.alpha))
        return Mixture(torch.randperm(n), beta.sample())  # type: ignore[no-untyped-call]
