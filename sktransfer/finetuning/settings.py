"""The numbers that shape a training, checked before anything is computed."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

import torch

from sktransfer.exceptions import InvalidParameterError

__all__ = ["Settings", "check_settings"]

AUTO_LR = 1e-4
HEAD_LR_RATIO = {"probe": 1.0, "random": 10.0}  # a probe is near its place already
_OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


@dataclass(frozen=True)
class Settings:
    """Parameters of an estimator, "auto" and None resolved."""

    max_epochs: int
    batch_size: int
    lr: float
    head_lr: float
    weight_decay: float
    optimizer: type[torch.optim.Optimizer]
    verbose: int


def check_settings(estimator: Any) -> Settings:
    """Return what an estimator's parameters say of its training.

    Raises
    ------
    InvalidParameterError
        If one of them is not allowed.
    """
    if estimator.head_init not in HEAD_LR_RATIO:
        raise InvalidParameterError(f"head_init={estimator.head_init!r} must be one of {tuple(HEAD_LR_RATIO)}")
    lr = AUTO_LR if isinstance(estimator.lr, str) and estimator.lr == "auto" else _rate("lr", estimator.lr)
    head_lr = estimator.head_lr
    weight_decay = estimator.weight_decay
    if not isinstance(weight_decay, numbers.Real) or not float(weight_decay) >= 0:
        raise InvalidParameterError(f"weight_decay={weight_decay!r} must be a number of at least 0")
    return Settings(
        max_epochs=_count("max_epochs", estimator.max_epochs, 0),
        batch_size=_count("batch_size", estimator.batch_size, 1),
        lr=lr,
        head_lr=HEAD_LR_RATIO[estimator.head_init] * lr if head_lr is None else _rate("head_lr", head_lr),
        weight_decay=float(weight_decay),
        optimizer=_optimizer(estimator.optimizer),
        verbose=int(estimator.verbose),
    )


def _count(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise InvalidParameterError(f"{name}={value!r} must be an int of at least {least}")
    return int(value)


def _rate(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not float(value) > 0:
        raise InvalidParameterError(f"{name}={value!r} must be a number greater than 0 (lr also 'auto')")
    return float(value)


def _optimizer(optimizer: Any) -> type[torch.optim.Optimizer]:
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        return optimizer
    if isinstance(optimizer, str) and optimizer in _OPTIMIZERS:
        return _OPTIMIZERS[optimizer]
    raise InvalidParameterError(
        f"optimizer={optimizer!r} must be one of {tuple(_OPTIMIZERS)} or a class of torch.optim"
    )
