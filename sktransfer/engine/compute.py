"""Device, precision and batches of a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sktransfer._cluster import gpu_of_worker
from sktransfer._validation import check_option, is_int
from sktransfer.config import get_config
from sktransfer.devices.memory import MeasuredPeak
from sktransfer.exceptions import InvalidParameterError, NotFiniteError
from sktransfer.machine.precision import native_precision, warn_if_emulated
from sktransfer.machine.processor import this_processor
from sktransfer.machine.tuned import Choice, find_choices
from sktransfer.runtimes.resolve import TORCH, find_runtime

__all__ = [
    "PRECISIONS",
    "Compute",
    "autocast",
    "check_finite_outputs",
    "resolve_compute",
    "resolve_device",
    "uses_tf32",
    "without_tf32",
]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class _Budget:
    """Size of an automatic batch: enough to fill the caches of one core, or a GPU."""

    cpu: int  # for a core with 16 MiB of caches
    gpu: int
    in_bytes: bool = False  # whether the cost of a sample is multiplied by the bytes per number
    max_cpu: int = 2**31  # samples per batch
    max_gpu: int = 2**31
    growth: int = 8  # how many times as large a batch of a GPU becomes if its memory is free. More gains nothing


_BUDGETS = {
    "tokens": _Budget(1024, 32_768),
    "pixels": _Budget(16 * 224 * 224, 256 * 224 * 224, in_bytes=True, max_cpu=64, max_gpu=1024, growth=4),
}


@dataclass(frozen=True)
class Compute:
    """Device, precision and batch size of a forward pass.

    Parameters
    ----------
    device : torch.device
        Device of weights and activations.
    dtype : torch.dtype, default=torch.float32
        Type of weights and activations.
    batch_size : int, default=None
        Samples per batch. None for as many as fill a core or a GPU, by the tokens of texts or the pixels of images.
    compiled : bool, default=False
        Whether to compile the stages with `torch.compile`, which takes time once.
    runtime : str, default="torch"
        Library that computes frozen stages.
    is_int8 : bool, default=False
        Whether the runtime computes with weights in int8. Values between stages are in float32.
    growth : int, default=1
        How many times as large automatic batches are.
    tuned : Choice, default=None
        What `sktransfer tune` found for the network on this processor; None for budgets by the sizes of its caches.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    batch_size: int | None = None
    compiled: bool = False
    runtime: str = TORCH
    is_int8: bool = False
    growth: int = field(default=1, repr=False)
    tuned: Choice | None = field(default=None, repr=False)

    @property
    def precision(self) -> str:
        """Name of the precision."""
        return "int8" if self.is_int8 else str(self.dtype).removeprefix("torch.")

    @property
    def on_cpu(self) -> bool:
        """Whether the pass runs on the CPU, one batch per core."""
        return self.device.type == "cpu"

    @property
    def fills_memory(self) -> bool:
        """Whether the size of batches follows from the memory that the first one took."""
        return self.device.type == "cuda" and self.batch_size is None

    def grown(self, peak: MeasuredPeak, unit: str) -> Compute:
        """Return the same with larger automatic batches, which take at most half of the free memory.

        Parameters
        ----------
        peak : MeasuredPeak
            What the first batch took.
        unit : {"tokens", "pixels"}
            Unit of the cost of samples.
        """
        return replace(self, growth=peak.growth(_BUDGETS[unit].growth))

    @property
    def workers(self) -> int | None:
        """Largest number of batches that run at once; None for one per thread of torch."""
        return None if self.tuned is None else self.tuned.workers

    def tuned_for(self, backbone: Any) -> Compute:
        """Return the same with what `sktransfer tune` found for a backbone. Only speed depends on it.

        Parameters
        ----------
        backbone : Backbone
            Backbone that is not joined.
        """
        if not self.on_cpu or self.runtime != TORCH or self.compiled or self.batch_size is not None or self.tuned:
            return self
        choices = find_choices(backbone)
        return replace(self, tuned=choices.get(str(self.dtype).removeprefix("torch."))) if choices else self

    def samples_per_batch(self, cost: int, unit: str) -> int:
        """Return the number of samples per batch.

        Parameters
        ----------
        cost : int
            Cost of the most expensive sample.
        unit : {"tokens", "pixels"}
            Unit of the cost.
        """
        if self.batch_size is not None:
            return self.batch_size
        limits = _BUDGETS[unit]
        n = self.budget(unit) // max(1, cost * (self.dtype.itemsize if limits.in_bytes else 1))
        return max(1, min(n, limits.max_cpu if self.on_cpu else limits.max_gpu)) * self.growth

    def budget(self, unit: str) -> int:
        """Return the cost of an automatic batch, in tokens or in bytes of pixels.

        Parameters
        ----------
        unit : {"tokens", "pixels"}
            Unit of the cost.
        """
        if self.tuned is not None:
            return self.tuned.budget
        limits = _BUDGETS[unit]
        return int(limits.cpu * this_processor().scale) if self.on_cpu else limits.gpu

    def batches(self, costs: Sequence[int], unit: str = "tokens") -> list[list[int]]:
        """Return batches of samples of similar cost, as indices into `costs`.

        The most expensive samples come first. Texts of similar length share a batch, so that little of it is padding.

        Parameters
        ----------
        costs : sequence of int
            Cost per sample.
        unit : {"tokens", "pixels"}, default="tokens"
            Unit of the costs.
        """
        order = sorted(range(len(costs)), key=lambda index: -costs[index])
        batches: list[list[int]] = []
        most = 0
        for index in order:
            if not batches or len(batches[-1]) >= most:
                batches.append([])
                # The first sample of a batch is its most expensive one, and padding makes the others cost as much.
                most = self.samples_per_batch(costs[index], unit)
            batches[-1].append(index)
        return batches


