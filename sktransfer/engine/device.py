"""Where networks run."""

from __future__ import annotations

import torch

from sktransfer.exceptions import InvalidParameterError

__all__ = ["resolve_device"]


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
    >>> from sktransfer.engine.device import resolve_device
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
