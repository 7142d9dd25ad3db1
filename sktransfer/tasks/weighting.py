"""Balance of several tasks: weights of their losses, shares of their draws, aggregation of their gradients."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer._validation import check_float, check_option
from sktransfer.exceptions import InvalidParameterError, did_you_mean

__all__ = [
    "BatchLosses",
    "GradientAggregation",
    "aggregator_identity",
    "check_aggregator",
    "check_task_sampling",
    "check_task_weights",
    "counts_of",
    "positive",
    "require_names",
    "shares_of",
    "uncertainty_loss",
    "uncertainty_weights",
    "weighted_sum",
    "weights_of",
]

WEIGHTS = ("equal", "uncertainty")
SAMPLING = ("proportional", "uniform", "sqrt", "joint")
_DICT = "a dict of numbers by the name of a task"

Weights = str | Mapping[str, float]


def check_task_weights(name: str, value: Any) -> Weights:
    """Return a name of `WEIGHTS`, or a mapping of task names to weights of at least 0.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : anything
        Its value.

    Raises
    ------
    InvalidParameterError
        If it is neither.
    """
    return _check_numbers(name, value) if isinstance(value, Mapping) else check_option(name, value, WEIGHTS, _DICT)


def check_task_sampling(name: str, value: Any) -> Weights:
    """Return a name of `SAMPLING`, or a mapping of task names to shares of at least 0 that are not all 0.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : anything
        Its value.

    Raises
    ------
    InvalidParameterError
        If it is neither.
    """
    if not isinstance(value, Mapping):
        return check_option(name, value, SAMPLING, _DICT)
    shares = _check_numbers(name, value)
    if not any(shares.values()):
        raise InvalidParameterError(f"{name}={dict(value)!r} has no share greater than 0, so no row would be drawn")
    return shares


def _check_numbers(name: str, value: Mapping[Any, Any]) -> dict[str, float]:
    for task in value:
        if not isinstance(task, str):
            raise InvalidParameterError(f"{name}={dict(value)!r} must have names of tasks as keys, and not {task!r}")
    return {task: check_float(f"{name}[{task!r}]", number) for task, number in value.items()}


def require_names(name: str, value: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise if a mapping names tasks that do not exist.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : mapping
        Its value.
    names : sequence of str
        Names of the tasks.

    Raises
    ------
    InvalidParameterError
        If a task does not exist.
    """
    for task in value:
        if task not in names:
            near = did_you_mean(task, names)
            raise InvalidParameterError(
                f"{name} names the task {task!r}, which is not there; the tasks are {list(names)}"
                f"{'.' if near else ''}{near}"
            )


def weights_of(task_weights: Weights, names: Sequence[str]) -> dict[str, float]:
    """Return the weight of each task: 1 for "equal", for "uncertainty", and for a task that a mapping does not name.

    Parameters
    ----------
    task_weights : {"equal", "uncertainty"} or mapping of str to float
        Result of `check_task_weights`.
    names : sequence of str
        Names of the tasks.

    Raises
    ------
    InvalidParameterError
        If a task does not exist, or no task has a weight greater than 0.

    Examples
    --------
    >>> from sktransfer.tasks.weighting import weights_of
    >>> weights_of({"stars": 0.5}, ["topic", "stars"])
    {'topic': 1.0, 'stars': 0.5}
    """
    if isinstance(task_weights, str):
        return dict.fromkeys(names, 1.0)
    require_names("task_weights", task_weights, names)
    weights = {name: task_weights.get(name, 1.0) for name in names}
    if not any(weights.values()):
        raise InvalidParameterError(
            f"task_weights={dict(task_weights)!r} gives all tasks weight 0, so nothing would be trained; give one of "
            f"{list(names)} a weight greater than 0"
        )
    return weights


