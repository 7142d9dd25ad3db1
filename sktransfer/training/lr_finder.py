"""Which learning rate suits: what the steps of a short training gain while its rate rises."""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import GradientNormClipping

from sktransfer.callbacks.micro_batches import MicroBatches
from sktransfer.callbacks.mixup import Mixup
from sktransfer.exceptions import InvalidParameterError
from sktransfer.training.callback_list import is_callback_type, unnamed
from sktransfer.training.data import FrozenPrefixDataset
from sktransfer.training.net import FineTuneNet
from sktransfer.training.network import FineTuneNetwork
from sktransfer.training.rng import derive_seed, fork_rng, seed_torch

__all__ = ["LearningRates", "Range", "find_lr", "range_test", "step_callbacks"]

MEMORY = 0.9  # what the smoothed change keeps of itself at each step
ENOUGH = 0.9  # of the most that was gained: where all is learnt, higher rates gain no more and lose nothing yet
BELOW = 5.0  # the rate that is proposed lies this far below the first that gained enough


@dataclass(frozen=True)
class Range:
    """Which rates are tried.

    Parameters
    ----------
    lowest : float, default=1e-06
        Of the uppermost stage, at the first step.
    highest : float, default=1.0
        At the last step.
    n_steps : int, default=60
        Batches at most.
    """

    lowest: float = 1e-6
    highest: float = 1.0
    n_steps: int = 60

    def __post_init__(self) -> None:
        for name in ("lowest", "highest"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
                raise InvalidParameterError(f"{name}={value!r} must be a number greater than 0")
        if not self.lowest < self.highest:
            raise InvalidParameterError(f"lowest={self.lowest!r} must be less than highest={self.highest!r}")
        if isinstance(self.n_steps, bool) or not isinstance(self.n_steps, Integral) or self.n_steps < 2:
            raise InvalidParameterError(f"n_steps={self.n_steps!r} must be an int of at least 2")

    def rates(self) -> np.ndarray:
        """Return the rate of each step, (n_steps,)."""
        return np.geomspace(self.lowest, self.highest, self.n_steps)


@dataclass(frozen=True)
class LearningRates:
    """What `find_lr` has found, or a `fit` with `lr="find"`.

    Parameters
    ----------
    lr : float
        A fifth of the lowest rate by which nine tenths were gained of all that was gained at any, by smoothed changes.
    curve : DataFrame
        A row a step: `lr`; `loss` of its batch before the step; `change`, by how much that is above what the same batch
        cost at the start, all random numbers being equal; and `smoothed`, the running mean of changes.
    """

    lr: float
    curve: pd.DataFrame


def find_lr(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    n_steps: int = 60,
) -> LearningRates:
    """Train a clone for some steps while its rate rises, and return what that gained at each rate [1]_.

    Losses of single batches differ far more than a step changes them, above all where the head starts as a probe. So a
    batch is held against itself: its loss now, less its loss under the weights of the start. The head's rate rises in
    proportion, as do those of the stages where `layer_lr_decay` sets them apart, but not that of the weights of mixed
    layers; all stages above the cut learn from the first step on. The estimator is left as it is. With `lr="find"`, its
    own `fit` does the same before it trains.

    Parameters
    ----------
    estimator : FineTuneClassifier, FineTuneRegressor or ContrastiveFineTuner
        With the parameters that it is to be trained with; of its callbacks those count that shape a step
        (`MicroBatches`, `Mixup`, `GradientNormClipping`).
    X : array-like, Series, one-column DataFrame or list of n_samples
        Images or texts.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        As its `fit` takes it.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts.
    lowest : float, default=1e-06
        Of the uppermost stage, at the first step.
    highest : float, default=1.0
        At the last step; what has diverged goes no further.
    n_steps : int, default=60
        Batches at most.

    Returns
    -------
    found : LearningRates

    Raises
    ------
    InvalidParameterError
        If a parameter is not allowed, of the estimator as well.

    References
    ----------
    .. [1] L. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTuneClassifier, find_lr
    >>> X, y = load_digits(return_X_y=True)
    >>> found = find_lr(FineTuneClassifier(random_state=0), X[:100] / 16, y[:100], n_steps=20)
    >>> bool(1e-6 < found.lr < 0.1), list(found.curve)
    (True, ['lr', 'loss', 'change', 'smoothed'])
    """
    trial = clone(estimator).set_params(max_epochs=0, callbacks=step_callbacks(estimator.callbacks))
    trial._range = Range(lowest, highest, n_steps)
    trial.fit(X, y, **({} if sample_weight is None else {"sample_weight": sample_weight}))
    return LearningRates(trial.lr_, trial.lr_curve_)


def step_callbacks(callbacks: Sequence[Any] | None) -> list[Any]:
    """Return copies of the callbacks that shape a step, not those that watch it, average, or end a training.

    Parameters
    ----------
    callbacks : sequence of skorch callbacks or (name, callback), default=None
        The user's own.
    """
    # Chosen first and copied then: what else there is may hold files and locks.
    kept = [one for one in unnamed(callbacks) if is_callback_type(one, MicroBatches, Mixup, GradientNormClipping)]
    return [one() if isinstance(one, type) else copy.deepcopy(one) for one in kept]


def range_test(net: FineTuneNet, dataset: FrozenPrefixDataset, scope: Range) -> LearningRates:
    """Train a net at rising rates, and say which suits.

    Parameters
    ----------
    net : FineTuneNet
        Not initialized, its rates set for the lowest of the range; changed, and of no further use.
    dataset : FrozenPrefixDataset
        What it is trained on.
    scope : Range
        Which rates.

    Warns
    -----
    ConvergenceWarning
        If no rate gained anything.
    """
    net.initialize()
    net.paired = True
    net.notify("on_train_begin", X=dataset, y=None)
    start = copy.deepcopy(net.module_)
    rising = _rising(net)
    first = [group["lr"] for group in rising]
    losses: list[float] = []
    changes: list[float] = []
    smoothed: list[float] = []
    rates, mean = scope.rates(), 0.0
    for rate, batch in zip(rates, _endless(net, dataset)):
        for group, lr in zip(rising, first):
            group["lr"] = lr * rate / scope.lowest
        before = _loss_under(net, start, batch)
        losses.append(float(net.train_step(batch)["loss"]))
        changes.append(losses[-1] - before)
        mean = MEMORY * mean + (1 - MEMORY) * changes[-1]
        smoothed.append(mean / (1 - MEMORY ** len(changes)))
        # Diverged: more was lost than ever gained, and than there was at the start. So has what is not finite.
        if not smoothed[-1] <= max(before, -2 * min(smoothed)):
            break
    net.notify("on_train_end", X=dataset, y=None)
    curve = pd.DataFrame({"lr": rates[: len(losses)], "loss": losses, "change": changes, "smoothed": smoothed})
    gains = np.where(np.isfinite(smoothed), np.negative(smoothed), 0.0)  # (n,), nothing where it has diverged
    most = gains.max()
    best = int(np.argmax(gains >= ENOUGH * most)) if most > 0 else 0  # the first that gained enough
    if not most > 0:
        warnings.warn(
            f"no learning rate from {scope.lowest:g} to {scope.highest:g} made the loss fall within {len(losses)} "
            f"steps: nothing is left to learn, or rates begin too high. {rates[best] / BELOW:.1e} is taken, which "
            "changes next to nothing; set lr to a number",
            ConvergenceWarning,
            stacklevel=2,
        )
    return LearningRates(float(rates[best] / BELOW), curve)


def _rising(net: FineTuneNet) -> list[dict[str, Any]]:
    """Return the groups whose rates rise; the mixture of layers has a rate of its own in training, too."""
    mix = net.module_.mix
    steady = set() if mix is None else {id(parameter) for parameter in mix.parameters()}
    return [group for group in net.optimizer_.param_groups if steady.isdisjoint(map(id, group["params"]))]


def _endless(net: FineTuneNet, dataset: FrozenPrefixDataset) -> Iterator[Any]:
    """Yield the batches of one epoch after another, as training does, random numbers and all."""
    for epoch in itertools.count():
        dataset.epoch = epoch
        seed_torch(derive_seed(net.seed, epoch), net.compute.device)
        yield from net.get_iterator(dataset, training=True)


def _loss_under(net: FineTuneNet, module: FineTuneNetwork, batch: Any) -> float:
    """Return a batch's loss under other weights; the next step draws the random numbers that were drawn here."""
    trained, net.module_ = net.module_, module.train()
    try:
        with torch.no_grad(), fork_rng(net.compute.device):
            return float(sum(loss for loss, _ in net.losses(batch)))
    finally:
        net.module_ = trained
