"""The skorch net that trains: weighted losses, batches from the cut, a place to listen to epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LinearLR

from sktransfer.exceptions import InvalidParameterError
from sktransfer.finetuning.data import Batches, CutDataset
from sktransfer.finetuning.network import FineTuneNetwork

__all__ = ["FineTuneNet", "parameter_groups", "resolve_optimizer", "with_schedule"]

_OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def resolve_optimizer(optimizer: str | type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """Return the optimizer class that a parameter names.

    Raises
    ------
    InvalidParameterError
        If it names none.
    """
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        return optimizer
    if isinstance(optimizer, str) and optimizer in _OPTIMIZERS:
        return _OPTIMIZERS[optimizer]
    raise InvalidParameterError(
        f"optimizer={optimizer!r} must be one of {tuple(_OPTIMIZERS)} or a class of torch.optim"
    )


def parameter_groups(network: FineTuneNetwork, lr: float, head_lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Return the groups that an optimizer takes: stages and head, each with and without weight decay.

    Biases and the weights of norms (one dimension) are not decayed.
    """
    groups = []
    for module, rate in ((network.stages, lr), (network.head, head_lr)):
        parameters = [p for p in module.parameters() if p.requires_grad]
        for decays in (True, False):
            group = [p for p in parameters if (p.ndim > 1) == decays]
            if group:
                groups.append({"params": group, "lr": rate, "weight_decay": weight_decay if decays else 0.0})
    return groups


def with_schedule(callbacks: Sequence[Any] | None, n_steps: int) -> list[Any]:
    """Return skorch callbacks with a learning rate that falls to zero in a straight line, unless one is scheduled.

    Parameters
    ----------
    callbacks : sequence of skorch callbacks or (name, callback), default=None
        The user's own; an `LRScheduler` among them is used instead.
    n_steps : int
        Batches in all epochs together.
    """
    given = list(callbacks or [])
    plain = [one[1] if isinstance(one, tuple) else one for one in given]
    if n_steps == 0 or any(isinstance(one, LRScheduler) for one in plain):
        return given
    linear = LRScheduler(LinearLR, start_factor=1.0, end_factor=0.0, total_iters=n_steps, step_every="batch")
    return [("linear_decay", linear), *given]


class FineTuneNet(NeuralNet):  # type: ignore[misc]
    """A skorch `NeuralNet` whose batches carry a weight for each sample.

    `on_epoch` is called after each epoch and stops the training where it returns True.
    """

    on_epoch: Callable[[], bool] | None = None
    groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None

    def get_loss(self, y_pred: Tensor, y_true: tuple[Tensor, Tensor], X: Any = None, training: bool = False) -> Tensor:
        """Return the weighted mean of the samples' losses."""
        targets, weight = (part.to(y_pred.device) for part in y_true)
        losses = self.criterion_(y_pred, targets)  # (n,) or (n, n_outputs)
        if losses.ndim > 1:
            losses = losses.mean(1)  # (n,)
        mean: Tensor = (losses * weight).sum() / weight.sum()
        return mean

    def get_iterator(self, dataset: CutDataset, training: bool = False) -> Batches:
        """Return batches: shuffled in training, in order elsewhere."""
        return Batches(dataset, self.batch_size, self.seed if training else None)

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> FineTuneNet:
        """Make the optimizer over the groups of stages and head."""
        assert self.groups is not None
        self.optimizer_ = self.optimizer(self.groups(self.module_), lr=self.lr)
        return self

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Tell who listens, and stop where that is asked for."""
        super().on_epoch_end(net, **kwargs)
        if self.on_epoch is not None and self.on_epoch():
            raise KeyboardInterrupt  # skorch's own way to end a training early
