"""Settings of a training, checked before anything is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sktransfer._validation import check_bool, check_float, check_fraction, check_int, check_option
from sktransfer.engine.layers import is_auto
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.criterion import check_criteria, check_criterion
from sktransfer.tasks.heads import Head
from sktransfer.tasks.weighting import (
    Weights,
    check_aggregator,
    check_task_sampling,
    check_task_weights,
    require_names,
    weights_of,
)
from sktransfer.training.adapters import check_adapter
from sktransfer.training.callback_list import check_callbacks, copied
from sktransfer.training.epochs.unfreezing import UNFREEZING
from sktransfer.training.optimisation import OPTIMIZERS, SCHEDULES

__all__ = ["Settings", "check_settings"]

AUTO_LR = 1e-4
MOST_EPOCHS, FEWEST_EPOCHS, MOST_STEPS = 10, 3, 1000  # of max_epochs="auto"
HEAD_LR_RATIO = {"probe": 1.0, "class_means": 1.0, "random": 10.0}  # a random head is far from its optimum


@dataclasses.dataclass(frozen=True)
class Settings:
    """Parameters of an estimator that shape its training, with "auto" and None resolved.

    An estimator that lacks a parameter has the default here.
    """

    max_epochs: int
    batch_size: int
    finds_lr: bool
    lr: float
    head_lr: float
    lr_schedule: str
    layer_lr_decay: float
    optimizer: type[torch.optim.Optimizer]
    weight_decay: float
    l2_sp: float
    verbose: int
    finds_epochs: bool = False
    unfreezing: str = "none"
    early_stopping: bool = False
    validation_fraction: float = 0.1
    patience: int = 3
    head: Head | Mapping[str, Head] | None = None  # one for all tasks, or by task
    head_init: str = "random"
    adapter: Any = None
    augment: Any = None
    callbacks: Any = None
    task_weights: Weights = "equal"
    task_sampling: Weights = "proportional"
    aggregator: Any = None
    learns_weights: bool = False  # whether losses are weighted by trained variances
    is_partial_fit: bool = False

    def at(self, lr: float) -> Settings:
        """Return the settings at another learning rate. The head's rate keeps its ratio.

        Parameters
        ----------
        lr : float
            Learning rate of the highest stage.
        """
        return dataclasses.replace(self, finds_lr=False, lr=lr, head_lr=lr * self.head_lr / self.lr)

    def for_rows(self, n_rows: int) -> Settings:
        """Return the settings with the number of epochs that `max_epochs="auto"` stands for.

        Parameters
        ----------
        n_rows : int
            Number of samples to train on.
        """
        if not self.finds_epochs:
            return self
        n_steps = -(-n_rows // self.batch_size)  # of one epoch
        n_epochs = min(max(MOST_STEPS // n_steps, FEWEST_EPOCHS), MOST_EPOCHS)
        return dataclasses.replace(self, finds_epochs=False, max_epochs=n_epochs)

    def learns(self, name: str) -> bool:
        """Return whether a task has a weight.

        Parameters
        ----------
        name : str
            Name of the task.
        """
        return isinstance(self.task_weights, str) or self.task_weights.get(name, 1.0) > 0

    def starting_head(self, name: str) -> Head | None:
        """Return the fitted head that a task continues, or None for a new one.

        Parameters
        ----------
        name : str
            Name of the task.
        """
        return self.head.get(name) if isinstance(self.head, Mapping) else self.head

    @property
    def weight_by_task(self) -> Mapping[str, float]:
        """Weight of each task, once `for_tasks` has resolved it. A task that is not in it has weight 1."""
        return {} if isinstance(self.task_weights, str) else self.task_weights

    def for_tasks(self, names: Sequence[str], sources: Sequence[str] | None = None) -> Settings:
        """Return the settings with a weight for each task, and with shares of the draws for existing tasks only.

        Variances are not learned for a single task of positive weight, and its gradients need no aggregation.

        Parameters
        ----------
        names : sequence of str
            Names of the tasks.
        sources : sequence of str, default=None
            Names of the sources that batches are drawn from; None for the tasks of positive weight.

        Raises
        ------
        InvalidParameterError
            If a task does not exist, no task has a positive weight, or one of positive weight has no share.
        """
        weights = weights_of(self.task_weights, names)
        trained = [name for name, weight in weights.items() if weight > 0]
        if isinstance(self.task_sampling, Mapping):
            require_names("task_sampling", self.task_sampling, names if sources is None else sources)
            for name in trained if sources is None else sources:
                if name not in self.task_sampling:
                    raise InvalidParameterError(
                        f"task_sampling={dict(self.task_sampling)!r} has no share for the task {name!r}; give it one, "
                        "or 0 to learn only those of its targets that rows drawn for other tasks have"
                    )
        several = len(trained) > 1
        return dataclasses.replace(
            self,
            task_weights=weights,
            learns_weights=several and (self.learns_weights or self.task_weights == "uncertainty"),
            aggregator=self.aggregator if several else None,
        )


def check_settings(estimator: Any) -> Settings:
    """Return the settings of an estimator.

    Parameters
    ----------
    estimator : estimator
        Estimator with the parameters of fine-tuning, or some of them.

    Raises
    ------
    InvalidParameterError
        If a parameter is not allowed, or two contradict each other.
    """
    given = {name: getattr(estimator, name) for name in _CHECKS if hasattr(estimator, name)}
    head_init = check_option("head_init", given.get("head_init", "random"), tuple(HEAD_LR_RATIO))
    by_task = hasattr(estimator, "tasks")  # head and criterion are dicts with a value per task
    head = _check_head(given.get("head", "linear"), head_init, by_task=by_task)
    _check_depth(estimator.freeze_depth, given.get("head_init"))
    check_callbacks(estimator.callbacks)
    check_bool("warm_start", getattr(estimator, "warm_start", False))
    if estimator.adapter is not None:
        check_adapter(estimator.adapter)
    finds_lr, lr, head_lr = _check_rates(estimator.lr, given.get("head_lr"), HEAD_LR_RATIO[head_init])
    if by_task:
        check_criteria("criterion", given.pop("criterion", None))
    checked = {name: check(name, given[name]) for name, check in _CHECKS.items() if check and name in given}
    if checked.pop("criterion", None) is not None and checked.get("label_smoothing"):
        raise InvalidParameterError(
            f"label_smoothing={checked['label_smoothing']:g} changes the cross entropy, and criterion replaces it; "
            "leave one of the two out"
        )
    if checked.get("aggregator") is not None and checked.get("task_weights") == "uncertainty":
        raise InvalidParameterError(
            "task_weights='uncertainty' weighs losses, and aggregator their gradients; leave one of the two out"
        )
    checked.pop("label_smoothing", None)  # the task of the estimator has it, and the criterion
    if estimator.adapter is not None and checked["l2_sp"]:
        raise InvalidParameterError(
            f"l2_sp={checked['l2_sp']:g} holds weights that are trained, and adapter trains none of "
            "them; leave one of the two out"
        )
    return Settings(
        finds_epochs=is_auto(given.get("max_epochs")),
        finds_lr=finds_lr,
        lr=lr,
        head_lr=head_lr,
        head=head,
        head_init=head_init,
        adapter=estimator.adapter,
        augment=estimator.augment,
        callbacks=copied(estimator.callbacks),  # those of the user stay as they are
        **checked,
    )


def _check_depth(freeze_depth: Any, head_init: str | None) -> None:
    """Raise if `freeze_depth="auto"` has no initial head to return to. `head_init=None` for an estimator without it."""
    if is_auto(freeze_depth) and head_init in ("random", None):
        reason = "which this estimator has not" if head_init is None else "which is drawn at random here"
        remedy = "" if head_init is None else ", or head_init to 'probe'"
        raise InvalidParameterError(
            f"freeze_depth='auto' keeps the initial head if training does not help, {reason}; set freeze_depth to a "
            f"number{remedy}"
        )


def _check_head(head: Any, head_init: str, *, by_task: bool) -> Head | Mapping[str, Head] | None:
    if isinstance(head, str) and head == "linear":
        return None
    if by_task and not (isinstance(head, Mapping) and all(isinstance(one, Head) for one in head.values())):
        raise InvalidParameterError(
            f"head={head!r} must be 'linear', or a dict of heads by task, such as the heads_ of a fitted estimator"
        )
    if not by_task and not isinstance(head, Head):
        raise InvalidParameterError(f"head={head!r} must be 'linear', or the head_ of a fitted estimator")
    if head_init != "probe" and not by_task:
        raise InvalidParameterError(
            f"head_init={head_init!r} initializes a new head, and head is a fitted one; leave one of them out"
        )
    return head  # type: ignore[no-any-return]


def _check_rates(lr: Any, head_lr: Any, ratio: float) -> tuple[bool, float, float]:
    """Return whether the rate is to be found, the rate of the highest stage, and that of the head."""
    finds_lr = isinstance(lr, str) and lr == "find"
    is_auto = isinstance(lr, str) and lr == "auto"
    hint = ", 'auto' or 'find'"
    rate = AUTO_LR if finds_lr or is_auto else check_float("lr", lr, exclude_minimum=True, hint=hint)
    if head_lr is None:
        return finds_lr, rate, ratio * rate
    if finds_lr:
        raise InvalidParameterError(
            f"head_lr={head_lr!r} is a rate of its own, and lr='find' finds one that the head's is proportional to; "
            "leave head_lr=None, or set lr to a number"
        )
    hint = "; None makes it proportional to lr"
    return finds_lr, rate, check_float("head_lr", head_lr, exclude_minimum=True, hint=hint)


def _check_epochs(name: str, value: Any) -> int:
    return MOST_EPOCHS if is_auto(value) else check_int(name, value, 0, ", or 'auto'")


def _check_decay(name: str, value: Any) -> float:
    return check_float(name, value, 1.0, hint="; it divides the rate, from each stage to the one below")


def _check_verbose(name: str, value: Any) -> int:
    return check_int(name, int(value) if isinstance(value, bool) else value, 0)


def _check_optimizer(name: str, optimizer: Any) -> type[torch.optim.Optimizer]:
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        return optimizer
    if isinstance(optimizer, str) and optimizer in OPTIMIZERS:
        return OPTIMIZERS[optimizer]
    raise InvalidParameterError(f"{name}={optimizer!r} must be one of {tuple(OPTIMIZERS)} or a class of torch.optim")


# The checks of parameters that stand alone, in the order of their errors; None for those that are checked together.
_CHECKS: dict[str, Any] = {
    "head": None,
    "head_init": None,
    "head_lr": None,
    "l2_sp": check_float,
    "max_epochs": _check_epochs,
    "batch_size": lambda name, value: check_int(name, value, 1),
    "lr_schedule": lambda name, value: check_option(name, value, tuple(SCHEDULES)),
    "layer_lr_decay": _check_decay,
    "unfreezing": lambda name, value: check_option(name, value, UNFREEZING),
    "label_smoothing": lambda name, value: check_fraction(name, value, zero=True),
    "criterion": check_criterion,
    "optimizer": _check_optimizer,
    "weight_decay": check_float,
    "task_weights": check_task_weights,
    "task_sampling": check_task_sampling,
    "aggregator": check_aggregator,
    "early_stopping": check_bool,
    "validation_fraction": check_fraction,
    "patience": lambda name, value: check_int(name, value, 1),
    "verbose": _check_verbose,
}
