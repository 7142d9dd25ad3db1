"""The kit on the smallest networks of three kinds: a convolutional one, a transformer, and maps with channels last."""

from __future__ import annotations

import pytest
import timm
import torch

from sktransfer import load_backbone
from sktransfer.testing import parametrize_with_backbone_checks

NAMES = ["timm/test_resnet.r160_in1k", "timm/test_vit.r160_in1k", "timm/test_mambaout"]


@parametrize_with_backbone_checks(NAMES)
def test_backbone_checks(backbone_name, check):
    check()


@torch.no_grad()
@pytest.mark.parametrize(
    "name",
    ["test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_mambaout", "swin_tiny_patch4_window7_224"],
)
def test_load_backbone_stages_and_head_equal_timm(name):
    backbone = load_backbone(f"timm/{name}", weights="random", seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        network = timm.create_model(backbone.name.removeprefix("timm/")).eval()
    images = torch.randn(3, *network.pretrained_cfg["input_size"], generator=torch.Generator().manual_seed(5))
    *_, last = backbone.run(images)
    expected = network(images)
    assert torch.allclose(backbone.head(last), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert float((expected[0] - expected[1]).abs().max()) > 1e-3 * float(expected.abs().max())
