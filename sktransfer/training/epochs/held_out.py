"""Samples held out of a training: their choice, early stopping by them, and the result of a trial."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any, Self

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold, train_test_split
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping

from sktransfer._utils import in_process
from sktransfer.exceptions import ValidationWarning, warn

__all__ = ["BestWeights", "DepthTrial", "HeldLosses", "hold_back", "hold_out"]

MOST_HELD = 500


def hold_out(
    y: np.ndarray,
    groups: np.ndarray | None,
    fraction: float,
    seed: int,
    *,
    stratify: bool,
    classes: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the training and of the validation split.

    A class that only one sample or one group has stays in the training part, which has all classes.

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
    classes : ndarray of shape (n_classes,), default=None
        Labels of the class indices in y, for messages. None for the indices.

    Raises
    ------
    ValueError
        If a part would be empty.

    Warns
    -----
    ValidationWarning
        If the validation split cannot have a class.
    """
    kept = _rows_to_keep(y, groups, classes) if stratify else np.zeros(len(y), dtype=bool)
    rows = np.flatnonzero(~kept)
    try:
        if not len(rows):
            raise ValueError("each class is in one sample or one group only.")
        if groups is None:
            valid = _draw(y[rows], fraction, seed, stratify=stratify)
        elif stratify:
            valid = _draw_groups(y[rows], groups[rows], y[kept], fraction, seed)
        else:
            _, valid = next(iter(GroupShuffleSplit(1, test_size=fraction, random_state=seed).split(rows, None, groups)))
    except ValueError as error:
        raise ValueError(
            f"early_stopping sets aside {fraction:g} of {len(y)} samples, which is not possible here: {error} Give "
            "more samples, groups or another validation_fraction, pass X_val and y_val to fit, or set "
            "early_stopping=False"
        ) from error
    valid = np.sort(rows[valid])
    return np.setdiff1d(np.arange(len(y)), valid), valid


def _rows_to_keep(y: np.ndarray, groups: np.ndarray | None, classes: np.ndarray | None) -> np.ndarray:
    """Return whether each row stays in the training part (n_samples,), and warn of the classes that ask for it."""
    unit = np.arange(len(y)) if groups is None else np.unique(groups, return_inverse=True)[1]  # (n_samples,)
    pairs = np.unique(np.stack([y, unit], 1), axis=0)  # (n_pairs, 2)
    found, n_units = np.unique(pairs[:, 0], return_counts=True)
    alone = found[n_units == 1]
    if not len(alone):
        return np.zeros(len(y), dtype=bool)
    labels = (alone if classes is None else classes[alone]).tolist()
    few = "one sample" if groups is None else "samples of one group only"
    several = len(labels) > 1
    warn(
        f"y has {few} of {'each of the classes' if several else 'the class'} {', '.join(map(repr, labels))}. They stay "
        f"in the training part, and the validation split of early_stopping has none of {'them' if several else 'it'}",
        ValidationWarning,
    )
    return np.isin(unit, unit[np.isin(y, alone)])


def _draw(y: np.ndarray, fraction: float, seed: int, *, stratify: bool) -> np.ndarray:
    """Return rows to set aside. If there are more classes than such rows, each class keeps a row to train on."""
    rows, n_valid = np.arange(len(y)), math.ceil(fraction * len(y))
    n_classes = len(np.unique(y)) if stratify else 0
    if min(n_valid, len(y) - n_valid) >= n_classes:
        _, valid = train_test_split(rows, test_size=fraction, random_state=seed, stratify=y if stratify else None)
        return np.asarray(valid)
    warn(
        f"validation_fraction={fraction:g} sets {n_valid} of {len(y)} samples aside, and both parts cannot have all "
        f"{n_classes} classes: the validation split of early_stopping is not stratified",
        ValidationWarning,
    )
    order = np.random.RandomState(seed).permutation(rows)
    first = np.unique(y[order], return_index=True)[1]
    return np.delete(order, first)[:n_valid]


