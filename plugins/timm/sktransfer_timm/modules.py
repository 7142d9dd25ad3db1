"""Stages of a timm network: its modules, and its own code if it computes between them."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.exceptions import InvalidParameterError

__all__ = ["FixedSize", "Head", "Pass", "Stage", "Stem", "Step", "reduced"]


class Pass(nn.Module):
    """Placeholder for a module that a part of a network does not run. It returns its first argument."""

    def forward(self, values: Any, *args: Any, **kwargs: Any) -> Any:
        """Return `values`."""
        return values


class FixedSize(nn.Module):
    """Pass images of one size on, because later modules have tables for that size.

    Parameters
    ----------
    size : (int, int)
        Height and width in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def extra_repr(self) -> str:
        """Return the size, which is part of the fingerprint of a backbone."""
        return f"size={self.size}"

    def forward(self, images: Tensor) -> Tensor:
        """Return the images unchanged.

        Raises
        ------
        InvalidParameterError
            If they have another size.
        """
        if tuple(images.shape[2:]) != self.size:
            raise InvalidParameterError(
                f"this network takes images of {self.size[0]}x{self.size[1]} pixels (height x width), not "
                f"{images.shape[2]}x{images.shape[3]}: leave preprocess='auto', or set preprocess={{'crop': "
                f"{self.size}}}"
            )
        return images


class Step(nn.Module):
    """Module with further arguments besides the values, which depend only on the size of images.

    Parameters
    ----------
    module : nn.Module
        Module to call.
    args : sequence
        Positional arguments after the values: tensors (such as rotary tables), numbers, None.
    kwargs : mapping
        Keyword arguments.
    """

    def __init__(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.module = module
        self.args = [self._kept(f"arg{index}", value) for index, value in enumerate(args)]
        self.kwargs = {name: self._kept(f"kwarg_{name}", value) for name, value in kwargs.items()}

    def _kept(self, name: str, value: Any) -> tuple[str, Any]:
        if not isinstance(value, Tensor):
            return "", value
        self.register_buffer(name, value.detach().clone(), persistent=False)  # moves with the module
        return name, None

    def forward(self, values: Tensor) -> Tensor:
        """Return the output of the module."""
        args = [getattr(self, name) if name else value for name, value in self.args]
        kwargs = {key: getattr(self, name) if name else value for key, (name, value) in self.kwargs.items()}
        out: Tensor = self.module(values, *args, **kwargs)
        return out


class Stem(nn.Module):
    """First stage of a network that computes between its first modules: its own `forward_features` up to the blocks.

    Parameters
    ----------
    network : nn.Module
        Network with `Pass` for all modules above the stem.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the input of the first block."""
        out: Tensor = self.network.forward_features(images)
        return out


class Head(nn.Module):
    """Pooling and classifier of a network.

    Parameters
    ----------
    network : nn.Module
        Network with `Pass` for all modules that `forward_head` does not call.
    takes_last : bool
        Whether its input is maps (n, height, width, channels).
    """

    def __init__(self, network: nn.Module, takes_last: bool) -> None:
        super().__init__()
        self.network: Any = network
        self.takes_last = takes_last

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (n, n_categories)."""
        if self.takes_last:
            values = values.permute(0, 2, 3, 1)  # (n, height, width, channels)
        logits: Tensor = self.network.forward_head(values)
        return logits


class Stage(nn.Module):
    """Modules run one after the other. Maps between stages are always (n, channels, height, width).

    Parameters
    ----------
    modules : sequence of nn.Module
        Modules, each called with one tensor.
    takes_last, gives_last : bool, default=False
        Whether the input of the first module, and the output of the last one, is (n, height, width, channels).
    """

    def __init__(self, modules: Sequence[nn.Module], takes_last: bool = False, gives_last: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(*modules)
        self.takes_last, self.gives_last = takes_last, gives_last

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return maps (n, channels, height, width), a sequence (n, tokens, channels) or vectors (n, channels)."""
        if self.takes_last:
            values = values.permute(0, 2, 3, 1)  # (n, height, width, channels)
        values = self.body(values)
        if self.gives_last:
            values = values.permute(0, 3, 1, 2)  # (n, channels, height, width)
        if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
            return values
        return values.contiguous()


def reduced(network: nn.Module, dropped: Collection[str], *, parameters: bool) -> nn.Module:
    """Return a network without some of its modules, which shares the tensors of all others.

    Parameters
    ----------
    network : nn.Module
        Network, which is not changed.
    dropped : collection of str
        Paths of the modules to replace by `Pass`.
    parameters : bool
        Whether to keep the network's own parameters, as opposed to those of its modules.
    """
    other = copy.copy(network)
    other._modules = dict(network._modules)
    if not parameters:
        other._parameters = dict.fromkeys(network._parameters)
    heads = {path.partition(".")[0] for path in dropped}
    for name in heads:
        child = other._modules[name]
        if name in dropped or child is None:
            other._modules[name] = None if child is None else Pass()
        else:
            inner = {path.partition(".")[2] for path in dropped if path.partition(".")[0] == name}
            other._modules[name] = reduced(child, inner, parameters=True)
    return other
