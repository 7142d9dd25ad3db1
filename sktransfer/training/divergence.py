"""Diverged trainings: an error if a loss or a weight is not finite, a warning if the loss has grown."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from sktransfer.exceptions import NotFiniteError, warn

__all__ = ["check_loss", "check_start", "check_weights", "warn_if_grown"]

GROWTH = 10.0  # a final loss of so many times the first one is suspicious
LEAST = 0.1  # a lower loss is not: it may be a multiple of almost nothing


def check_loss(net: Any, training: bool, index: int = -1) -> None:
    """Raise if the loss of a recorded batch is not finite.

    Parameters
    ----------
    net : FineTuneNet
        Net in training.
    training : bool
        Whether it is a batch of the training or of the validation data.
    index : int, default=-1
        Index of the batch in the last epoch.

    Raises
    ------
    NotFiniteError
        If the loss is infinite or NaN. The message names epoch, batch and learning rate.
    """
    batches = net.history[-1]["batches"]
    epoch, batch = len(net.history), index % len(batches) + 1
    loss = float(batches[index]["train_loss" if training else "valid_loss"])
    if math.isfinite(loss):
        return
    if training and epoch == batch == 1:
        check_start(net, loss)
    kind = "training" if training else "validation"
    raise NotFiniteError(f"the {kind} loss of batch {batch} of epoch {epoch} is {loss} at {_remedy(net)}")


def check_start(net: Any, loss: float) -> None:
    """Raise if the loss of the first batch, before any step, is not finite.

    Parameters
    ----------
    net : FineTuneNet
        Net before its first step.
    loss : float
        Loss of a batch.

    Raises
    ------
    NotFiniteError
        If the loss is infinite or NaN.
    """
    if not math.isfinite(loss):
        raise NotFiniteError(
            f"the training loss of the first batch is {loss} before any step: the weights of the backbone, the head or "
            f"the values of X or y are not finite or too large{_precision(net)}"
        )


@torch.no_grad()
def check_weights(net: Any) -> None:
    """Raise if a weight, or a statistic of BatchNorm, is not finite after the training.

    Parameters
    ----------
    net : FineTuneNet
        Trained net.

    Raises
    ------
    NotFiniteError
        If a weight is infinite or NaN. The message names its part of the network.
    """
    named: dict[str, Tensor] = dict(net.module_.named_parameters())
    for index, norm in enumerate(net.module_.batch_norms()):
        named |= {f"BatchNorm {index}, {name}": value for name, value in norm.named_buffers()}
    if not named:
        return
    finite = torch.stack([value.isfinite().all() for value in named.values()]).tolist()
    for name, is_finite in zip(named, finite):
        if not is_finite:
            raise NotFiniteError(
                f"the weights {name!r} are not finite after epoch {len(net.history)}, at {_remedy(net)}"
            )


def warn_if_grown(net: Any, dataset: Any) -> None:
    """Warn if the loss of the training samples is far higher after the training than it was before.

    It is if it exceeds ten times the loss of the first batch before its step, and the loss that outputs of 0 would
    have. The first batch is computed again, and all batches only if its loss has grown.

    Parameters
    ----------
    net : FineTuneNet
        Trained net, with its history.
    dataset : FrozenPrefixDataset
        Data that it was trained on.

    Warns
    -----
    ConvergenceWarning
        If the loss has grown. The message names epochs and learning rate.

    Raises
    ------
    NotFiniteError
        If the loss under the final weights is not finite.
    """
    steps = net.history[0]["batches"]  # none if the training was resumed from a checkpoint
    losses = [loss for epoch in net.history for loss in _recorded_losses(epoch)]
    if not losses:  # a callback ended the training before its first step
        return
    first, last = _recorded_losses({"batches": steps} if steps else net.history[0])[0], losses[-1]
    one_step = len(net.history) == 1 == len(steps)
    if last <= first and not one_step:
        return
    dataset.epoch = 0
    grown = _grown_loss(net, itertools.islice(net.get_iterator(dataset, training=True), 1), first)
    if grown is not None and not one_step:
        grown = _grown_loss(net, net.get_iterator(dataset, training=True), first)
    if grown is None:
        return
    warn(
        f"the training loss was {first:.3g} in the first batch and is {grown:.3g} after epoch {len(net.history)}, at "
        f"{_remedy(net)}",
        ConvergenceWarning,
    )


def _recorded_losses(epoch: Mapping[str, Any]) -> list[float]:
    """Return the mean loss of an epoch, or those of its batches if a callback ended it before its mean was recorded."""
    if "train_loss" in epoch:
        return [float(epoch["train_loss"])]
    return [float(batch["train_loss"]) for batch in epoch["batches"] if "train_loss" in batch]


def _grown_loss(net: Any, batches: Iterable[Any], first: float) -> float | None:
    """Return the mean loss of batches, or None if it is not far above the first one."""
    trained = net.module_.heads
    zero = copy.deepcopy(trained)
    with torch.no_grad():
        for parameter in zero.parameters():
            parameter.zero_()
    loss = idle = weight = 0.0
    net.module_.eval()
    try:
        for batch in batches:
            size = net.batch_weight(batch)
            net.module_.heads = zero
            idle += size * _loss(net, batch)
            net.module_.heads = trained
            loss += size * _loss(net, batch)
            weight += size
    finally:
        net.module_.heads = trained
    loss, idle = loss / weight, idle / weight
    if not math.isfinite(loss):
        raise NotFiniteError(f"the training loss is {loss} after epoch {len(net.history)}, at {_remedy(net)}")
    # A criterion of the user may be negative, and no multiple of it is a growth.
    limit = max(LEAST, idle, GROWTH * first) if first > 0 else idle + LEAST
    return loss if loss > limit else None


def _loss(net: Any, batch: Any) -> float:
    with torch.no_grad():
        return float(sum(loss for loss, _ in net.losses(batch)))


def _remedy(net: Any) -> str:
    return (
        f"lr={net.lr:g}: the training diverged. Set lr, and head_lr if it is given, to less; find_lr proposes a rate"
        f"{_precision(net)}"
    )


def _precision(net: Any) -> str:
    dtype = str(net.compute.dtype).removeprefix("torch.")
    return "" if dtype == "float32" else f", or precision='float32' if {dtype} is too narrow"
