"""Callbacks of the trainer: unfreezing schedules, validation split and early stopping."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold, train_test_split
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping

from sktransfer.exceptions import InvalidParameterError

__all__ = ["BestWeights", "UNFREEZING", "Unfreezing", "check_phases", "hold_out", "n_phases", "phase"]

UNFREEZING = ("none", "gradual", "chain_thaw")


def n_phases(unfreezing: str, n_stages: int) -> int:
    """Return the number of phases of an unfreezing schedule.

    Parameters
    ----------
    unfreezing : str
        Key of the schedule, one of `UNFREEZING`.
    n_stages : int
        Number of trained stages.
    """
    if n_stages == 0 or unfreezing == "none":
        return 1
    return n_stages + (1 if unfreezing == "gradual" else 2)


def phase(unfreezing: str, n_stages: int, epoch: int) -> tuple[set[int], bool]:
    """Return the stages that are trained in an epoch, and whether the head is.

    "gradual" [1]_ trains only the head, then one more stage per epoch, from the top. "chain_thaw" [2]_ trains only the
    head, then each stage alone from the lowest to the highest, then all.

    Parameters
    ----------
    unfreezing : str
        Key of the schedule, one of `UNFREEZING`.
    n_stages : int
        Number of trained stages. Index 0 is the lowest.
    epoch : int
        Counted from 0.

    References
    ----------
    .. [1] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, section 3.3.
    .. [2] B. Felbo et al., "Using millions of emoji occurrences to learn any-domain representations for detecting
       sentiment, emotion and sarcasm", EMNLP 2017.

    Examples
    --------
    >>> from sktransfer.training.epochs import phase
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
    """Raise if there are fewer epochs than phases.

    Parameters
    ----------
    unfreezing : str
        Key of the schedule, one of `UNFREEZING`.
    n_stages : int
        Number of trained stages.
    max_epochs : int
        Number of epochs; 0 trains nothing and is allowed.

    Raises
    ------
    InvalidParameterError
        If there are fewer epochs than phases.
    """
    least = n_phases(unfreezing, n_stages)
    if 0 < max_epochs < least:
        raise InvalidParameterError(
            f"unfreezing={unfreezing!r} of {n_stages} stages takes {least} epochs, but max_epochs={max_epochs}; "
            f"set max_epochs to {least} or more, or freeze_depth so that fewer stages are trained"
        )


class Unfreezing(Callback):  # type: ignore[misc]
    """Freeze and unfreeze stages at the beginning of each epoch.

    Parameters
    ----------
    unfreezing : {"gradual", "chain_thaw"}
        Key of the schedule.
    """

    def __init__(self, unfreezing: str) -> None:
        self.unfreezing = unfreezing

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Set the phase of this epoch. skorch has already added the epoch to its history."""
        indices = net.module_.trainable_stage_indices()
        stages, head = phase(self.unfreezing, len(indices), len(net.history) - 1)
        net.module_.unfreeze([indices[stage] for stage in stages], head)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Unfreeze everything."""
        net.module_.unfreeze(range(len(net.module_.stages)), True)


def hold_out(
    y: np.ndarray, groups: np.ndarray | None, fraction: float, seed: int, *, stratify: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the training and of the validation split.

    Parameters
    ----------
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Targets of one task.
    groups : ndarray of shape (n_samples,) or None
        Group of each sample. Groups are not split.
    fraction : float
        Share of the validation split, approximate if groups are given.
    seed : int
        Seed of the split.
    stratify : bool
        Whether both parts keep the ratio of the classes.

    Raises
    ------
    ValueError
        If a part would be empty, or the training part would lack a class.
    """
    rows = np.arange(len(y))
    try:
        if groups is None:
            parts = train_test_split(rows, test_size=fraction, random_state=seed, stratify=y if stratify else None)
        elif stratify:
            folds = StratifiedGroupKFold(max(2, round(1 / fraction)), shuffle=True, random_state=seed)
            parts = next(iter(folds.split(rows, y, groups)))
        else:
            parts = next(iter(GroupShuffleSplit(1, test_size=fraction, random_state=seed).split(rows, y, groups)))
    except ValueError as error:
        raise ValueError(
            f"early_stopping sets aside {fraction:g} of {len(y)} samples, which is not possible here: {error} Give "
            "more samples or another validation_fraction, or set early_stopping=False"
        ) from error
    train, valid = (np.sort(part) for part in parts)
    if not len(valid) or (stratify and len(np.setdiff1d(y, y[train]))):
        lacks = "to train on for some class" if len(valid) else "to validate with"
        raise ValueError(
            f"early_stopping sets aside {fraction:g} of {len(y)} samples, which leaves none {lacks}; give more samples "
            "or groups, or set early_stopping=False"
        )
    return train, valid


class BestWeights(EarlyStopping):  # type: ignore[misc]
    """Early stopping on the validation loss, which restores the weights of the best epoch.

    Parameters
    ----------
    patience : int
        Epochs without a lower loss before stopping.
    wait : int, default=0
        First epochs that are not counted, because not all stages are unfrozen in them.
    """

    def __init__(self, patience: int, wait: int = 0) -> None:
        super().__init__(patience=patience, threshold=0.0, load_best=True)
        self.wait = wait

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Store the best weights, or count an epoch without improvement."""
        if len(net.history) <= self.wait:
            self.misses_ = -1
        super().on_epoch_end(net, **kwargs)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Restore the best weights, and drop the copy."""
        if net.history:
            super().on_train_end(net, **kwargs)
        self.best_model_weights_ = None
