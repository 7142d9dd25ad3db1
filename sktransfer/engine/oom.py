"""What happens when a batch needs more memory than there is: half of it is tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sktransfer.exceptions import InvalidSampleError

__all__ = ["retry_on_oom", "is_out_of_memory"]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is at its end: torch has a class of its own for GPUs only."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)


def retry_on_oom(work: Callable[[slice], None], rows: Sequence[int]) -> None:
    """Do some work on a batch; where memory does not suffice, on its halves one after the other.

    Parameters
    ----------
    work : callable
        Gets the part of the batch that it is to do.
    rows : sequence of int
        Of the batch's samples, for messages.

    Raises
    ------
    InvalidSampleError
        If a single sample needs more memory than there is; the row is named.
    """
    waiting = [slice(0, len(rows))]
    while waiting:
        part = waiting.pop()
        try:
            work(part)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if part.stop - part.start == 1:
                raise InvalidSampleError(
                    rows[part.start],
                    f"the network needs more memory for this sample alone than there is ({_first_line(error)}). "
                    "Make it smaller (a smaller size in preprocess, a smaller max_length), take a smaller backbone, or "
                    "run it where there is more memory",
                ) from error
            middle = (part.start + part.stop) // 2
            waiting += [slice(middle, part.stop), slice(part.start, middle)]
            torch.cuda.empty_cache()  # pieces of the size that was too large are of no use to the halves


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
