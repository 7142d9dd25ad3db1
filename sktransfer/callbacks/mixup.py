"""Mixup: training on convex combinations of samples and targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor

from sktransfer._validation import check_float
from sktransfer.devices.transfers import upload
from sktransfer.exceptions import InvalidParameterError

__all__ = ["MixedBatch", "Mixup"]


@dataclass(frozen=True)
class MixedBatch:
    """Partner index and mixing coefficient of the samples of a batch.

    Parameters
    ----------
    partners : Tensor of shape (n,)
        Index of each sample's partner, a permutation.
    share : Tensor of shape ()
        Coefficient of the sample itself, from 0 to 1, the same for all samples.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.callbacks.mixup import MixedBatch
    >>> mixed = MixedBatch(torch.tensor([1, 0]), torch.tensor(0.75))
    >>> mixed.of(torch.tensor([[0.0], [4.0]])).tolist()
    [[1.0], [3.0]]
    """

    partners: Tensor
    share: Tensor

    def of(self, values: Tensor) -> Tensor:
        """Return mixed values of the shape of `values` (n, ...), which are not changed."""
        partners, share = (upload(one, values.device) for one in (self.partners, self.share.to(values.dtype)))
        return torch.lerp(values[partners], values, share)  # (n, ...)

    def inputs(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return mixed arguments of the network. Those of texts and of towers are unchanged: `outputs` mixes them."""
        return arguments if _mixes_outputs(arguments) else {name: self.of(value) for name, value in arguments.items()}

    def outputs(self, outputs: dict[str, Tensor], arguments: dict[str, Any]) -> dict[str, Tensor]:
        """Return mixed outputs (n, n_outputs) for texts and towers. Heads are linear, so this mixes what they read."""
        return {name: self.of(value) for name, value in outputs.items()} if _mixes_outputs(arguments) else outputs

    def targets(self, targets: Mapping[str, tuple[Tensor, Tensor]]) -> list[dict[str, tuple[Tensor, Tensor]]]:
        """Return targets and weights of the samples, and of their partners. The sum of the weights is unchanged."""
        own, partners = {}, {}
        for name, (values, weight) in targets.items():
            rows = upload(self.partners, weight.device)  # (n,)
            own[name] = (values, weight * self.share)
            partners[name] = (values[rows], weight[rows] * (1 - self.share))
        return [own, partners]


def _mixes_outputs(arguments: Mapping[str, Any]) -> bool:
    """Return whether outputs are mixed, because samples differ in length or are rows of several columns."""
    return "mask" in arguments or "towers" in arguments


class Mixup(Callback):  # type: ignore[misc]
    """Mixup: train on convex combinations of two samples and of their targets [1]_ [2]_.

    A mixing coefficient is drawn per batch from Beta(alpha, alpha), and a partner per sample. Images are mixed at the
    freezing boundary: in the activations of the frozen stages, or in pixels if no stage is frozen. The frozen stages
    therefore run once per sample, and the cache does not change. Texts have different lengths and cannot be mixed token
    by token, so their pooled features are mixed before the head [3]_.

    The loss is the sum of the losses for both targets, weighted by the coefficient and the weights of the samples. For
    cross entropy, also with label smoothing, and for squared errors it has the gradient of a mixed target. With
    `MicroBatches`, partners are in the same micro-batch.

    Parameters
    ----------
    alpha : float, default=0.2
        Parameter of the beta distribution. Small values give mostly one of the two samples, 1 gives a uniform
        coefficient, large values give halves.

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

    changes_step = True

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Let the net mix its batches."""
        check_float("alpha", self.alpha, exclude_minimum=True, hint="; leave Mixup out to mix nothing")
        tasks = net.tasks.values()
        if any(task.pairwise or task.comes_from_samples or task.reads != "features" for task in tasks):
            raise InvalidParameterError(
                "Mixup mixes the targets of two samples, and here the loss is one of pairs of samples, or of tokens or "
                "pixels, or has no targets; leave it out of callbacks"
            )
        net.mixture = self._draw

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Release the net, so that a pickle does not contain this callback twice."""
        net.mixture = None

    def _draw(self, n: int) -> MixedBatch:
        """Return the mix of a batch of n samples, from torch's generator."""
        beta = torch.distributions.Beta(float(self.alpha), float(self.alpha))
        return MixedBatch(torch.randperm(n), beta.sample())  # type: ignore[no-untyped-call]
