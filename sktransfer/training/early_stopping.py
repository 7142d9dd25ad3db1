"""Part of the samples set aside, and a training that ends when it does them no more good."""

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
    """Return which rows are trained on, and which are set aside.

    Parameters
    ----------
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Targets.
    groups : ndarray of shape (n_samples,) or None
        Samples of a group stay together.
    fraction : float
        The share that is set aside, about that where groups are given.
    seed : int
        Draws them.
    stratify : bool
        Whether each class has its share in both parts.

    Raises
    ------
    ValueError
        If a part would be empty, or would lack a class to train on.
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
    """skorch's early stopping by the loss of the set-aside part, with the best epoch's weights restored.

    Parameters
    ----------
    patience : int
        Epochs without a lower loss that end the training.
    wait : int, default=0
        Epochs at the start that are not counted, for a stage that waits for its turn has not had its chance.
    """

    def __init__(self, patience: int, wait: int = 0) -> None:
        super().__init__(patience=patience, threshold=0.0, load_best=True)
        self.wait = wait

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Remember the best weights, or count one more epoch in vain."""
        if len(net.history) <= self.wait:
            self.misses_ = -1
        super().on_epoch_end(net, **kwargs)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Restore the best weights; they are kept once."""
        if net.history:
            super().on_train_end(net, **kwargs)
        self.best_model_weights_ = None
