"""Stages above the cut that wait for their turn: frozen until then, and as frozen as those below it."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback

from sktransfer.exceptions import InvalidParameterError

__all__ = ["UNFREEZING", "Unfreezing", "check_phases", "n_phases", "phase"]

UNFREEZING = ("none", "gradual", "chain_thaw")


def n_phases(unfreezing: str, n_stages: int) -> int:
    """Return how many different sets of parts learn one after the other.

    Parameters
    ----------
    unfreezing : str
        One of `UNFREEZING`.
    n_stages : int
        Stages above the cut.
    """
    if n_stages == 0 or unfreezing == "none":
        return 1
    return n_stages + (1 if unfreezing == "gradual" else 2)


def phase(unfreezing: str, n_stages: int, epoch: int) -> tuple[set[int], bool]:
    """Return which stages above the cut learn in an epoch, and whether the head does.

    "gradual" [1]_: the head alone, then one stage more an epoch, from the top. "chain_thaw" [2]_: the head alone, then
    each stage alone from the lowest to the top, then all.

    Parameters
    ----------
    unfreezing : str
        One of `UNFREEZING`.
    n_stages : int
        Stages above the cut; 0 is the lowest of them.
    epoch : int
        Counted from 0.

    References
    ----------
    .. [1] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, section 3.3.
    .. [2] B. Felbo et al., "Using millions of emoji occurrences to learn any-domain representations for detecting
       sentiment, emotion and sarcasm", EMNLP 2017.

    Examples
    --------
    >>> from sktransfer.training.unfreezing import phase
    >>> [phase("gradual", 2, epoch)[0] for epoch in range(4)]
    [set(), {1}, {0, 1}, {0, 1}]
    >>> [phase("chain_thaw", 2, epoch) for epoch in range(4)]
    [(set(), True), ({0}, False), ({1}, False), ({0, 1}, True)]
    """
    if epoch >= n_phases(unfreezing, n_stages) - 1:
        return set(range(n_stages)), True
    if unfreezing == "gradual":
        return set(range(n_stages - epoch, n_stages)), True
    return ({epoch - 1}, False) if epoch else (set(), True)


def check_phases(unfreezing: str, n_stages: int, max_epochs: int) -> None:
    """Raise where epochs are too few for each stage to have its turn.

    Parameters
    ----------
    unfreezing : str
        One of `UNFREEZING`.
    n_stages : int
        Stages above the cut.
    max_epochs : int
        Passes over the samples; 0 trains nothing, and is no error.

    Raises
    ------
    InvalidParameterError
        If they are too few.
    """
    least = n_phases(unfreezing, n_stages)
    if 0 < max_epochs < least:
        raise InvalidParameterError(
            f"unfreezing={unfreezing!r} of {n_stages} stages takes {least} epochs, but max_epochs={max_epochs}; "
            f"set max_epochs to {least} or more, or freeze_depth so that fewer stages are trained"
        )


class Unfreezing(Callback):  # type: ignore[misc]
    """Let the parts of a network learn when it is their turn.

    Parameters
    ----------
    unfreezing : {"gradual", "chain_thaw"}
        In which order.
    """

    def __init__(self, unfreezing: str) -> None:
        self.unfreezing = unfreezing

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Freeze and thaw; skorch has begun the epoch's row of its history already."""
        places = net.module_.places()
        stages, head = phase(self.unfreezing, len(places), len(net.history) - 1)
        net.module_.thaw([places[stage] for stage in stages], head)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Leave all parts thawed."""
        net.module_.thaw(range(len(net.module_.stages)), True)
