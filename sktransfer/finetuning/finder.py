"""Which learning rate suits: the loss of a short training whose rate rises from step to step."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import Callback, LRScheduler
from torch.optim.lr_scheduler import LambdaLR

from sktransfer.exceptions import InvalidParameterError
from sktransfer.finetuning.base import FineTuneBase
from sktransfer.finetuning.settings import check_settings

__all__ = ["LearningRates", "find_lr"]

MEMORY = 0.9  # what the smoothed loss keeps of itself at each step
DIVERGED = 4.0  # times the lowest loss: from there on nothing is to be learnt
BELOW = 10.0  # the rate that is proposed lies this far below the one of the lowest loss


@dataclass(frozen=True)
class LearningRates:
    """What `find_lr` has found.

    Parameters
    ----------
    lr : float
        A tenth of the rate at which the smoothed loss was lowest.
    curve : DataFrame
        A row a step: `lr`, `loss`, and `smoothed`.
    """

    lr: float
    curve: pd.DataFrame


def find_lr(
    estimator: FineTuneBase,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    n_steps: int = 60,
) -> LearningRates:
    """Train a clone for some steps while its rate rises, and return the loss at each rate [1]_.

    The estimator itself is left as it is. The head's rate rises in proportion, as do those of the stages where
    `layer_lr_decay` sets them apart; all stages above the cut learn from the first step on.

    Parameters
    ----------
    estimator : FineTuneClassifier or FineTuneRegressor
        With the parameters that it is to be trained with.
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
    >>> found = find_lr(FineTuneClassifier(head_init="random", random_state=0), X[:100] / 16, y[:100], n_steps=20)
    >>> bool(1e-6 <= found.lr < 0.1), list(found.curve)
    (True, ['lr', 'loss', 'smoothed'])
    """
    settings = check_settings(estimator)
    _check(lowest, highest, n_steps)
    n_epochs = math.ceil(n_steps / max(1, math.ceil(len(y) / settings.batch_size)))
    recorder = _Recorder(n_steps)
    rise = functools.partial(_factor, highest / lowest, n_steps)
    trial = clone(estimator).set_params(
        lr=lowest,
        head_lr=lowest * settings.head_lr / settings.lr,
        lr_schedule="linear",
        unfreezing="none",
        early_stopping=False,
        warm_start=False,
        max_epochs=n_epochs,
        verbose=0,
        callbacks=[LRScheduler(LambdaLR, lr_lambda=rise, step_every="batch"), recorder],
    )
    trial.fit(X, y, sample_weight=sample_weight)
    losses = np.array(recorder.losses_)
    rates = lowest * np.array([rise(step) for step in range(len(losses))])
    curve = pd.DataFrame({"lr": rates, "loss": losses, "smoothed": recorder.smoothed_})
    return LearningRates(float(rates[curve["smoothed"].argmin()] / BELOW), curve)


def _factor(ratio: float, n_steps: int, step: int) -> float:
    return float(ratio ** (step / (n_steps - 1)))


def _check(lowest: Any, highest: Any, n_steps: Any) -> None:
    for name, value in (("lowest", lowest), ("highest", highest)):
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
            raise InvalidParameterError(f"{name}={value!r} must be a number greater than 0")
    if not lowest < highest:
        raise InvalidParameterError(f"lowest={lowest!r} must be less than highest={highest!r}")
    if isinstance(n_steps, bool) or not isinstance(n_steps, Integral) or n_steps < 2:
        raise InvalidParameterError(f"n_steps={n_steps!r} must be an int of at least 2")


class _Recorder(Callback):  # type: ignore[misc]
    """Remember the loss of each step; stop after the last, or when it has diverged."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        self.losses_: list[float] = []
        self.smoothed_: list[float] = []
        self._mean = 0.0

    def on_batch_end(self, net: NeuralNet, training: bool = False, loss: Any = None, **kwargs: Any) -> None:
        if not training:
            return
        self.losses_.append(float(loss))
        self._mean = MEMORY * self._mean + (1 - MEMORY) * self.losses_[-1]
        self.smoothed_.append(self._mean / (1 - MEMORY ** len(self.losses_)))
        diverged = not self.smoothed_[-1] <= DIVERGED * min(self.smoothed_)  # NaN has diverged as well
        if diverged or len(self.losses_) == self.n_steps:
            raise KeyboardInterrupt  # skorch's own way to end a training early
