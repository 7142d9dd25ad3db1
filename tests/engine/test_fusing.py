"""BatchNorm folded into convolutions: the same outputs, fewer passes."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from sktransfer import load_backbone
from sktransfer.engine.inference import fuse


def norms(stages):
    return sum(isinstance(module, nn.BatchNorm2d) for module in stages.modules())


def redrawn(stages):
    """Statistics that matter: with those of a new BatchNorm, leaving one out would hardly show."""
    torch.manual_seed(0)
    for module in stages.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return stages.eval()


def run(stages, size=64):
    values = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for stage in stages:
            values = stage(values, None)
    return values


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("tiny/cnn", 0),  # by `norm_of`, without tracing
        ("torchvision/mobilenet_v2", 0),
        ("torchvision/resnet18", 0),
        ("torchvision/densenet121", None),
    ],
)
def test_fuse_keeps_outputs_up_to_rounding(name, left):
    import copy

    stages = redrawn(copy.deepcopy(load_backbone(name, weights="random").stages))
    before, expected = norms(stages), run(stages)
    fuse(stages)
    assert norms(stages) < before
    assert left is None or norms(stages) == left
    found = run(stages)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_fuse_skips_layers_whose_values_are_used_elsewhere():
    conv, norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    class Both(nn.Sequential):
        def forward(self, values):  # not what a Sequential does: the map goes around the norm as well
            inner = self[0](values)
            return self[1](inner) + inner

    class Named(nn.Module):
        norm_of: ClassVar = {"conv": "norm"}

        def __init__(self, conv, norm):
            super().__init__()
            self.conv, self.norm = conv, norm

        def forward(self, values):
            return self.norm(self.conv(values))

    for stages in (
        nn.ModuleList([nn.Sequential(conv, norm), nn.Sequential(conv, nn.ReLU())]),  # one convolution, two places
        nn.ModuleList([Both(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))]),
        nn.ModuleList([nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))]),
        nn.ModuleList([Named(conv, norm), nn.Sequential(conv)]),  # by `norm_of`, and one convolution in two places
    ):
        stages.eval()
        before, values = norms(stages), torch.randn(2, 3, 8, 8)
        expected = [stage(values) for stage in stages]
        fuse(stages)
        assert norms(stages) == before
        assert all(torch.equal(stage(values), one) for stage, one in zip(stages, expected))


def test_fuse_leaves_networks_that_cannot_be_traced_unchanged():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 2000, 33), nn.BatchNorm2d(2000)  # 6.5 M weights: worth following

        def forward(self, values, mask=None):
            out = self.norm(self.conv(values))
            return out if float(out.sum()) > 0 else -out

    stages = redrawn(nn.ModuleList([Branching()]))
    values = torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        expected = stages[0](values)
        fuse(stages)
        assert torch.equal(stages[0](values), expected)
    assert norms(stages) == 1
