"""Gradient accumulation over micro-batches."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback

from sktransfer._validation import check_int
from sktransfer.exceptions import InvalidParameterError

__all__ = ["MicroBatches"]


class MicroBatches(Callback):  # type: ignore[misc]
    """Accumulate gradients: compute a batch in micro-batches, and make one step for all of them.

    The steps equal those of the whole batch, whatever the weights of its samples. Only dropout, and BatchNorm of random
    weights, see fewer samples at once. Memory is that of a micro-batch.

    Parameters
    ----------
    size : int
        Samples per micro-batch.

    Examples
    --------
    >>> from sktransfer import FineTuneClassifier, MicroBatches
    >>> clf = FineTuneClassifier(batch_size=64, callbacks=[MicroBatches(8)])
    """

    changes_step = True

    def __init__(self, size: int) -> None:
        self.size = size

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Set the size of the net's micro-batches."""
        if any(task.pairwise for task in net.tasks.values()):
            raise InvalidParameterError(
                f"MicroBatches({self.size!r}) computes a batch in parts, and the loss here compares all samples of a "
                "batch; leave it out of callbacks, or set batch_size to less"
            )
        net.micro_batch_size = check_int("size", self.size, 1)
