"""Targets and weights of all tasks, from the form that users give them to the one that losses take."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from sklearn.utils.validation import check_consistent_length

from sktransfer.tasks.base import Targets, Task

__all__ = ["GivenTargets", "check_targets", "encode_targets", "known_weights"]


class GivenTargets(Protocol):
    """Targets of one task as a user gives them, of the rows that have one."""

    @property
    def values(self) -> Any:
        """Targets (n_known, ...) as `Task.check` takes them."""

    @property
    def known(self) -> np.ndarray | None:
        """Whether each row has a target (n_samples,), bool; None if all have."""

    def check(self, task: Task) -> np.ndarray:
        """Return the known targets (n_known, ...) as a task has validated them."""

    def named(self) -> AbstractContextManager[Any]:
        """Return a context in which errors name the task, if there are several."""


def check_targets(
    tasks: Mapping[str, Task], given: Mapping[str, GivenTargets], n_samples: int
) -> dict[str, np.ndarray]:
    """Return the known targets (n_known, ...) of each task as validated arrays.

    Parameters
    ----------
    tasks : mapping of str to Task
        Tasks by name.
    given : mapping of str to GivenTargets
        Targets by task.
    n_samples : int
        Number of samples.

    Raises
    ------
    ValueError
        If they are no targets of their task, or their number differs from that of the samples.
    """
    checked = {name: one.check(tasks[name]) for name, one in given.items()}
    for name, one in given.items():
        check_consistent_length(range(n_samples), checked[name] if one.known is None else one.known)
    return checked


def known_weights(given: Mapping[str, GivenTargets], weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weight of each sample in each task (n_samples,), 0 if its target is missing.

    Parameters
    ----------
    given : mapping of str to GivenTargets
        Targets by task.
    weights : mapping of str to ndarray of shape (n_samples,)
        Weights as a user gives them.
    """
    return {
        name: weights[name] if one.known is None else np.where(one.known, weights[name], 0.0)
        for name, one in given.items()
    }


def encode_targets(
    tasks: Mapping[str, Task],
    given: Mapping[str, GivenTargets],
    checked: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray],
) -> dict[str, Targets]:
    """Return the targets of each task in the form that its loss takes, for all samples.

    Parameters
    ----------
    tasks : mapping of str to Task
        Tasks by name.
    given : mapping of str to GivenTargets
        Targets by task.
    checked : mapping of str to ndarray of shape (n_known, ...)
        Result of `check_targets`.
    weights : mapping of str to ndarray of shape (n_samples,)
        Weight of each sample, 0 if its target is missing, as `known_weights` returns them.

    Raises
    ------
    ValueError
        If the targets do not fit those of an earlier call. The message names the task.
    """
    targets = {}
    for name, one in given.items():
        weight = weights[name]  # (n_samples,)
        weighs = weight > 0 if one.known is None else weight[one.known] > 0  # (n_known,)
        with one.named():
            targets[name] = tasks[name].encode_known(checked[name][weighs], weight > 0, weight)
    return targets
