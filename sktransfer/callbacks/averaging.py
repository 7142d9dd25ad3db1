"""Weight averaging: over steps, over epochs, or between start and end."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sktransfer._validation import check_float
from sktransfer.exceptions import InvalidParameterError
from sktransfer.training.epochs.held_out import BestWeights

__all__ = ["EMA", "SWA", "WiSEFT"]


class _Average(Callback):  # type: ignore[misc]
    """Average the weights during training, and write the average into the network at its end."""

    def _average(self, net: NeuralNet) -> AveragedModel:
        raise NotImplementedError

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Start the average with a copy of the weights."""
        if any(isinstance(callback, BestWeights) for _, callback in net.callbacks_):
            raise InvalidParameterError(
                f"{type(self).__name__} ends with an average over steps, early_stopping with the weights of one epoch; "
                "leave one of the two out"
            )
        self.average_: AveragedModel | None = self._average(net)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Write the average into the network."""
        assert self.average_ is not None
        if self.average_.n_averaged > 0:
            _write(net, list(self.average_.module.parameters()))
        self.average_ = None


class EMA(_Average):
    """Exponential moving average of the weights over steps, used for predictions.

    Parameters
    ----------
    decay : float, default=0.99
        Share of its old value that the average keeps per step. About 1 / (1 - decay) steps count.

    Examples
    --------
    >>> from sktransfer import EMA, FineTuneClassifier
    >>> clf = FineTuneClassifier(lr_schedule="constant", callbacks=[EMA(0.9)])
    """

    reads_batch_losses = False

    def __init__(self, decay: float = 0.99) -> None:
        self.decay = decay

    def _average(self, net: NeuralNet) -> AveragedModel:
        decay = check_float("decay", self.decay, 0.0, 1.0)
        return AveragedModel(net.module_, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]

    def on_batch_end(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Update the average after a step."""
        if training:
            assert self.average_ is not None
            self.average_.update_parameters(net.module_)


class SWA(_Average):
    """Stochastic weight averaging: mean of the weights at the end of the last epochs [1]_, used for predictions.

    It works best at a constant learning rate.

    Parameters
    ----------
    start : float, default=0.75
        Share of the epochs after which averaging begins.

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
        check_float("start", self.start, 0.0, 1.0)
        return AveragedModel(net.module_)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Update the average at the end of an epoch."""
        if len(net.history) > self.start * net.max_epochs:
            assert self.average_ is not None
            self.average_.update_parameters(net.module_)


class WiSEFT(Callback):  # type: ignore[misc]
    """Interpolate between the weights before and after the training [1]_.

    If the head starts as a probe, both ends are good models. The weights between them keep more of the pretrained
    network than the fine-tuned ones do.

    Parameters
    ----------
    alpha : float, default=0.5
        Position between the start (0) and the end (1) of the training.

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
        """Store the weights."""
        check_float("alpha", self.alpha, 0.0, 1.0)
        self.start_: list[torch.Tensor] = [parameter.detach().clone() for parameter in net.module_.parameters()]

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Write the interpolated weights."""
        ends = [parameter.detach() for parameter in net.module_.parameters()]
        # A checkpoint restores tensors on the CPU.
        starts = [start.to(end.device) for start, end in zip(self.start_, ends)]
        _write(net, [torch.lerp(start, end, float(self.alpha)) for start, end in zip(starts, ends)])
        self.start_ = []


@torch.no_grad()
def _write(net: NeuralNet, values: list[Any]) -> None:
    for parameter, value in zip(net.module_.parameters(), values):
        parameter.copy_(value)
