"""Copies between the CPU and a GPU that do not wait for each other."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["begin_download", "finish_downloads", "upload"]


def upload(values: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device. On a GPU the copy overlaps with what the GPU computes.

    Parameters
    ----------
    values : Tensor
        Tensor on the CPU, which must not be changed afterwards, or on the device.
    device : torch.device
        Device to copy to. A tensor on it is returned unchanged.
    """
    if device.type != "cuda" or values.device == device:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def begin_download(values: Tensor) -> Tensor:
    """Begin to copy a tensor to the CPU. The result of a GPU is valid after `finish_downloads`.

    The copy comes before everything that the GPU is asked to compute later, such as a change of `values` in place.

    Parameters
    ----------
    values : Tensor
        Tensor on any device. The CPU returns it unchanged.
    """
    if values.device.type != "cuda":
        return values.cpu()
    host = torch.empty_like(values, device="cpu", pin_memory=True)
    return host.copy_(values, non_blocking=True)


def finish_downloads(device: torch.device) -> None:
    """Wait until all copies from a device are complete.

    Parameters
    ----------
    device : torch.device
        Device that was copied from.
    """
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
