"""How a network is run: where, in which precision, and how much of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import torch

from sktransfer.backbones.preprocess import Preprocess
from sktransfer.config import get_config
from sktransfer.exceptions import InvalidParameterError

__all__ = ["Compute", "PRECISIONS", "resolve_compute", "resolve_device"]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# What goes through a network at once when nobody says: enough to fill one core's caches, or a GPU.
_TOKENS = {"cpu": 1024, "gpu": 32_768}
_PIXELS = {"cpu": 16 * 224 * 224, "gpu": 256 * 224 * 224}  # by the bytes of a number
_MOST = {"cpu": 64, "gpu": 1024}  # samples, however small


@dataclass(frozen=True)
class Compute:
    """Where a network runs, in which precision, in batches of how many samples.

    Parameters
    ----------
    device : torch.device
        Where.
    dtype : torch.dtype
        Of weights and activations.
    batch_size : int, default=None
        Samples a batch; None for as many as fill a core or a GPU: a number of tokens for texts, of pixels for images.
    compiled : bool, default=False
        Whether `torch.compile` makes the stages faster, which takes it a while.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    batch_size: int | None = None
    compiled: bool = False

    @property
    def on_cpu(self) -> bool:
        """Whether cores do the work, each on a batch of its own."""
        return self.device.type == "cpu"

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return which samples share a batch, as places in `lengths`.

        Parameters
        ----------
        lengths : sequence of int
            For texts the number of tokens of each: those of about the same length share a batch, the longest first,
            and little of it is padding.
        """
        order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
        budget = _TOKENS["cpu" if self.on_cpu else "gpu"]
        batches: list[list[int]] = []
        for place in order:
            # The first of a batch is its longest: what it takes is that length for each.
            most = self.batch_size or max(1, budget // max(1, lengths[batches[-1][0]])) if batches else 0
            if not batches or len(batches[-1]) >= most:
                batches.append([])
            batches[-1].append(place)
        return batches

    def n_images(self, preprocess: Preprocess) -> int:
        """Return how many images share a batch."""
        if self.batch_size is not None:
            return self.batch_size
        where = "cpu" if self.on_cpu else "gpu"
        size = getattr(preprocess, "crop", None) or getattr(preprocess, "resize", None)
        height, width = size if isinstance(size, tuple) else (size or 224, size or 224)
        n: int = max(1, min(_PIXELS[where] // (height * width * self.dtype.itemsize), _MOST[where]))
        return n


def resolve_compute(device: str | torch.device, precision: str = "float32", batch_size: int | str = "auto") -> Compute:
    """Return how the parameters of an estimator say that a network is run.

    Parameters
    ----------
    device : str or torch.device
        As `resolve_device` takes it.
    precision : {"float32", "bfloat16", "float16", "auto"}, default="float32"
        "auto" is bfloat16 where the device computes in it natively, else float32.
    batch_size : int or "auto", default="auto"
        Samples that go through the network at once.

    Raises
    ------
    InvalidParameterError
        If one of them is not allowed.

    Examples
    --------
    >>> from sktransfer.engine.compute import resolve_compute
    >>> resolve_compute("cpu", "bfloat16")
    Compute(device=device(type='cpu'), dtype=torch.bfloat16, batch_size=None, compiled=False)
    """
    where = resolve_device(device)
    if not isinstance(precision, str) or precision not in (*PRECISIONS, "auto"):
        raise InvalidParameterError(f"precision={precision!r} must be one of {(*PRECISIONS, 'auto')}")
    if precision == "auto":
        precision = "bfloat16" if _has_bfloat16(where) else "float32"
    compiled = bool(get_config()["compile"])
    if isinstance(batch_size, str) and batch_size == "auto":
        return Compute(where, PRECISIONS[precision], compiled=compiled)
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
        raise InvalidParameterError(f"batch_size={batch_size!r} must be 'auto' or an int of at least 1")
    return Compute(where, PRECISIONS[precision], int(batch_size), compiled)


def _has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16 faster than in float32: emulated, it would be slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that a parameter names.

    Parameters
    ----------
    device : str or torch.device
        "auto" (a GPU where there is one, else the CPU), "cpu", "cuda", "cuda:1", "mps".

    Raises
    ------
    InvalidParameterError
        If it names no device, or one that is not there.

    Examples
    --------
    >>> from sktransfer.engine.compute import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    allowed = "'auto', 'cpu', 'cuda', 'cuda:<number>' or 'mps'"
    if isinstance(device, str) and device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps", 0) if torch.backends.mps.is_available() else torch.device("cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InvalidParameterError(f"device={device!r} is no device; give {allowed}") from error
    if found.type == "cpu":
        return torch.device("cpu")  # cpu:0 is the same place, but does not compare equal
    if found.type == "cuda":
        n = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = found.index if found.index is not None else (torch.cuda.current_device() if n else 0)
        if index >= n:
            raise InvalidParameterError(f"device={device!r} is not there: {n} CUDA devices are; use 'auto' or 'cpu'")
        return torch.device("cuda", index)
    if found.type == "mps" and torch.backends.mps.is_available():
        return torch.device("mps", 0)
    raise InvalidParameterError(f"device={device!r} is not there; give {allowed}")
