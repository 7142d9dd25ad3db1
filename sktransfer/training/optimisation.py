"""Optimizers, parameter groups, learning rate schedules and L2-SP."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from skorch.callbacks import LRScheduler
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sktransfer.exceptions import InvalidParameterError
from sktransfer.training.callback_list import is_callback_type, unnamed
from sktransfer.training.network import FineTuneNetwork

__all__ = ["OPTIMIZERS", "SCHEDULES", "has_scheduler", "l2_sp_penalty", "parameter_groups", "with_schedule"]

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
MIX_LR = 0.01  # the weights of mixed layers start equal, and must change by about 1 to tell layers apart
VARIANCE_LR = 0.1  # log variances start at 0, and must change by 1 or 2 within some tens of steps
CUT_FRAC, RATIO = 0.1, 32  # ULMFiT: share of the steps that rise, and peak rate over first rate
RISE, START, END = 0.3, 25, 1e4  # one cycle: share of the steps that rise, peak over first rate, first over last rate


def parameter_groups(
    network: FineTuneNetwork, lr: float, head_lr: float, weight_decay: float, decay: float = 1.0, l2_sp: float = 0.0
) -> list[dict[str, Any]]:
    """Return the parameter groups of an optimizer.

    Biases and the weights of norms (one dimension) have no weight decay, nor have stages under L2-SP. A parameter that
    several stages share belongs to the first of them. Parameters of equal rate and decay are one group. Those of a rate
    that does not depend on `lr` have `own_rate=True`.

    Parameters
    ----------
    network : FineTuneNetwork
        Network to train.
    lr : float
        Learning rate of the highest stage.
    head_lr : float
        Learning rate of the heads.
    weight_decay : float
        Weight decay.
    decay : float, default=1.0
        Divisor of the rate from each stage to the one below it: discriminative rates [1]_.
    l2_sp : float, default=0.0
        If greater than 0, stages have no weight decay.

    References
    ----------
    .. [1] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, section 3.2.
    """
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    stage_decay = 0.0 if l2_sp else weight_decay
    for parameter, rate, decayed in _by_part(network, lr, head_lr, stage_decay, weight_decay, decay):
        groups.setdefault((rate, decayed, False), []).append(parameter)
    for parameter, rate, decayed in _of_own_rate(network, weight_decay):
        groups.setdefault((rate, decayed, True), []).append(parameter)
    return [
        {"params": group, "lr": rate, "weight_decay": decayed, "own_rate": own}
        for (rate, decayed, own), group in groups.items()
    ]


def _by_part(
    network: FineTuneNetwork, lr: float, head_lr: float, stage_decay: float, head_decay: float, decay: float
) -> Iterator[tuple[nn.Parameter, float, float]]:
    seen = {id(parameter) for parameter, *_ in _of_own_rate(network, head_decay)}
    below = {index: span[-1] - index for span in network.spans.values() for index in span}  # the top of the tower
    parts = [(stage, lr / decay ** below[index], stage_decay) for index, stage in enumerate(network.stages)]
    for module, rate, weight_decay in [*parts, (network.heads, head_lr, head_decay)]:
        for parameter in module.parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter, rate, weight_decay if parameter.ndim > 1 else 0.0


def _of_own_rate(network: FineTuneNetwork, head_decay: float) -> Iterator[tuple[nn.Parameter, float, float]]:
    heads: list[Any] = list(network.heads.values())
    mixes: list[Any] = [head.mix for head in heads if getattr(head, "mix", None) is not None]
    for mix in mixes:
        yield mix.scores, MIX_LR, head_decay  # decay pulls the scores to zero, which means equal weights
        yield mix.gamma, MIX_LR, 0.0
    for head in heads:
        if hasattr(head, "own_lr"):
            yield from ((one, head.own_lr, head_decay if one.ndim > 1 else 0.0) for one in head.linear.parameters())
    if network.log_variances is not None:
        yield network.log_variances, VARIANCE_LR, 0.0


def constant(step: int, n_steps: int) -> float:
    """Return 1."""
    return 1.0


def linear(step: int, n_steps: int) -> float:
    """Return a factor that decreases linearly from 1 to 0.

    Parameters
    ----------
    step, n_steps : int
        Steps done, and steps in all.
    """
    return max(0.0, 1 - step / n_steps)


def cosine(step: int, n_steps: int) -> float:
    """Return a factor that decreases from 1 to 0 along half a cosine wave."""
    return (1 + math.cos(math.pi * min(1.0, step / n_steps))) / 2


def slanted_triangular(step: int, n_steps: int) -> float:
    """Return a factor that rises from 1/32 to 1 in the first tenth of the steps, then decreases linearly [1]_.

    References
    ----------
    .. [1] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, equation 3.
    """
    peak = math.floor(n_steps * CUT_FRAC)
    # With fewer than ten steps the factor does not rise.
    share = step / peak if step < peak else max(0.0, 1 - (step - peak) / (n_steps - peak))
    return (1 + share * (RATIO - 1)) / RATIO


def one_cycle(step: int, n_steps: int) -> float:
    """Return a factor that rises from 1/25 to 1 in three tenths of the steps, then decreases to almost 0 [1]_.

    Both parts are half cosine waves.

    References
    ----------
    .. [1] L. Smith, N. Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates",
       2018.
    """
    peak, last = max(0.0, RISE * n_steps - 1), n_steps - 1
    if step < peak:
        return _half_wave(1 / START, 1.0, step / peak)
    return _half_wave(1.0, 1 / START / END, min(1.0, (step - peak) / max(last - peak, 1.0)))


def _half_wave(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "linear": linear,
    "slanted_triangular": slanted_triangular,
    "one_cycle": one_cycle,
    "cosine": cosine,
    "constant": constant,
}


def has_scheduler(callbacks: Sequence[Any] | None) -> bool:
    """Return whether callbacks contain an `LRScheduler` of skorch.

    Parameters
    ----------
    callbacks : sequence of skorch callbacks or (name, callback), or None
        The user's callbacks.
    """
    return any(is_callback_type(callback, LRScheduler) for callback in unnamed(callbacks))


def with_schedule(callbacks: Sequence[Any] | None, schedule: str, n_steps: int) -> list[Any]:
    """Return skorch callbacks, the one of the learning rate schedule first.

    Parameters
    ----------
    callbacks : sequence of skorch callbacks or (name, callback), default=None
        The user's callbacks. An `LRScheduler` among them replaces the default schedule.
    schedule : str
        Key of `SCHEDULES`. It multiplies all rates of a network.
    n_steps : int
        Number of batches in all epochs.

    Raises
    ------
    InvalidParameterError
        If there are two schedules.
    """
    given = list(callbacks or [])
    if has_scheduler(given):
        if schedule != "linear":
            raise InvalidParameterError(
                f"lr_schedule={schedule!r} and an LRScheduler among callbacks are two schedules; leave one of them out"
            )
        return given
    if n_steps == 0 or schedule == "constant":
        return given
    factor = functools.partial(_factor, schedule, n_steps)
    return [("schedule", LRScheduler(LambdaLR, lr_lambda=factor, step_every="batch")), *given]


def _factor(schedule: str, n_steps: int, step: int) -> float:
    return SCHEDULES[schedule](step, n_steps)


def l2_sp_penalty(stages: nn.Module, l2_sp: float) -> Callable[[], None]:
    """Return a function that adds the gradient of the L2-SP penalty, `l2_sp / 2 * |w - w_start|²` [1]_.

    Parameters
    ----------
    stages : nn.Module
        Module whose trainable parameters are penalized. Their present values are the starting point.
    l2_sp : float
        Strength of the penalty.

    References
    ----------
    .. [1] X. Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML 2018.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.training.optimisation import l2_sp_penalty
    >>> layer = torch.nn.Linear(1, 1, bias=False)
    >>> add_gradient = l2_sp_penalty(layer, 0.5)
    >>> _ = layer.weight.data.add_(2.0)
    >>> layer.weight.grad = torch.zeros(1, 1)
    >>> add_gradient()
    >>> layer.weight.grad.item()
    1.0
    """
    starts = [(parameter, parameter.detach().clone()) for parameter in stages.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def add_gradient() -> None:
        for parameter, start in starts:
            if parameter.grad is not None:  # stages not yet unfrozen have no gradient
                parameter.grad.add_(parameter.detach() - start, alpha=l2_sp)

    return add_gradient
