"""Which parameters learn how fast, and which of them decay: one group a stage, one for the head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from sktransfer.finetuning.network import FineTuneNetwork

__all__ = ["MIX_LR", "parameter_groups"]

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
