"""Learning rate range test."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import GradientNormClipping

from sktransfer.backbones.generators import fork_rng
from sktransfer.engine.rng import derive_seed, seed_torch
from sktransfer.exceptions import warn
from sktransfer.training.callback_list import copied, is_callback_type, unnamed
from sktransfer.training.data import FrozenPrefixDataset
from sktransfer.training.divergence import check_start
from sktransfer.training.net import FineTuneNet
from sktransfer.training.network import FineTuneNetwork
from sktransfer.training.run import LRRange

__all__ = ["LearningRates", "range_test", "step_callbacks"]

SMOOTHING = 0.9  # share of its old value that the running mean of changes keeps per step
GAIN_FRACTION = 0.9  # share of the largest gain that counts as enough; at higher rates the curve is flat
DIVIDE_BY = 5.0  # divisor of the lowest rate that gains enough


@dataclass(frozen=True)
class LearningRates:
    """Result of `find_lr`, or of a `fit` with `lr="find"`.

    Parameters
    ----------
    lr : float
        A fifth of the lowest rate whose smoothed gain is at least nine tenths of the largest gain.
    curve : DataFrame
        One row per step: `lr`; `loss` of its batch before the step; `change` of that loss against the loss of the same
        batch under the initial weights, with the same random numbers; `smoothed`, the running mean of changes.
    """

    lr: float
    curve: pd.DataFrame


def step_callbacks(callbacks: Sequence[Any] | None) -> list[Any]:
    """Return copies of the callbacks that change a step, without those that monitor, average or stop a training.

    Parameters
    ----------
    callbacks : sequence of skorch callbacks or (name, callback), default=None
        The user's callbacks. One of ours changes a step if its class has `changes_step = True`.
    """
    kept = [
        callback
        for callback in unnamed(callbacks)
        if getattr(callback, "changes_step", False) or is_callback_type(callback, GradientNormClipping)
    ]
    return [callback() if isinstance(callback, type) else callback for callback in copied(kept)]


def range_test(net: FineTuneNet, dataset: FrozenPrefixDataset, scope: LRRange) -> LearningRates:
    """Train a net at rising rates, and return the rate that suits.

    Parameters
    ----------
    net : FineTuneNet
        Net before `initialize`, with its rates set to the lowest of the range. It is not usable afterwards.
    dataset : FrozenPrefixDataset
        Data to train on.
    scope : LRRange
        Rates to try.

    Raises
    ------
    NotFiniteError
        If the loss is not finite under the initial weights.

    Warns
    -----
    ConvergenceWarning
        If no rate gained anything.
    """
    net.initialize()
    net.paired = True
    net.notify("on_train_begin", X=dataset, y=None)
    start = copy.deepcopy(net.module_)
    rising = _rising_groups(net)
    first = [group["lr"] for group in rising]
    losses: list[float] = []
    changes: list[float] = []
    smoothed: list[float] = []
    rates, mean = scope.rates(), 0.0
    for rate, batch in zip(rates, _endless_batches(net, dataset)):
        for group, lr in zip(rising, first):
            group["lr"] = lr * rate / scope.lowest
        before = _loss_under(net, start, batch)
        check_start(net, before)
        losses.append(float(net.train_step(batch)["loss"]))
        changes.append(losses[-1] - before)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * changes[-1]
        smoothed.append(mean / (1 - SMOOTHING ** len(changes)))
        # Diverged: the loss rose by more than it ever fell and by more than it was, or is not finite.
        if not smoothed[-1] <= max(abs(before), -2 * min(smoothed)):
            break
    net.notify("on_train_end", X=dataset, y=None)
    curve = pd.DataFrame({"lr": rates[: len(losses)], "loss": losses, "change": changes, "smoothed": smoothed})
    gains = np.where(np.isfinite(smoothed), np.negative(smoothed), 0.0)  # (n,), 0 after divergence
    largest = gains.max()
    best = int(np.argmax(gains >= GAIN_FRACTION * largest)) if largest > 0 else 0  # the lowest rate that gains enough
    if not largest > 0:
        warn(
            f"no learning rate from {scope.lowest:g} to {scope.highest:g} made the loss fall within {len(losses)} "
            "steps: the training loss is already minimal, or the range begins too high. "
            f"{rates[best] / DIVIDE_BY:.1e} is used, which changes almost nothing; set lr to a number",
            ConvergenceWarning,
        )
    return LearningRates(float(rates[best] / DIVIDE_BY), curve)


def _rising_groups(net: FineTuneNet) -> list[dict[str, Any]]:
    """Return the parameter groups whose rates rise: all but those whose rate does not follow `lr`."""
    fixed = {id(parameter) for parameter in net.module_.slow_parameters()}
    return [group for group in net.optimizer_.param_groups if fixed.isdisjoint(map(id, group["params"]))]


def _endless_batches(net: FineTuneNet, dataset: FrozenPrefixDataset) -> Iterator[Any]:
    """Yield the batches of one epoch after another, with the random numbers of a training."""
    for epoch in itertools.count():
        dataset.epoch = epoch
        seed_torch(derive_seed(net.seed, epoch), net.compute.device)
        yield from net.get_iterator(dataset, training=True)


def _loss_under(net: FineTuneNet, module: FineTuneNetwork, batch: Any) -> float:
    """Return a batch's loss under other weights, without consuming the random numbers of the next step."""
    trained, net.module_ = net.module_, module.train()
    try:
        with torch.no_grad(), fork_rng(net.compute.device):
            return float(sum(loss for loss, _ in net.losses(batch)))
    finally:
        net.module_ = trained
