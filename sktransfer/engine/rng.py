"""Seeds derived from (seed, epoch, row)."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["derive_seed", "seed_torch"]


def derive_seed(*numbers: int) -> int:
    """Return a seed for torch derived from numbers. Seeds of different numbers are independent.

    Parameters
    ----------
    *numbers : int
        Non-negative numbers.

    Examples
    --------
    >>> from sktransfer.engine.rng import derive_seed
    >>> derive_seed(0, 1) == derive_seed(0, 1), derive_seed(0, 1) == derive_seed(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)  # torch takes 63 bits


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of a device. `torch.manual_seed` would seed those of other GPUs as well.

    Parameters
    ----------
    seed : int
        Seed of both generators.
    device : torch.device
        Device of the computation.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