def _draw_groups(y: np.ndarray, groups: np.ndarray, y_kept: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return the rows of groups to set aside, so that a row of each class remains or is kept."""
    n_splits = min(max(2, round(1 / fraction)), len(np.unique(groups)), np.unique(y, return_counts=True)[1].max())
    if n_splits < 2:
        parts = [np.flatnonzero(groups == one) for one in np.random.RandomState(seed).permutation(np.unique(groups))]
    else:
        folds = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed).split(y, y, groups)
        parts = [valid for _, valid in folds]
    for valid in parts:
        if len(valid) and not len(np.setdiff1d(y, [*np.delete(y, valid), *y_kept])):
            return valid
    raise ValueError("no group can be set aside without the last sample of some class.")


def hold_back(values: Any, groups: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on in a trial, and the rows that are held back, every fifth one but at most 500.

    Parameters
    ----------
    values : sequence of length n_samples
        Targets of a task. Classes and numbers of an array are spread evenly over both parts.
    groups : ndarray of shape (n_samples,) or None
        Group of each sample. Whole groups are held back.
    seed : int
        Seed of the choice.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.training.epochs.held_out import hold_back
    >>> y = np.array([0] * 15 + [1] * 5)
    >>> rows, held = hold_back(y, None, 0)
    >>> len(rows), y[held].tolist()
    (16, [0, 0, 0, 1])
    """
    names, unit = np.unique(range(len(values)) if groups is None else groups, return_inverse=True)
    order = np.random.RandomState(seed).permutation(len(names))  # (n_units,)
    if groups is None and isinstance(values, np.ndarray):
        columns = values.reshape(len(values), -1)[order].T  # (n_columns, n_samples)
        order = order[np.lexsort(columns[::-1])]
    step = max(5, len(values) // MOST_HELD)
    is_held = np.isin(unit, order[step // 2 :: step])  # (n_samples,)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


class BestWeights(EarlyStopping):  # type: ignore[misc]
    """Early stopping on the validation loss, which restores the weights of the best epoch, or those before training.

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

    def on_train_begin(self, net: NeuralNet, X: Any = None, **kwargs: Any) -> None:
        """Store the weights before training, and their validation loss."""
        super().on_train_begin(net, **kwargs)
        valid = net.get_split_datasets(X, None)[1]
        self.start_loss_ = _mean_loss(net, valid)
        self.dynamic_threshold_ = self._calc_new_threshold(self.start_loss_)
        self.best_model_weights_ = copy.deepcopy(net.module_.state_dict())

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

    def _sink(self, text: str, verbose: int) -> None:
        super()._sink(in_process(text), verbose)


def _mean_loss(net: NeuralNet, dataset: Any) -> float:
    """Return the loss of a data set under the present weights, as the validation loss of an epoch is computed."""
    batches = [
        (net.batch_weight(batch), float(net.validation_step(batch)["loss"])) for batch in net.get_iterator(dataset)
    ]
    return float(np.average([loss for _, loss in batches], weights=[weight for weight, _ in batches]))


@dataclasses.dataclass(frozen=True)
class DepthTrial:
    """Result of a training on a part of the samples, on samples that were held back.

    Parameters
    ----------
    n_held : int
        Number of samples held back.
    before, after : float
        Their mean loss before and after the training.
    error : float
        Standard error of the difference.

    Examples
    --------
    >>> from sktransfer.training.epochs.held_out import DepthTrial
    >>> trial = DepthTrial.of(np.array([0.75, 1.0]), np.array([0.5, 0.75]), np.ones(2))
    >>> trial.helps, trial.report()
    (True, 'training lowered the loss of 2 samples held back from 0.875 to 0.625 (standard error 0)')
    """

    n_held: int
    before: float
    after: float
    error: float

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray, weight: np.ndarray) -> Self:
        """Return the result of losses per sample.

        Parameters
        ----------
        before, after : ndarray of shape (n_held,)
            Losses.
        weight : ndarray of shape (n_held,)
            Weight of each sample, positive.
        """
        share, gain = weight / weight.sum(), before - after  # (n_held,) each
        mean = share @ gain
        error = math.sqrt((share**2) @ (gain - mean) ** 2)
        return cls(len(weight), float(share @ before), float(share @ after), error)

    @property
    def helps(self) -> bool:
        """Whether the loss fell by more than its standard error."""
        return self.before - self.after > self.error

    def report(self) -> str:
        """Return the losses as text."""
        verb = "lowered" if self.helps else "did not clearly lower"
        return (
            f"training {verb} the loss of {self.n_held} samples held back from {self.before:.3g} to {self.after:.3g} "
            f"(standard error {self.error:.2g})"
        )


class HeldLosses(Callback):  # type: ignore[misc]
    """Losses of the validation data, per sample, before and after a training: `trial_`."""

    def on_train_begin(self, net: NeuralNet, X: Any = None, **kwargs: Any) -> None:
        """Compute the losses before the training."""
        self._before = self._losses(net, X)

    def on_train_end(self, net: NeuralNet, X: Any = None, **kwargs: Any) -> None:
        """Compute the losses after the training."""
        (before, weight), (after, _) = self._before, self._losses(net, X)
        self.trial_ = DepthTrial.of(before, after, weight)

    def _losses(self, net: NeuralNet, dataset: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return loss and weight of each sample, (n_held,) each."""
        held = net.get_split_datasets(dataset, None)[1]
        batches = [held.batch([row]) for row in range(len(held))]
        losses = np.array([float(net.validation_step(batch)["loss"]) for batch in batches])  # (n_held,)
        return losses, np.array([net.batch_weight(batch) for batch in batches])
