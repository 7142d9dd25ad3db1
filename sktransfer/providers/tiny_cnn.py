"""Network of `tiny/cnn`: seven stages, five of them residual blocks, for 32x32 colour images.

It is small enough to train on one core in one or two hours and to ship in a wheel, and deep enough for a search over
the freeze depth. Only one convolution works at full resolution, because such maps are expensive on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

CATEGORIES = 200
MEAN, STD = (0.48, 0.448, 0.398), (0.272, 0.265, 0.274)  # of the training images
WIDTHS = {"stem": 32, "block1": 64, "block2": 64, "block3": 128, "block4": 128, "block5": 192, "top": 512}
_HALVING = ("block1", "block3", "block5")


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., 2016, the "basic block").

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    stride : int, default=1
        Stride of the first convolution. 2 halves height and width.
    """

    norm_of: ClassVar[Mapping[str, str]] = {"conv1": "norm1", "conv2": "norm2"}  # to fuse for inference

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of shape (n, out_channels, height / stride, width / stride)."""
        inner = torch.relu(self.norm1(self.conv1(maps)))  # (n, out, h / stride, w / stride)
        return torch.relu(self.norm2(self.conv2(inner)) + self.shortcut(maps))


def build_stages() -> list[tuple[str, nn.Module]]:
    """Return the named stages in order, with weights drawn by torch's current generator."""
    names = list(WIDTHS)
    stages: list[tuple[str, nn.Module]] = [("stem", _convolution(3, WIDTHS["stem"], 3))]
    for before, name in pairwise(names[:-1]):
        stages.append((name, ResidualBlock(WIDTHS[before], WIDTHS[name], 2 if name in _HALVING else 1)))
    return [*stages, ("top", _convolution(WIDTHS[names[-2]], WIDTHS["top"], 1))]


def build_head() -> nn.Module:
    """Return the linear layer from the averaged last stage, (n, 512), to logits of the 200 pretraining classes."""
    return nn.Linear(WIDTHS["top"], CATEGORIES)


def _convolution(in_channels: int, out_channels: int, size: int) -> nn.Module:
    convolution = nn.Conv2d(in_channels, out_channels, size, 1, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())
