"""Precisions that a processor emulates, and how slow they are."""

from __future__ import annotations

import functools
import time

import torch

from sktransfer.exceptions import EmulatedPrecisionWarning, warn
from sktransfer.machine.processor import Processor, this_processor

__all__ = ["emulation_factor", "emulation_message", "native_precision", "warn_if_emulated"]

_SHAPE = 64, 384, 384  # of the product that is timed: of layers of small networks, which takes a millisecond
_ROUNDS = 3
_SLOW = 1.5  # times as slow as float32, from which a precision is not worth its loss
_warned: set[torch.dtype] = set()


def native_precision(processor: Processor) -> str:
    """Return the fastest precision of which products are not emulated, "bfloat16" or "float32".

    Parameters
    ----------
    processor : Processor
        The processor.

    Examples
    --------
    >>> from sktransfer.machine.precision import native_precision
    >>> from sktransfer.machine.processor import Processor
    >>> native_precision(Processor(frozenset({"avx2"}))), native_precision(Processor(frozenset({"avx512_bf16"})))
    ('float32', 'bfloat16')
    """
    return "bfloat16" if processor.multiplies(torch.bfloat16) else "float32"


def warn_if_emulated(dtype: torch.dtype) -> None:
    """Warn once in a process if the processor emulates a precision, and so is slower than in float32.

    Parameters
    ----------
    dtype : torch.dtype
        Type of weights and activations.
    """
    if dtype in _warned or this_processor().multiplies(dtype):
        return
    _warned.add(dtype)
    message = emulation_message(dtype, this_processor(), emulation_factor(dtype))
    if message:
        warn(message, EmulatedPrecisionWarning)


def emulation_message(dtype: torch.dtype, processor: Processor, factor: float) -> str:
    """Return the warning about a precision on a processor; an empty string if it is native or not slow.

    Parameters
    ----------
    dtype : torch.dtype
        Type of weights and activations.
    processor : Processor
        The processor.
    factor : float
        Times as long as in float32 that a product takes.
    """
    if processor.multiplies(dtype) or factor < _SLOW:
        return ""
    name = str(dtype).removeprefix("torch.")
    limit = "" if processor.limit == "DEFAULT" else f" that ONEDNN_MAX_CPU_ISA={processor.limit} allows"
    return (
        f"precision={name!r} is emulated, because this processor has no instructions for it{limit}. A small product "
        f"of matrices takes {factor:.2g} times as long as in float32. Set precision='float32', or 'auto', which never "
        "chooses an emulated precision"
    )


@functools.cache
def emulation_factor(dtype: torch.dtype) -> float:
    """Return how many times as long a small product of matrices takes in a type as in float32, measured once.

    Parameters
    ----------
    dtype : torch.dtype
        Type of the factors.
    """
    m, k, n = _SHAPE
    taken = {}
    with torch.inference_mode():
        for kind in (torch.float32, dtype):
            left, right = torch.ones(m, k, dtype=kind), torch.ones(n, k, dtype=kind)
            taken[kind] = min(_seconds(left, right) for _ in range(1 + _ROUNDS))
    return taken[dtype] / taken[torch.float32]


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    started = time.perf_counter()
    torch.nn.functional.linear(left, right)  # (m, n)
    return time.perf_counter() - started
