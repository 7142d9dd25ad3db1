"""Weights averaged: over the steps of a training, or between its end and its start."""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sktransfer.exceptions import InvalidParameterError
from sktransfer.training.early_stopping import BestWeights

__all__ = ["EMA", "SWA", "WiSEFT"]


class _Average(Callback):  # type: ignore[misc]
    """Keep an average of the weights beside the training, and leave it in their place."""

    def _average(self, net: NeuralNet) -> AveragedModel:
        raise NotImplementedError

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Begin with a copy."""
        if any(isinstance(callback, BestWeights) for _, callback in net.callbacks_):
            raise InvalidParameterError(
                f"{type(self).__name__} ends with an average over steps, early_stopping with the weights of one epoch; "
                "leave one of them out"
            )
        self.average_: AveragedModel | None = self._average(net)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Write the average into the network."""
        assert self.average_ is not None
        if self.average_.n_averaged > 0:
            _write(net, list(self.average_.module.parameters()))
        self.average_ = None


class EMA(_Average):
    """Predict with the exponential moving average of the weights after each step, not with the last of them.

    Parameters
    ----------
    decay : float, default=0.99
        What the average keeps of itself at each step; 1 / (1 - decay) steps count.

    Examples
    --------
    >>> from sktransfer import EMA, FineTuneClassifier
    >>> clf = FineTuneClassifier(lr_schedule="constant", callbacks=[EMA(0.9)])
    """

    def __init__(self, decay: float = 0.99) -> None:
        self.decay = decay

    def _average(self, net: NeuralNet) -> AveragedModel:
        decay = _share("decay", self.decay)
        return AveragedModel(net.module_, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]

    def on_batch_end(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Take in the weights after a step."""
        if training:
            assert self.average_ is not None
            self.average_.update_parameters(net.module_)


class SWA(_Average):
    """Predict with the mean of the weights at the ends of the last epochs [1]_; best where the rate stays constant.

    Parameters
    ----------
    start : float, default=0.75
        The share of the epochs after which averaging begins.

    References
    ----------
    .. [1] P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018.

    Examples
    --------
    >>> from sktransfer import SWA, FineTuneClassifier
    >>> clf = FineTuneClassifier(lr_schedule="constant", callbacks=[SWA(0.5)])
    """

    def __init__(self, start: float = 0.75) -> None:
        self.start = start

    def _average(self, net: NeuralNet) -> AveragedModel:
        _share("start", self.start)
        return AveragedModel(net.module_)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Take in the weights at the end of an epoch."""
        if len(net.history) > self.start * net.max_epochs:
            assert self.average_ is not None
            self.average_.update_parameters(net.module_)


class WiSEFT(Callback):  # type: ignore[misc]
    """Go only part of the way from the weights before the training to those after it [1]_.

    Where the head starts as a probe, both ends are good models, and what lies between them keeps more of what the
    pretrained network knew than the tuned one does.

    Parameters
    ----------
    alpha : float, default=0.5
        0 is the start, 1 the end.

    References
    ----------
    .. [1] M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.

    Examples
    --------
    >>> from sktransfer import FineTuneClassifier, WiSEFT
    >>> clf = FineTuneClassifier(callbacks=[WiSEFT(0.5)])
    """

    def __init__(self, alpha: float = 0.5) -> None:
        self.alpha = alpha

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Remember the start."""
        _share("alpha", self.alpha)
        self.start_: list[torch.Tensor] = [parameter.detach().clone() for parameter in net.module_.parameters()]

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Go back the rest of the way."""
        ends = [parameter.detach() for parameter in net.module_.parameters()]
        _write(net, [torch.lerp(start, end, float(self.alpha)) for start, end in zip(self.start_, ends)])
        self.start_ = []


@torch.no_grad()
def _write(net: NeuralNet, values: list[Any]) -> None:
    for parameter, value in zip(net.module_.parameters(), values):
        parameter.copy_(value)


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise InvalidParameterError(f"{name}={value!r} must be a number from 0 to 1")
    return float(value)
