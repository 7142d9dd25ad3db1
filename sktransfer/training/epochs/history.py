"""History of a training: scores and losses of each epoch, its table, and the end of an epoch."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochScoring, PrintLog
from skorch.utils import Ansi, to_numpy

from sktransfer._utils import in_process
from sktransfer.tasks.base import Task

__all__ = ["EpochLog", "NotifyEpoch", "StopTraining", "TaskHistory", "ValidationScore", "recorded_columns"]


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


def _score(task: Task, y_true: np.ndarray, outputs: np.ndarray) -> float:
    """Return the score, NaN if there are too few predictions for one."""
    if len(y_true) < task.fewest_scored:
        return math.nan
    return float(task.score(y_true, task.for_rows(y_true).output_predictions(outputs)))


def _columns_of(name: str, task: Task) -> dict[str, str]:
    """Return the columns that `TaskHistory` records for a task, with their names without the task."""
    kinds = ["train_loss"]
    if not task.is_auxiliary:
        kinds += ["valid_loss", *([] if task.score_name is None else [f"valid_{task.score_name}"])]
    return {f"{kind}_{name}": kind for kind in kinds}


def recorded_columns(tasks: Mapping[str, Task], idle: Collection[str] = ()) -> set[str]:
    """Return the columns of the history that a training of some tasks records, without those of callbacks.

    Columns that begin with "valid_" need validation data.

    Parameters
    ----------
    tasks : mapping of str to Task
        Tasks by name.
    idle : collection of str, default=()
        Names of tasks of weight 0. They have no columns if there are several tasks.

    Examples
    --------
    >>> from sktransfer.tasks.continuous import Continuous
    >>> from sktransfer.training.epochs.history import recorded_columns
    >>> sorted(recorded_columns({"stars": Continuous()}))
    ['train_loss', 'train_loss_best', 'valid_loss', 'valid_loss_best', 'valid_r2', 'valid_r2_best']
    """
    columns = {"train_loss", "train_loss_best", "valid_loss", "valid_loss_best"}
    if len(tasks) > 1:
        return columns.union(*(_columns_of(name, task) for name, task in tasks.items() if name not in idle))
    scores = [f"valid_{task.score_name}" for task in tasks.values() if task.score_name is not None]
    return columns | {*scores, *(f"{score}_best" for score in scores)}


class TaskHistory(Callback):  # type: ignore[misc]
    """Loss of each task per epoch, and score of each task on validation data, if there are several tasks.

    Both are of the rows whose target is known. A task without such rows has NaN, and so has R² of a single row.
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
            net.history.record(f"valid_{task.score_name}_{name}", _score(task, y_true, outputs))
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
        by_task = {name: _columns_of(name, task) for name, task in net.tasks.items()} if len(net.tasks) > 1 else {}
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
