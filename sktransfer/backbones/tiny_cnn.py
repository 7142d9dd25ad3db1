"""The network of `tiny/cnn`: seven residual stages for 32x32 colour images.

Small enough to train on two cores in an afternoon and to ship in a wheel, deep enough for freezing depth to be an axis
worth searching. Each stage after the stem is a whole residual block, so a cut never separates a map from its shortcut.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CATEGORIES = 200
MEAN, STD = (0.48, 0.448, 0.398), (0.272, 0.265, 0.274)  # of the images it was trained on
WIDTHS = {"stem": 32, "block1": 32, "block2": 64, "block3": 64, "block4": 128, "block5": 128, "block6": 192}
_STRIDES = {"block2": 2, "block4": 2, "block6": 2}


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., 2016, the "basic block").

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the map that comes in and of the map that goes out.
    stride : int
        2 halves height and width.
    """

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
    """Return the seven named stages, weights drawn by torch's current generator."""
    stem = nn.Sequential(nn.Conv2d(3, WIDTHS["stem"], 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTHS["stem"]), nn.ReLU())
    stages: list[tuple[str, nn.Module]] = [("stem", stem)]
    for before, name in zip(list(WIDTHS), list(WIDTHS)[1:]):
        stages.append((name, ResidualBlock(WIDTHS[before], WIDTHS[name], _STRIDES.get(name, 1))))
    return stages


def build_head() -> nn.Module:
    """Return the linear layer from the averaged last stage, (n, 192), to logits of the 200 pretraining classes."""
    return nn.Linear(WIDTHS["block6"], CATEGORIES)
