"""Callbacks of the trainer: unfreezing schedules, validation split, early stopping and the table of epochs."""

from __future__ import annotations

import copy
import dataclasses
import math
import sys
from collections.abc import Collection, Mapping
from typing import Any, Self

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold, train_test_split
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, PrintLog
from skorch.utils import Ansi, to_numpy

from sktransfer._utils import in_process
from sktransfer.exceptions import FreezingWarning, ValidationWarning, warn

__all__ = [
    "UNFREEZING",
    "BestWeights",
    "DepthTrial",
    "EpochLog",
    "HeldLosses",
    "NotifyEpoch",
    "StopTraining",
    "TaskHistory",
    "Unfreezing",
    "ValidationScore",
    "columns_of",
    "hold_back",
    "hold_out",
    "n_phases",
    "phase",
    "warn_of_few_epochs",
]

UNFREEZING = ("none", "gradual", "chain_thaw")


MOST_HELD = 500
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
    >>> from sktransfer.training.epochs import phase
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
    >>> from sktransfer.training.epochs import hold_back
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
    >>> from sktransfer.training.epochs import DepthTrial
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


class ValidationScore(EpochScoring):  # type: ignore[misc]
    """Score of the validation data per epoch, which keeps no predictions: checkpoints would contain them."""

    reads_batch_losses = False

    def on_batch_end(self, net: NeuralNet, batch: Any, y_pred: Any, training: bool, **kwargs: Any) -> None:
        """Keep what the score compares in a batch of validation data."""
        if not training:
            outputs, targets = net.only_task.scored(to_numpy(y_pred), to_numpy(batch[1]))
            self.y_preds_.append(outputs)
            self.y_trues_.append(targets)

    def on_epoch_end(self, net: NeuralNet, dataset_train: Any, dataset_valid: Any, **kwargs: Any) -> None:
        """Record the score, and drop the predictions."""
        if self.y_trues_:
            y_true, outputs = np.concatenate(self.y_trues_), np.concatenate(self.y_preds_)  # (n_scored, ...) each
            self._record_score(net.history, _score(net.only_task, y_true, outputs))
        self._initialize_cache()


def _score(task: Any, y_true: np.ndarray, outputs: np.ndarray) -> float:
    return float(task.score(y_true, task.for_rows(y_true).output_predictions(outputs)))


def columns_of(name: str, net: NeuralNet) -> dict[str, str]:
    """Return the columns of the history that `TaskHistory` records for a task, with their names without the task.

    Parameters
    ----------
    name : str
        Name of the task.
    net : FineTuneNet
        Net with the task.
    """
    score = net.tasks[name].score_name
    kinds = ["train_loss", "valid_loss", *([] if score is None else [f"valid_{score}"])]
    return {f"{kind}_{name}": kind for kind in kinds}


class TaskHistory(Callback):  # type: ignore[misc]
    """Loss of each task per epoch, and score of each task on validation data, if there are several tasks.

    Both are of the rows whose target is known. A task without such rows has NaN, and so has the score of a single row.
    Auxiliary tasks have a loss of the training alone.
    """

    reads_batch_losses = False

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Begin new sums."""
        self._sums: dict[str, list[Any]] = {}
        self._scored: dict[str, list[tuple[Any, Any]]] = {}

    def on_batch_end(
        self,
        net: NeuralNet,
        batch: Any = None,
        training: bool = False,
        y_pred: Any = None,
        by_task: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the losses of a batch, and keep the outputs for validation data."""
        for name, (loss, weight) in (by_task or {}).items():
            if not training and net.tasks[name].is_auxiliary:
                continue
            total = weight.sum()
            sums = self._sums.setdefault(f"{'train' if training else 'valid'}_loss_{name}", [0.0, 0.0])
            sums[0], sums[1] = sums[0] + loss.detach() * total.to(loss.device), sums[1] + total
            if not training and net.tasks[name].score_name is not None and name in y_pred:
                known = to_numpy(weight) > 0  # (n,)
                pair = (to_numpy(y_pred[name])[known], to_numpy(batch[1][name])[known])  # (n_known, ...) each
                self._scored.setdefault(name, []).append(net.tasks[name].scored(*pair))

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Record means and scores."""
        for column, (loss, total) in self._sums.items():
            net.history.record(column, float(loss) / float(total) if float(total) else math.nan)
        for name, parts in self._scored.items():
            outputs, y_true = (np.concatenate(one) for one in zip(*parts))  # (n_scored, ...) each
            task = net.tasks[name]
            score = _score(task, y_true, outputs) if len(y_true) > 1 else math.nan
            net.history.record(f"valid_{task.score_name}_{name}", score)
        self._sums, self._scored = {}, {}


class EpochLog(PrintLog):  # type: ignore[misc]
    """Table with one line per epoch, in columns of fixed width, with significant digits.

    Several tasks have a line each below it. The best value so far has a colour on a terminal. Lines of worker processes
    begin with the process id.
    """

    _WIDTH = 9  # of a number such as 1.234e-05
    _of_tasks: Collection[str] = ()  # columns of single tasks

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Print the line of an epoch, and before the first one the title of the net."""
        if self.first_iteration_ and net.title:
            self._sink(net.title, net.verbose)
        by_task = {name: columns_of(name, net) for name in net.tasks} if len(net.tasks) > 1 else {}
        self._of_tasks = {key for columns in by_task.values() for key in columns}
        super().on_epoch_end(net, **kwargs)
        row = net.history[-1]
        for name, columns in by_task.items():
            numbers = [f"{short} {self.format_row(row, key, '')}" for key, short in columns.items() if key in row]
            if numbers:
                self._sink(f"       {name}: {', '.join(numbers)}", net.verbose)

    def table(self, row: Mapping[str, Any]) -> str:
        """Return three lines: names, a rule and numbers. The numbers of single tasks are left out."""
        keys = [key for key in self._sorted_keys(row.keys()) if key not in self._of_tasks]
        names = ["seconds" if key == "dur" else key for key in keys]
        widths = [max(len(name), self._WIDTH if isinstance(row[key], float) else 0) for key, name in zip(keys, names)]
        cells = []
        for key, width in zip(keys, widths):
            cell = self.format_row(row, key, "").rjust(width)
            is_best = row.get(f"{key}_best") and sys.stdout.isatty()
            cells.append(f"{Ansi.GREEN.value}{cell}{Ansi.ENDC.value}" if is_best else cell)
        header = "  ".join(name.rjust(width) for name, width in zip(names, widths))
        return "\n".join([header, "  ".join("-" * width for width in widths), "  ".join(cells)])

    def format_row(self, row: Mapping[str, Any], key: str, color: str) -> str:
        """Return a value as text, without the colour of skorch."""
        value = row[key]
        if value is None or isinstance(value, bool):
            return "+" if value else ""
        return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else str(value)

    def _sink(self, text: str, verbose: int) -> None:
        super()._sink(in_process(text), verbose)


class StopTraining(Exception):
    """Raised by a callback to end the training."""


class NotifyEpoch(Callback):  # type: ignore[misc]
    """Call the net's `on_epoch` after all other callbacks, and stop the training if it returns True."""

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Record the learning rate, and call `on_epoch`."""
        rates = [group["lr"] for group in net.optimizer_.param_groups if not group.get("own_rate")]
        net.history.record("lr", max(rates))
        if net.on_epoch is not None and net.on_epoch():
            raise StopTraining
