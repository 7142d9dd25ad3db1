"""Validation split and early stopping."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold, train_test_split
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping

__all__ = ["BestWeights", "hold_out"]


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
