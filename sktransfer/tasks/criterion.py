"""Losses of the user: a callable or a module of torch that returns one loss per row."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.exceptions import InvalidParameterError

__all__ = ["Criterion", "check_criteria", "check_criterion"]


def check_criterion(name: str, criterion: Any) -> Any:
    """Return a criterion, if it is None, a callable, or a class or an instance of `torch.nn.Module`.

    Parameters
    ----------
    name : str
        Name of the parameter, used in errors.
    criterion : object
        Value to check.

    Raises
    ------
    InvalidParameterError
        If it is none of these, has weights to train, or returns one loss for all rows.
    """
    if criterion is None:
        return None
    if not callable(criterion):
        raise InvalidParameterError(
            f"{name}={criterion!r} must be None, a function of (outputs, targets), or a class or an instance of a loss "
            "of torch.nn, such as torch.nn.HuberLoss"
        )
    reduction = getattr(criterion, "reduction", "none")
    if isinstance(criterion, nn.Module) and reduction != "none":
        raise InvalidParameterError(
            f"{name}={criterion!r} reduces the losses of a batch to their {reduction}, and weights of samples need one "
            f"loss per row; give torch.nn.{type(criterion).__name__}(reduction='none'), or the class"
        )
    if isinstance(criterion, nn.Module) and any(one.requires_grad for one in criterion.parameters()):
        raise InvalidParameterError(
            f"{name}={type(criterion).__name__}(...) has weights, and only those of the network are trained; register "
            "them as buffers"
        )
    return criterion


def check_criteria(name: str, criteria: Any) -> None:
    """Raise unless a parameter is None or a dict of criteria by task.

    Parameters
    ----------
    name : str
        Name of the parameter, used in errors.
    criteria : object
        Value to check.

    Raises
    ------
    InvalidParameterError
        If it is neither, or a criterion is not allowed.
    """
    if criteria is None:
        return
    if not isinstance(criteria, Mapping):
        raise InvalidParameterError(f"{name}={criteria!r} must be None, or a dict of losses by task")
    for task, criterion in criteria.items():
        check_criterion(f"{name}[{task!r}]", criterion)


class Criterion:
    """Loss of the user, which is checked at its first call.

    Parameters
    ----------
    given : callable or class
        Value of the parameter, checked by `check_criterion`. A class is instantiated, with `reduction="none"` if it has
        this parameter. A module is copied.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.tasks.criterion import Criterion
    >>> Criterion(torch.nn.L1Loss)(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]]))
    tensor([[0., 2.]])
    """

    def __init__(self, given: Any) -> None:
        self.given = given
        self._loss = copy.deepcopy(given) if isinstance(given, nn.Module) else given
        if isinstance(given, type):
            self._loss = _instance(given)
        self._checked = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses as the user's function does: (n,), or (n, n_outputs).

        Parameters
        ----------
        outputs : Tensor of shape (n, n_outputs)
            Outputs of the head.
        targets : Tensor of shape (n,) or (n, n_outputs)
            Targets of the batch.

        Raises
        ------
        InvalidParameterError
            If the first result is not one finite loss per row, or has no gradient.
        """
        if isinstance(self._loss, nn.Module):
            self._loss.to(outputs.device)
        losses: Tensor = self._loss(outputs, targets) if self._checked else self._first(outputs, targets)
        self._check_shape(losses, outputs, targets)
        if not self._checked:
            self._check_values(losses, outputs, targets)
            self._checked = outputs.requires_grad
        return losses.float()

    def rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each row (n,), the mean over its outputs.

        Parameters
        ----------
        outputs, targets
            As `__call__` takes them.
        """
        losses = self(outputs, targets)
        return losses if losses.ndim == 1 else losses.mean(1)  # (n,)

    def __getstate__(self) -> Any:
        return self.given  # the copy may be on a GPU

    def __setstate__(self, given: Any) -> None:
        self.__init__(given)  # type: ignore[misc]

    def identity(self) -> list[Any]:
        """Return everything that the losses depend on, used in the key of a checkpoint."""
        code = getattr(self.given, "__code__", None)
        kind = self.given if hasattr(self.given, "__qualname__") else type(self.given)
        parts: list[Any] = [kind.__module__, kind.__qualname__]
        if code is not None:
            constants = [one for one in code.co_consts if isinstance(one, (bool, int, float, str, type(None)))]
            parts += [code.co_code, repr(constants), list(code.co_names)]
        if isinstance(self.given, nn.Module):
            plain = {name: one for name, one in vars(self.given).items() if isinstance(one, (bool, int, float, str))}
            parts += [repr(sorted(plain.items())), dict(self.given.state_dict())]
        return parts

    def _first(self, outputs: Tensor, targets: Tensor) -> Tensor:
        try:
            losses: Tensor = self._loss(outputs, targets)
        except torch.OutOfMemoryError:  # the batch is halved
            raise
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            classes = targets.ndim == 1 and not targets.is_floating_point()
            remedy = (
                "targets are the indices of the classes, as torch.nn.CrossEntropyLoss takes them; for a loss of "
                "indicators, encode them in a function of (outputs, targets), torch.nn.functional.one_hot(targets, "
                f"{outputs.shape[1]}).float()"
                if classes
                else "it must take outputs and targets of these shapes"
            )
            reason = (str(error).splitlines() or [""])[0].rstrip(".")
            raise InvalidParameterError(
                f"criterion={self.given!r} raised {type(error).__name__}: {reason}, for "
                f"{_described(outputs, targets)}; {remedy}"
            ) from error
        return losses

    def _check_shape(self, losses: Any, outputs: Tensor, targets: Tensor) -> None:
        if isinstance(losses, Tensor) and losses.shape in (outputs.shape[:1], outputs.shape):
            return
        found = f"shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else f"type {type(losses).__name__}"
        raise InvalidParameterError(
            f"criterion={self.given!r} returned {found} for {_described(outputs, targets)}; it must return one loss "
            f"per row, a tensor of shape {tuple(outputs.shape[:1])} or {tuple(outputs.shape)}: losses of torch take "
            "reduction='none'"
        )

    def _check_values(self, losses: Tensor, outputs: Tensor, targets: Tensor) -> None:
        if outputs.requires_grad and not losses.requires_grad:
            raise InvalidParameterError(
                f"criterion={self.given!r} returned losses without a gradient; compute them from the outputs with "
                "functions of torch, without detach or numpy"
            )
        rows = torch.nonzero(~losses.detach().reshape(len(losses), -1).isfinite().all(1))  # (n_rows, 1)
        if len(rows) and outputs.detach().isfinite().all():
            row = int(rows[0])
            raise InvalidParameterError(
                f"criterion={self.given!r} returned {losses.detach()[row].tolist()} for outputs "
                f"{outputs.detach()[row].tolist()} and target {targets[row].tolist()} of the first batch; losses must "
                "be finite for all outputs"
            )


def _instance(given: type) -> Any:
    parameters = inspect.signature(given).parameters
    try:
        return check_criterion("criterion", given(**({"reduction": "none"} if "reduction" in parameters else {})))
    except TypeError as error:
        raise InvalidParameterError(
            f"criterion={given.__qualname__} cannot be made without arguments ({error}); give an instance"
        ) from error


def _described(outputs: Tensor, targets: Tensor) -> str:
    kinds = [f"{name} of shape {tuple(one.shape)}" for name, one in (("outputs", outputs), ("targets", targets))]
    return " and ".join(kinds)
