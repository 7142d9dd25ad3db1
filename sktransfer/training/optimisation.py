"""Which parameters learn how fast, and which of them decay: one group a stage, one for the head."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from sktransfer.exceptions import InvalidParameterError
from sktransfer.training.callback_list import is_callback_type, unnamed
from sktransfer.training.network import FineTuneNetwork

__all__ = [
    "MultiLabelBCE",
    "MIX_LR",
    "SCHEDULES",
    "has_scheduler",
    "parameter_groups",
    "l2_sp_penalty",
    "with_schedule",
]

MIX_LR = 0.01  # the weights of mixed layers are few and start equal: to tell layers apart they must move by ones


def parameter_groups(
    network: FineTuneNetwork, lr: float, head_lr: float, weight_decay: float, decay: float = 1.0, l2_sp: float = 0.0
) -> list[dict[str, Any]]:
    """Return the groups that an optimizer takes: stages and head, each with and without weight decay.

    Biases and the weights of norms (one dimension) are not decayed, nor is what L2-SP already holds. A parameter that
    several stages share belongs to the first. Groups of equal rate and decay are one.

    Parameters
    ----------
    network : FineTuneNetwork
        The part above the cut.
    lr : float
        Of the uppermost stage.
    head_lr : float
        Of the head.
    weight_decay : float
        Of what decays.
    decay : float, default=1.0
        What the rate is divided by from each stage to the one below it: discriminative rates [1]_.
    l2_sp : float, default=0.0
        Where greater than 0, stages are drawn to where they started, and not to zero as well.

    References
    ----------
    .. [1] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, section 3.2.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter, rate, decayed in _by_part(network, lr, head_lr, 0.0 if l2_sp else weight_decay, weight_decay, decay):
        groups.setdefault((rate, decayed), []).append(parameter)
    return [{"params": group, "lr": rate, "weight_decay": decayed} for (rate, decayed), group in groups.items()]


def _by_part(
    network: FineTuneNetwork, lr: float, head_lr: float, of_stages: float, of_head: float, decay: float
) -> Iterator[tuple[nn.Parameter, float, float]]:
    seen: set[int] = set()
    top = len(network.stages) - 1
    parts = [(stage, lr / decay ** (top - place), of_stages) for place, stage in enumerate(network.stages)]
    for module, rate, weight_decay in [*parts, (network.head, head_lr, of_head)]:
        for parameter in module.parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter, rate, weight_decay if parameter.ndim > 1 else 0.0
    if network.mix is not None:
        yield network.mix.scores, MIX_LR, of_head  # drawn to zero, which is to equal weights
        yield network.mix.gamma, MIX_LR, 0.0


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
    return any(is_callback_type(one, LRScheduler) for one in unnamed(callbacks))


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


def l2_sp_penalty(stages: nn.Module, l2_sp: float) -> Callable[[], None]:
    """Return what adds the gradient of L2-SP's penalty, `l2_sp / 2 * |w - w_start|²` [1]_, to that of the loss.

    Parameters
    ----------
    stages : nn.Module
        Whose trained parameters are held; where they are now is where they start.
    l2_sp : float
        How firmly.

    References
    ----------
    .. [1] X. Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML 2018.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.training.optimisation import l2_sp_penalty
    >>> layer = torch.nn.Linear(1, 1, bias=False)
    >>> pull = l2_sp_penalty(layer, 0.5)
    >>> _ = layer.weight.data.add_(2.0)
    >>> layer.weight.grad = torch.zeros(1, 1)
    >>> pull()
    >>> layer.weight.grad.item()
    1.0
    """
    held = [(parameter, parameter.detach().clone()) for parameter in stages.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def pull() -> None:
        for parameter, start in held:
            if parameter.grad is not None:  # what waits for its turn has none
                parameter.grad.add_(parameter.detach() - start, alpha=l2_sp)

    return pull


class MultiLabelBCE(nn.Module):
    """Binary cross entropy of labels that hold or do not, each on its own.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        How far targets are moved from 0 and 1 towards one half.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.training.optimisation import MultiLabelBCE
    >>> MultiLabelBCE()(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    tensor([[0.6931, 0.6931]])
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return losses (n, n_labels)."""
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / 2  # (n, n_labels)
        return functional.binary_cross_entropy_with_logits(logits, smooth, reduction="none")  # (n, n_labels)