def resolve_compute(
    device: str | torch.device, precision: str = "float32", batch_size: int | str = "auto", backbone: Any = None
) -> Compute:
    """Return the `Compute` of the parameters of an estimator.

    Parameters
    ----------
    device : str or torch.device
        As `resolve_device` takes it.
    precision : {"float32", "bfloat16", "float16", "auto", "int8"}, default="float32"
        "auto" is bfloat16 if the device supports it natively, else float32. Runtimes compute "int8", and "auto" is
        float32 in them. Another precision warns once if the processor emulates it.
    batch_size : int or "auto", default="auto"
        Samples per batch.
    backbone : Backbone, default=None
        Backbone for which "auto" is float32 where `sktransfer tune` found bfloat16 slower.

    Raises
    ------
    InvalidParameterError
        If a parameter is not valid.

    Examples
    --------
    >>> from sktransfer.engine.compute import resolve_compute
    >>> resolve_compute("cpu", "bfloat16")
    Compute(device=device(type='cpu'), dtype=torch.bfloat16, batch_size=None, compiled=False, runtime='torch', \
is_int8=False)
    """
    resolved = resolve_device(device)
    check_option("precision", precision, (*PRECISIONS, "auto", "int8"))
    setting = get_config()["runtime"]
    if precision == "auto":
        in_torch = setting == TORCH or (setting == "auto" and resolved.type != "cpu")
        precision = _native_precision(resolved, backbone) if in_torch else "float32"
    runtime = find_runtime(setting, precision, on_cpu=resolved.type == "cpu")
    chosen: dict[str, Any] = {"runtime": TORCH if runtime is None else runtime.name, "is_int8": precision == "int8"}
    dtype = PRECISIONS["float32" if precision == "int8" else precision]
    if resolved.type == "cpu" and runtime is None:
        warn_if_emulated(dtype)
    compiled = bool(get_config()["compile"])
    if isinstance(batch_size, str) and batch_size == "auto":
        return Compute(resolved, dtype, compiled=compiled, **chosen)
    if not is_int(batch_size) or int(batch_size) < 1:
        raise InvalidParameterError(f"batch_size={batch_size!r} must be 'auto' or an int of at least 1")
    return Compute(resolved, dtype, int(batch_size), compiled, **chosen)


