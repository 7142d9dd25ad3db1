"""Free memory of a GPU, and batches that fill it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["MeasuredPeak", "free_failed", "free_memory", "measured_peak"]


def free_memory(device: torch.device) -> int:
    """Return the bytes of a CUDA device that this process can still use, the unused blocks of torch included.

    Parameters
    ----------
    device : torch.device
        CUDA device.
    """
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + max(0, unused)


def free_failed() -> None:
    """Free what computations held when they ran out of memory. Call it after the error is dropped."""
    gc.collect()  # the frames of the traceback and the error may refer to each other
    torch.cuda.empty_cache()  # a smaller batch cannot use cached blocks of the size that was too large
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


class MeasuredPeak:
    """Bytes that a batch took at most, and bytes that were free before it.

    Parameters
    ----------
    free : int
        Free bytes before the batch.
    used : int, default=0
        Largest number of bytes that the batch took.

    Examples
    --------
    >>> from sktransfer.devices.memory import MeasuredPeak
    >>> [MeasuredPeak(free, used=100).growth(8) for free in (100, 800, 10_000)]
    [1, 4, 8]
    """

    def __init__(self, free: int, used: int = 0) -> None:
        self.free, self.used = free, used

    def growth(self, most: int) -> int:
        """Return how many times as large a batch may be, a power of two.

        Such a batch takes at most half of the free memory. Powers of two keep batches the same if a little more or less
        memory is free.

        Parameters
        ----------
        most : int
            Largest factor.
        """
        factor = 1
        while 2 * factor <= most and 2 * factor * self.used <= self.free // 2:
            factor *= 2
        return factor


@contextmanager
def measured_peak(device: torch.device) -> Iterator[MeasuredPeak]:
    """Measure what the computations of a block take on a CUDA device. `used` is set at the end of the block.

    The peak that `torch.cuda.max_memory_allocated` reports begins anew.

    Parameters
    ----------
    device : torch.device
        CUDA device.
    """
    peak, before = MeasuredPeak(free_memory(device)), torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    yield peak
    peak.used = torch.cuda.max_memory_allocated(device) - before
