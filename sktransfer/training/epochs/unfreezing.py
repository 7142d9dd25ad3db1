"""Schedules that unfreeze stages epoch by epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import Callback

from sktransfer.exceptions import FreezingWarning, warn

__all__ = ["UNFREEZING", "Unfreezing", "n_phases", "phase", "warn_of_few_epochs"]

UNFREEZING = ("none", "gradual", "chain_thaw")
_WHOLE = {"none": 1, "gradual": 1, "chain_thaw": 2}  # phases besides those that add a group of stages


def n_phases(unfreezing: str, n_stages: int, max_epochs: int | None = None, has_head: bool = True) -> int:
    """Return the number of phases of an unfreezing schedule.

    Parameters
    ----------
    unfreezing : str
        Key of the schedule, one of `UNFREEZING`.
    n_stages : int
        Number of trained stages.
    max_epochs : int, default=None
        Number of epochs, which is the largest number of phases. None for as many as the schedule takes.
    has_head : bool, default=True
        Whether a head is trained. Without one, there is no phase of the head.
    """
    if n_stages == 0 or unfreezing == "none":
        return 1
    n = n_stages + _WHOLE[unfreezing] - (not has_head)
    return n if max_epochs is None else max(1, min(n, max_epochs))


def phase(
    unfreezing: str, n_stages: int, epoch: int, max_epochs: int | None = None, has_head: bool = True
) -> tuple[set[int], bool]:
    """Return the stages that are trained in an epoch, and whether the head is.

    "gradual" [1]_ trains only the head, then one more stage per epoch, from the top. "chain_thaw" [2]_ trains only the
    head, then each stage alone from the lowest to the highest, then all. With fewer epochs than phases, adjacent stages
    are unfrozen together, so that the last epoch trains all stages.

    Parameters
    ----------
    unfreezing : str
        Key of the schedule, one of `UNFREEZING`.
    n_stages : int
        Number of trained stages. Index 0 is the lowest.
    epoch : int
        Counted from 0.
    max_epochs : int, default=None
        Number of epochs; None for as many as the schedule takes.
    has_head : bool, default=True
        Whether a head is trained. Without one, the schedule starts at the second phase.

    References
    ----------
    .. [1] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, section 3.3.
    .. [2] B. Felbo et al., "Using millions of emoji occurrences to learn any-domain representations for detecting
       sentiment, emotion and sarcasm", EMNLP 2017.

    Examples
    --------
    >>> from sktransfer.training.epochs.unfreezing import phase
    >>> [phase("gradual", 2, epoch)[0] for epoch in range(4)]
    [set(), {1}, {0, 1}, {0, 1}]
    >>> [phase("chain_thaw", 2, epoch) for epoch in range(4)]
    [(set(), True), ({0}, False), ({1}, False), ({0, 1}, True)]
    >>> [phase("gradual", 4, epoch, max_epochs=3)[0] for epoch in range(3)]
    [set(), {2, 3}, {0, 1, 2, 3}]
    >>> [phase("gradual", 2, epoch, has_head=False)[0] for epoch in range(2)]
    [{1}, {0, 1}]
    """
    skipped = int(not has_head)
    n, epoch = n_phases(unfreezing, n_stages, max_epochs, has_head) + skipped, epoch + skipped
    if epoch >= n - 1:
        return set(range(n_stages)), True
    if epoch == 0:
        return set(), True
    groups = np.array_split(np.arange(n_stages), n - _WHOLE[unfreezing])  # adjacent stages, each one or more
    if unfreezing == "gradual":
        return set(np.concatenate(groups[-epoch:]).tolist()), True
    return set(groups[epoch - 1].tolist()), False


def warn_of_few_epochs(unfreezing: str, n_stages: int, max_epochs: int, has_head: bool = True) -> None:
    """Warn if there are fewer epochs than phases, so that stages are unfrozen together.

    Parameters
    ----------
    unfreezing : str
        Key of the schedule, one of `UNFREEZING`.
    n_stages : int
        Number of trained stages.
    max_epochs : int
        Number of epochs; 0 trains nothing.
    has_head : bool, default=True
        Whether a head is trained.

    Warns
    -----
    FreezingWarning
        If there are fewer epochs than phases.
    """
    takes = n_phases(unfreezing, n_stages, has_head=has_head)
    if 0 < max_epochs < takes:
        together = "all stages are trained from the start" if max_epochs == 1 else "several stages are unfrozen at once"
        warn(
            f"unfreezing={unfreezing!r} of {n_stages} stages takes {takes} epochs, and max_epochs={max_epochs}: "
            f"{together}. Set max_epochs to {takes} or more, or freeze_depth so that fewer stages are trained",
            FreezingWarning,
        )


class Unfreezing(Callback):  # type: ignore[misc]
    """Freeze and unfreeze stages at the beginning of each epoch.

    Parameters
    ----------
    unfreezing : {"gradual", "chain_thaw"}
        Key of the schedule.
    max_epochs : int
        Number of epochs of the training.
    """

    def __init__(self, unfreezing: str, max_epochs: int) -> None:
        self.unfreezing, self.max_epochs = unfreezing, max_epochs

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Set the phase of this epoch. skorch has already added the epoch to its history."""
        levels = net.module_.trainable_levels()
        has_head = net.module_.trains_heads
        stages, head = phase(self.unfreezing, len(levels), len(net.history) - 1, self.max_epochs, has_head)
        net.module_.unfreeze([index for level in stages for index in levels[level]], head)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Unfreeze everything."""
        net.module_.unfreeze(range(len(net.module_.stages)), True)
