"""The skorch net that trains: weighted losses, batches from the cut, a place to listen to epochs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.lr_scheduler import LinearLR

from sktransfer.engine.compute import Compute
from sktransfer.finetuning.data import Batches, CutDataset
from sktransfer.finetuning.network import FineTuneNetwork
from sktransfer.finetuning.settings import Settings

__all__ = ["FineTuneNet", "build_net", "parameter_groups", "with_schedule"]


def build_net(
    network: FineTuneNetwork,
    settings: Settings,
    loss: type[nn.Module],
    compute: Compute,
    seed: int,
    callbacks: Sequence[Any] | None,
    n_samples: int,
) -> FineTuneNet:
    """Return the net that trains a network.

    Parameters
    ----------
    network : FineTuneNetwork
        The part above the cut.
    settings : Settings
        How long, how fast.
    loss : class of nn.Module
        Takes `reduction="none"`.
    compute : Compute
        Where, and in which precision.
    seed : int
        Draws the order of the samples.
    callbacks : sequence of skorch callbacks or None
        The user's own.
    n_samples : int
        How many there are to train on.
    """
    n_steps = settings.max_epochs * -(-n_samples // settings.batch_size)
    net = FineTuneNet(
        network,
        criterion=loss,
        criterion__reduction="none",
        optimizer=settings.optimizer,
        lr=settings.lr,
        max_epochs=settings.max_epochs,
        batch_size=settings.batch_size,
        train_split=None,
        callbacks=with_schedule(callbacks, n_steps),
        device=str(compute.device),
        verbose=settings.verbose,
    )
    net.seed, net.compute = seed, compute
    net.groups = functools.partial(
        parameter_groups, lr=settings.lr, head_lr=settings.head_lr, weight_decay=settings.weight_decay
    )
    return net


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

    `on_epoch` is called after each epoch and stops the training where it returns True. In a lower precision than
    float32 the weights stay in float32, and what is multiplied is rounded.
    """

    on_epoch: Callable[[], bool] | None = None
    groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None
    compute: Compute = Compute(torch.device("cpu"))

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Return the network's outputs, in float32."""
        with _rounding(self.compute):
            return super().infer(x, **fit_params).float()

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
        # Gradients in float16 are often too small for it: they are computed of a multiple of the loss.
        self.scaler_ = torch.amp.GradScaler(
            self.compute.device.type, init_scale=1024.0, enabled=self.compute.dtype == torch.float16
        )
        return self

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute loss and gradients of one batch."""
        self._set_training(True)
        arguments, targets = batch
        y_pred = self.infer(arguments, **fit_params)
        loss = self.get_loss(y_pred, targets, X=arguments, training=True)
        self.scaler_.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler_.unscale_(self.optimizer_)
        return {"loss": loss, "y_pred": y_pred}

    def _step_optimizer(self, step_fn: Callable[[], Tensor]) -> None:
        if not self.scaler_.is_enabled():
            super()._step_optimizer(step_fn)
            return
        step_fn()
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Tell who listens, and stop where that is asked for."""
        super().on_epoch_end(net, **kwargs)
        if self.on_epoch is not None and self.on_epoch():
            raise KeyboardInterrupt  # skorch's own way to end a training early


@contextmanager
def _rounding(compute: Compute) -> Iterator[None]:
    if compute.dtype == torch.float32:
        yield
        return
    with torch.autocast(compute.device.type, compute.dtype):
        if not compute.on_cpu:
            yield
            return
        # The gradient of fused attention in a lower precision takes several times as long as that of its parts.
        with sdpa_kernel(SDPBackend.MATH):
            yield
