"""Batches too large for memory, computed a few samples at a time."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback

from sktransfer.exceptions import InvalidParameterError

__all__ = ["MicroBatches"]


class MicroBatches(Callback):  # type: ignore[misc]
    """Accumulate gradients: compute a batch a few samples at a time, and step once for all of it.

    The steps are those of the whole batch, whatever its samples weigh; only dropout, and BatchNorm of networks drawn at
    random, see less at once. Memory is that of the parts.

    Parameters
    ----------
    size : int
        Samples that are computed at once.

    Examples
    --------
    >>> from sktransfer import FineTuneClassifier, MicroBatches
    >>> clf = FineTuneClassifier(batch_size=64, callbacks=[MicroBatches(8)])
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Tell the net."""
        if isinstance(self.size, bool) or not isinstance(self.size, Integral) or self.size < 1:
            raise InvalidParameterError(f"size={self.size!r} must be an int of at least 1")
        net.micro_batch_size = int(self.size)