def shares_of(sampling: Weights, sizes: Mapping[str, int]) -> dict[str, float]:
    """Return the share of the draws of each source, without sources that have no rows or no share.

    Parameters
    ----------
    sampling : {"proportional", "uniform", "sqrt", "joint"} or mapping of str to float
        Result of `check_task_sampling`.
    sizes : mapping of str to int
        Number of rows of each source.

    Examples
    --------
    >>> from sktransfer.tasks.weighting import shares_of
    >>> shares_of("sqrt", {"topic": 900, "stars": 100, "tags": 0})
    {'topic': 0.75, 'stars': 0.25}
    """
    if isinstance(sampling, Mapping):
        parts = {name: float(sampling.get(name, 0.0)) for name in sizes}
    else:
        power = {"proportional": 1.0, "sqrt": 0.5}.get(sampling, 0.0)
        parts = {name: float(size) ** power for name, size in sizes.items()}
    parts = {name: part for name, part in parts.items() if part > 0 and sizes[name]}
    total = sum(parts.values())
    return {name: part / total for name, part in parts.items()}


def counts_of(shares: Mapping[str, float], n_draws: int) -> dict[str, int]:
    """Return the number of draws by source: those of largest remainder are rounded up, and each has one or more.

    Parameters
    ----------
    shares : mapping of str to float
        Shares greater than 0, which sum to 1.
    n_draws : int
        Number of draws. If there are fewer than sources, some have none.

    Examples
    --------
    >>> from sktransfer.tasks.weighting import counts_of
    >>> counts_of({"topic": 0.5, "stars": 0.3, "tags": 0.2}, 11)
    {'topic': 6, 'stars': 3, 'tags': 2}
    >>> counts_of({"topic": 0.999, "stars": 0.001}, 10)
    {'topic': 9, 'stars': 1}
    """
    exact = np.array(list(shares.values())) * n_draws  # (n_sources,)
    counts = np.floor(exact).astype(int)
    order = np.argsort(counts - exact, kind="stable")  # the largest remainder first
    counts[order[: n_draws - counts.sum()]] += 1
    for index in np.flatnonzero(counts == 0) if n_draws >= len(counts) else []:
        counts[np.argmax(counts)] -= 1
        counts[index] = 1
    return dict(zip(shares, counts.tolist()))


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the sum of the losses () of tasks times their weights.

    Parameters
    ----------
    losses : mapping of str to Tensor
        Loss () of each task of a positive weight, in the order of the tasks.
    weights : mapping of str to float
        Weights. A task without a weight has weight 1.
    """
    factors = ((loss, weights.get(name, 1.0)) for name, loss in losses.items())
    return functools.reduce(operator.add, (loss if weight == 1 else weight * loss for loss, weight in factors))


def positive(total: Tensor) -> Tensor:
    """Return a sum of weights (), or the smallest positive number if no target of a batch is known.

    Parameters
    ----------
    total : Tensor of shape ()
        Sum of the weights of a batch.
    """
    return total.clamp_min(torch.finfo(torch.float32).tiny)


@dataclasses.dataclass(frozen=True)
class BatchLosses:
    """Losses of a batch or of a part of it, by task. Those of all parts sum to those of the batch.

    Parameters
    ----------
    losses : dict of str to Tensor of shape ()
        Weighted means over the samples whose target is known.
    totals : mapping of str to Tensor of shape ()
        Sums of the weights of the batch.
    weights : mapping of str to Tensor of shape (n,)
        Weights of this part.
    outputs : dict of str to Tensor of shape (n, ...)
        Outputs of heads.
    features : list of Tensor
        Inputs of heads.
    """

    losses: dict[str, Tensor]
    totals: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    outputs: dict[str, Tensor]
    features: list[Tensor]

    def shares(self) -> dict[str, Tensor]:
        """Return the share () of the batch's weights in this part by task, 0 if no target is known."""
        return {
            name: self.weights[name].sum().to(loss.device) / positive(self.totals[name]).to(loss.device)
            for name, loss in self.losses.items()
        }