def check_finite_outputs(outputs: np.ndarray, compute: Compute) -> np.ndarray:
    """Return outputs of a network after checking that no number is infinite or NaN.

    Parameters
    ----------
    outputs : ndarray of shape (n_samples, n_outputs)
        Outputs to check.
    compute : Compute
        Precision that they were computed in, for the error.

    Raises
    ------
    NotFiniteError
        If a number is not finite. The message names the first such row.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.engine.compute import check_finite_outputs, resolve_compute
    >>> check_finite_outputs(np.array([[0.5]]), resolve_compute("cpu"))
    array([[0.5]])
    """
    is_finite = np.isfinite(outputs)
    if not is_finite.all():
        rows = np.flatnonzero(~is_finite.all(axis=1))
        precision = str(compute.dtype).removeprefix("torch.")
        lower = "" if precision == "float32" else f", or {precision} is too narrow for them: set precision='float32'"
        raise NotFiniteError(
            f"the outputs of {len(rows)} of {len(outputs)} samples are infinite or NaN, the first in row {rows[0]}: "
            f"the weights of the network are not finite or too large, as after a training that diverged{lower}"
        )
    return outputs


@contextmanager
def autocast(compute: Compute) -> Iterator[None]:
    """Compute in the precision of a training in this context. Weights stay in float32.

    Parameters
    ----------
    compute : Compute
        Device and precision.
    """
    if compute.dtype == torch.float32:
        yield
        return
    with torch.autocast(compute.device.type, compute.dtype):
        if not compute.on_cpu:
            yield
            return
        # On a CPU, the gradient of fused attention in a lower precision takes several times as long as that of its
        # parts.
        with sdpa_kernel(SDPBackend.MATH):
            yield


def _native_precision(device: torch.device, backbone: Any) -> str:
    """Return the fastest precision that a device does not emulate."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type != "cpu":
        return "float32"
    measured = find_choices(backbone) if backbone is not None and None in backbone.towers else {}
    return "float32" if next(iter(measured), "") == "float32" else native_precision(this_processor())


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that a parameter names.

    Parameters
    ----------
    device : str or torch.device
        "auto" (a GPU if there is one, else the CPU), "cpu", "cuda", "cuda:1" or "mps". In a worker of joblib, Dask, Ray
        or Spark, "auto" is the GPU that belongs to the worker.

    Raises
    ------
    InvalidParameterError
        If the name is not a device, or the device is not available.

    Examples
    --------
    >>> from sktransfer.engine.compute import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    allowed = "'auto', 'cpu', 'cuda', 'cuda:<number>' or 'mps'"
    if isinstance(device, str) and device == "auto":
        if torch.cuda.is_available():  # a GPU that was selected by torch.cuda.set_device, or that of this worker
            return torch.device("cuda", torch.cuda.current_device() or gpu_of_worker(torch.cuda.device_count()))
        return torch.device("mps", 0) if torch.backends.mps.is_available() else torch.device("cpu")
    try:
        named = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InvalidParameterError(f"device={device!r} is not a device; give {allowed}") from error
    if named.type == "cpu":
        return torch.device("cpu")  # cpu:0 is the same device, but does not compare equal
    if named.type == "cuda":
        n = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = named.index if named.index is not None else (torch.cuda.current_device() if n else 0)
        if index >= n:
            raise InvalidParameterError(
                f"device={device!r} is not available: this machine has {n} CUDA devices; use 'auto' or 'cpu'"
            )
        return torch.device("cuda", index)
    if named.type == "mps" and torch.backends.mps.is_available():
        return torch.device("mps", 0)
    raise InvalidParameterError(f"device={device!r} is not available; give {allowed}")


def uses_tf32() -> bool:
    """Return whether a GPU rounds the factors of float32 products to a mantissa of ten bits (TF32)."""
    return any(getattr(module, name) in (True, "tf32") for module, name, _ in _tf32_switches())


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute float32 products with all bits in this context."""
    before = [(module, name, getattr(module, name)) for module, name, _ in _tf32_switches()]
    for module, name, off in _tf32_switches():
        setattr(module, name, off)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _tf32_switches() -> list[tuple[Any, str, Any]]:
    """Return the switches of TF32 as (module, attribute, value that turns it off)."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    older: list[tuple[Any, str, Any]] = [(matmul, "allow_tf32", False), (cudnn, "allow_tf32", False)]
    try:
        for module, name, _ in older:
            getattr(module, name)
    except RuntimeError:  # torch refuses to read these once `fp32_precision` was set
        return [(module, "fp32_precision", "ieee") for module in (matmul, cudnn.conv, cudnn.rnn)]
    return older
