from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from sktransfer.providers.tiny_cnn import CATEGORIES, WIDTHS, ResidualBlock, build_head, build_stages


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_build_stages_have_their_widths_and_three_halve_the_map():
    values, sizes = torch.rand(2, 3, 32, 32), []
    for name, stage in build_stages():
        values = stage.eval()(values)
        assert values.shape[:2] == (2, WIDTHS[name])
        sizes.append((name, values.shape[2]))
    assert dict(sizes) == {"stem": 32, "block1": 16, "block2": 16, "block3": 8, "block4": 8, "block5": 4, "top": 4}
    assert build_head()(values.mean((2, 3))).shape == (2, CATEGORIES)


def test_widths_of_tiny_cnn_agree_with_its_spec():
    from sktransfer.backbones.registry import registry

    assert dict(registry().find("tiny/cnn").stages) == WIDTHS


@pytest.mark.parametrize(("width", "stride"), [(6, 1), (8, 1), (6, 2), (8, 2)])
def test_residualblock_equals_basicblock_of_torchvision(width, stride):
    ours = ResidualBlock(6, width, stride)
    for norm in (module for module in ours.modules() if isinstance(module, nn.BatchNorm2d)):
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            tensor.uniform_(0.5, 1.5)
    plain = isinstance(ours.shortcut, nn.Identity)
    shortcut = None if plain else nn.Sequential(nn.Conv2d(6, width, 1, stride, bias=False), nn.BatchNorm2d(width))
    theirs = BasicBlock(6, width, stride, shortcut)
    names = {"norm1": "bn1", "norm2": "bn2", "shortcut": "downsample"}
    state = {".".join(names.get(part, part) for part in name.split(".")): t for name, t in ours.state_dict().items()}
    theirs.load_state_dict(state)
    maps = torch.randn(2, 6, 8, 8)
    torch.testing.assert_close(ours.eval()(maps), theirs.eval()(maps))
    assert plain == (width == 6 and stride == 1)


def test_residualblock_does_not_change_its_input():
    maps = torch.randn(2, 6, 8, 8)
    before = maps.clone()
    ResidualBlock(6, 6).eval()(maps)
    assert torch.equal(maps, before)


def test_build_stages_weights_depend_on_the_seed():
    def drawn(seed):
        torch.manual_seed(seed)
        return build_stages()[1][1].conv1.weight

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
