"""How the learning rate rises and falls from the first step to the last."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import LambdaLR

from sktransfer.exceptions import InvalidParameterError
from sktransfer.finetuning.callback_list import is_of, unnamed

__all__ = ["SCHEDULES", "has_scheduler", "with_schedule"]

CUT_FRAC, RATIO = 0.1, 32  # ULMFiT's: the share of the steps that rise, and peak over start
RISE, START, END = 0.3, 25, 1e4  # of one cycle: the share that rises, peak over start, start over end


def constant(step: int, n_steps: int) -> float:
    """Return 1."""
    return 1.0


def linear(step: int, n_steps: int) -> float:
    """Return what falls from 1 to 0 in a straight line.

    Parameters
    ----------
    step, n_steps : int
        Steps done, and to do in all.
    """
    return max(0.0, 1 - step / n_steps)


def cosine(step: int, n_steps: int) -> float:
    """Return what falls from 1 to 0 along half a wave."""
    return (1 + math.cos(math.pi * min(1.0, step / n_steps))) / 2


def slanted_triangular(step: int, n_steps: int) -> float:
    """Return what rises from 1/32 to 1 in the first tenth of the steps, then falls back in a straight line [1]_.

    References
    ----------
    .. [1] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, equation 3.
    """
    cut = math.floor(n_steps * CUT_FRAC)
    # With fewer than ten steps there is no rise.
    share = step / cut if step < cut else max(0.0, 1 - (step - cut) / (n_steps - cut))
    return (1 + share * (RATIO - 1)) / RATIO


def one_cycle(step: int, n_steps: int) -> float:
    """Return what rises from 1/25 to 1 in three tenths of the steps and falls to nearly nothing, along half waves [1]_.

    References
    ----------
    .. [1] L. Smith, N. Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates",
       2018.
    """
    top, last = max(0.0, RISE * n_steps - 1), n_steps - 1
    if step < top:
        return _wave(1 / START, 1.0, step / top)
    return _wave(1.0, 1 / START / END, min(1.0, (step - top) / max(last - top, 1.0)))


def _wave(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "linear": linear,
    "slanted_triangular": slanted_triangular,
    "one_cycle": one_cycle,
    "cosine": cosine,
    "constant": constant,
}


def has_scheduler(callbacks: Sequence[Any] | None) -> bool:
    """Return whether an `LRScheduler` of skorch is among callbacks."""
    return any(is_of(one, LRScheduler) for one in unnamed(callbacks))


def with_schedule(callbacks: Sequence[Any] | None, schedule: str, n_steps: int) -> list[Any]:
    """Return skorch callbacks, and first among them the one that moves the learning rate.

    Parameters
    ----------
    callbacks : sequence of skorch callbacks or (name, callback), default=None
        The user's own; an `LRScheduler` among them takes the place of the line that is the default.
    schedule : str
        One of `SCHEDULES`. All rates of a network are multiplied by it.
    n_steps : int
        Batches in all epochs together.

    Raises
    ------
    InvalidParameterError
        If two schedules are asked for.
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
    factor = functools.partial(_at, schedule, n_steps)
    return [("schedule", LRScheduler(LambdaLR, lr_lambda=factor, step_every="batch")), *given]


def _at(schedule: str, n_steps: int, step: int) -> float:
    return SCHEDULES[schedule](step, n_steps)
