"""What shapes a training, checked before anything is computed."""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any

import torch

from sktransfer.exceptions import InvalidParameterError
from sktransfer.training.adapters import check_adapter
from sktransfer.training.callback_list import check_callbacks
from sktransfer.training.heads import Head
from sktransfer.training.optimisation import SCHEDULES
from sktransfer.training.unfreezing import UNFREEZING

__all__ = ["OPTIMIZERS", "Settings", "check_settings"]

AUTO_LR = 1e-4
HEAD_LR_RATIO = {"probe": 1.0, "class_means": 1.0, "random": 10.0}  # all but the last are near their place already
OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Parameters of an estimator, "auto" and None resolved."""

    max_epochs: int
    batch_size: int
    finds_lr: bool
    lr: float
    head_lr: float
    lr_schedule: str
    layer_lr_decay: float
    unfreezing: str
    optimizer: type[torch.optim.Optimizer]
    weight_decay: float
    l2_sp: float
    label_smoothing: float
    early_stopping: bool
    validation_fraction: float
    patience: int
    verbose: int
    in_parts: bool = False  # whether further samples will come

    def at(self, lr: float) -> Settings:
        """Return the settings at another rate; the head's stands to it as before."""
        return dataclasses.replace(self, finds_lr=False, lr=lr, head_lr=lr * self.head_lr / self.lr)


def check_settings(estimator: Any) -> Settings:
    """Return what an estimator's parameters say of its training.

    Raises
    ------
    InvalidParameterError
        If one of them is not allowed, or two contradict each other.
    """
    _check_head(estimator)
    check_callbacks(estimator.callbacks)
    _switch("warm_start", getattr(estimator, "warm_start", False))
    l2_sp = _number("l2_sp", estimator.l2_sp, 0.0)
    if estimator.adapter is not None:
        check_adapter(estimator.adapter)
        if l2_sp:
            raise InvalidParameterError(
                f"l2_sp={l2_sp:g} holds weights that are trained, and adapter={estimator.adapter!r} trains none of "
                "them; leave one of the two out"
            )
    finds_lr = isinstance(estimator.lr, str) and estimator.lr == "find"
    is_auto = isinstance(estimator.lr, str) and estimator.lr == "auto"
    lr = AUTO_LR if finds_lr or is_auto else _rate("lr", estimator.lr, ", 'auto' or 'find'")
    head_lr = estimator.head_lr
    if finds_lr and head_lr is not None:
        raise InvalidParameterError(
            f"head_lr={head_lr!r} is a rate of its own, and lr='find' finds one that the head's stands in proportion "
            "to; leave head_lr=None, or set lr to a number"
        )
    ratio, verbose = HEAD_LR_RATIO[estimator.head_init], estimator.verbose
    return Settings(
        max_epochs=_count("max_epochs", estimator.max_epochs, 0),
        batch_size=_count("batch_size", estimator.batch_size, 1),
        finds_lr=finds_lr,
        lr=lr,
        head_lr=ratio * lr if head_lr is None else _rate("head_lr", head_lr, "; None stands in proportion to lr"),
        lr_schedule=_one_of("lr_schedule", estimator.lr_schedule, tuple(SCHEDULES)),
        layer_lr_decay=_number(
            "layer_lr_decay", estimator.layer_lr_decay, 1.0, "; it divides the rate, from each stage to the one below"
        ),
        unfreezing=_one_of("unfreezing", estimator.unfreezing, UNFREEZING),
        optimizer=_optimizer(estimator.optimizer),
        weight_decay=_number("weight_decay", estimator.weight_decay, 0.0),
        l2_sp=l2_sp,
        label_smoothing=_share("label_smoothing", getattr(estimator, "label_smoothing", 0.0), zero=True),
        early_stopping=_switch("early_stopping", estimator.early_stopping),
        validation_fraction=_share("validation_fraction", estimator.validation_fraction),
        patience=_count("patience", estimator.patience, 1),
        verbose=_count("verbose", int(verbose) if isinstance(verbose, bool) else verbose, 0),
    )


def _check_head(estimator: Any) -> None:
    _one_of("head_init", estimator.head_init, tuple(HEAD_LR_RATIO))
    head = estimator.head
    if isinstance(head, str) and head == "linear":
        return
    if not isinstance(head, Head):
        raise InvalidParameterError(f"head={head!r} must be 'linear', or the head_ of a fitted estimator")
    if estimator.head_init != "probe":
        raise InvalidParameterError(
            f"head_init={estimator.head_init!r} says how a new head starts, and a fitted head is given, which starts "
            "as it is; leave one of them out"
        )


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise InvalidParameterError(f"{name}={value!r} must be one of {allowed}")
    return value


def _is_number(value: Any, kind: type = numbers.Real) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _count(name: str, value: Any, least: int) -> int:
    if not _is_number(value, numbers.Integral) or value < least:
        raise InvalidParameterError(f"{name}={value!r} must be an int of at least {least}")
    return int(value)


def _number(name: str, value: Any, least: float, why: str = "") -> float:
    if not _is_number(value) or not least <= float(value) < float("inf"):
        raise InvalidParameterError(f"{name}={value!r} must be a number of at least {least:g}{why}")
    return float(value)


def _share(name: str, value: Any, zero: bool = False) -> float:
    if not _is_number(value) or not 0 <= float(value) < 1 or (value == 0 and not zero):
        least = "" if zero else "greater than 0 and "
        raise InvalidParameterError(f"{name}={value!r} must be a number from 0 to 1, {least}less than 1")
    return float(value)


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidParameterError(f"{name}={value!r} must be True or False")
    return value


def _rate(name: str, value: Any, otherwise: str) -> float:
    if not _is_number(value) or not 0 < float(value) < float("inf"):
        raise InvalidParameterError(f"{name}={value!r} must be a number greater than 0{otherwise}")
    return float(value)


def _optimizer(optimizer: Any) -> type[torch.optim.Optimizer]:
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        return optimizer
    if isinstance(optimizer, str) and optimizer in OPTIMIZERS:
        return OPTIMIZERS[optimizer]
    raise InvalidParameterError(f"optimizer={optimizer!r} must be one of {tuple(OPTIMIZERS)} or a class of torch.optim")
