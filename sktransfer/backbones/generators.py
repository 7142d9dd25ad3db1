"""Use of torch's global generators by one thread at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["fork_rng", "private_draws"]

# Held by the thread that draws from the global generators. Reentrant, because a callback may fit another estimator.
_lock = threading.RLock()


def _renew_lock() -> None:
    """Replace the lock in a forked process, where the thread that held it does not exist."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)

# Operations that have a variant with a generator.
_OVERLOADS = {
    "aten.rand.default": torch.ops.aten.rand.generator,
    "aten.randn.default": torch.ops.aten.randn.generator,
    "aten.randint.default": torch.ops.aten.randint.generator,
    "aten.randint.low": torch.ops.aten.randint.low_generator,
    "aten.randperm.default": torch.ops.aten.randperm.generator,
}


@contextmanager
def fork_rng(device: torch.device | None = None) -> Iterator[None]:
    """Restore the generators of the CPU and of a device after the block, which no other thread enters meanwhile.

    Parameters
    ----------
    device : torch.device, default=None
        Device of the computation. None for the CPU.
    """
    options: dict[str, Any] = {"devices": []}
    if device is not None and device.type != "cpu":
        options = {"devices": [device], "device_type": device.type}
    with _lock, torch.random.fork_rng(**options):
        yield


@contextmanager
def private_draws(seed: int = 0) -> Iterator[None]:
    """Make modules whose weights are read afterwards, without a change of the CPU's generator and without waiting.

    While another thread trains, calls that draw get a generator of this block.

    Parameters
    ----------
    seed : int, default=0
        Seed of the draws.
    """
    lock = _lock  # the one that is released, also if the process is forked in between
    if lock.acquire(blocking=False):
        try:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the generators of GPUs
                yield
        finally:
            lock.release()
    else:
        with _PrivateDraws(seed):
            yield


class _PrivateDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Give a generator to each operation of this thread that draws on the CPU."""

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        device = next((one.device for one in args if isinstance(one, Tensor)), given.get("device") or "cpu")
        if torch.device(device).type == "cpu" and given.get("generator") is None:
            func = _OVERLOADS.get(str(func), func)
            if any(one.name == "generator" for one in func._schema.arguments):
                given["generator"] = self.generator
        return func(*args, **given)
