"""Random numbers that depend on where they are drawn alone: on a seed, an epoch, a row."""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np
import torch

__all__ = ["fork_rng", "derive_seed", "seed_torch"]


def fork_rng(device: torch.device) -> AbstractContextManager[None]:
    """Return a block after which the generators of the CPU and of a device are as they were before.

    Parameters
    ----------
    device : torch.device
        Where there is computed.
    """
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def derive_seed(*numbers: int) -> int:
    """Return a seed for torch that belongs to some numbers; those of any two others are independent.

    Parameters
    ----------
    *numbers : int
        Not negative.

    Examples
    --------
    >>> from sktransfer.training.rng import derive_seed
    >>> derive_seed(0, 1) == derive_seed(0, 1), derive_seed(0, 1) == derive_seed(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)  # torch takes 63 bits


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed the CPU's generator, and that of a GPU; `torch.manual_seed` would seed the other GPUs' as well.

    Parameters
    ----------
    seed : int
        For both.
    device : torch.device
        Where there is computed.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)