def uncertainty_loss(
    losses: Mapping[str, Tensor],
    shares: Mapping[str, Tensor],
    log_variances: Mapping[str, Tensor],
    factors: Mapping[str, float],
) -> Tensor:
    """Return the sum of losses () weighted by learned uncertainties [1]_.

    A task with loss L and log variance s adds `factor * exp(-s) * L + s / 2`. The factor is 1 for a cross entropy and
    1/2 for a squared error. A task without a known target in a batch adds nothing, so that its variance does not drift.

    Parameters
    ----------
    losses : mapping of str to Tensor
        Loss () of each task.
    shares : mapping of str to Tensor
        Share () of the batch's known targets that the loss is computed from: 1 for a whole batch, 0 if there are none.
    log_variances : mapping of str to Tensor
        Log variance () of each task.
    factors : mapping of str to float
        Factor of each task.

    References
    ----------
    .. [1] A. Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics",
       CVPR 2018.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.tasks.weighting import uncertainty_loss
    >>> one = torch.tensor(1.0)
    >>> uncertainty_loss({"stars": 4 * one}, {"stars": one}, {"stars": torch.log(2 * one)}, {"stars": 0.5}).item()
    1.3465...
    """
    total = torch.zeros((), device=next(iter(losses.values())).device)
    for name, loss in losses.items():
        log_variance = log_variances[name]
        total = total + factors[name] * torch.exp(-log_variance) * loss + shares[name] * log_variance / 2
    return total


def uncertainty_weights(log_variances: Mapping[str, Tensor], factors: Mapping[str, float]) -> dict[str, float]:
    """Return the weights that `uncertainty_loss` gives to losses.

    Parameters
    ----------
    log_variances : mapping of str to Tensor
        Log variance () of each task.
    factors : mapping of str to float
        Factor of each task.
    """
    return {name: factors[name] * math.exp(-float(value.detach())) for name, value in log_variances.items()}


def check_aggregator(name: str, value: Any) -> Any:
    """Return None or an aggregator of TorchJD.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : anything
        Its value.

    Raises
    ------
    InvalidParameterError
        If it is neither, or TorchJD is not installed.
    """
    if value is None:
        return None
    try:
        from torchjd.aggregation import Aggregator
    except ImportError as error:
        raise InvalidParameterError(
            f"{name}={value!r} needs TorchJD, the extra torchjd: pip install 'torchjd[quadprog-projector]>=0.18'"
        ) from error
    if not isinstance(value, Aggregator):
        made = f"; give an instance, {value.__name__}()" if isinstance(value, type) else ""
        raise InvalidParameterError(
            f"{name}={value!r} must be None or an aggregator of TorchJD, such as torchjd.aggregation.UPGrad(){made}"
        )
    return value


def aggregator_identity(aggregator: Any) -> list[Any]:
    """Return the class and the settings of an aggregator. The key of a checkpoint depends on them.

    Parameters
    ----------
    aggregator : torchjd.aggregation.Aggregator or None
        Aggregator; None for none.
    """
    if aggregator is None:
        return []
    plain = (Tensor, bool, int, float, str)
    parts = [
        [type(module).__qualname__, {name: one for name, one in vars(module).items() if isinstance(one, plain)}]
        for module in aggregator.modules()
    ]
    return [repr(aggregator), *parts]


class GradientAggregation:
    """Gradients of tasks in the parameters that they share, combined by an aggregator of TorchJD.

    Parameters
    ----------
    aggregator : torchjd.aggregation.Aggregator
        Aggregator, not changed. Its memory of earlier steps is not used.
    """

    def __init__(self, aggregator: Any) -> None:
        self.aggregator = copy.deepcopy(aggregator)
        if self.has_memory:
            self.aggregator.reset()
        self._shared: list[nn.Parameter] = []

    @property
    def has_memory(self) -> bool:
        """Whether a step depends on earlier ones."""
        return hasattr(self.aggregator, "reset")

    def backward(
        self, losses: Sequence[Tensor], features: Sequence[Tensor], parameters: Iterable[nn.Parameter]
    ) -> None:
        """Add the gradients of losses: those of heads to `grad`, those of shared parameters to rows per task.

        Parameters
        ----------
        losses : sequence of Tensor
            Loss () of each task.
        features : sequence of Tensor
            Outputs of the shared part, which all losses are computed from.
        parameters : iterable of Parameter
            Parameters of the shared part.
        """
        from torchjd.autojac import mtl_backward

        # One task after the other: batched gradients of attention are not implemented on a CPU.
        mtl_backward(losses, features, parallel_chunk_size=1)
        self._shared = [parameter for parameter in parameters if hasattr(parameter, "jac")]

    def finish(self) -> None:
        """Combine the gradients of all tasks, and add the result to `grad`."""
        from torchjd.autojac import jac_to_grad

        if self._shared:
            jac_to_grad(self._shared, self.aggregator)
        self._shared = []
