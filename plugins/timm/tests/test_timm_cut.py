"""Cutting is refused where a stage would see more than the values of the one before it, and so is a wrong cut."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from sktransfer.exceptions import InvalidParameterError, PluginError
from sktransfer_timm.cut import cut
from sktransfer_timm.modules import Stage
from sktransfer_timm.verify import verify


class Toy(nn.Module):
    """Two blocks as timm has them, and a place for what must not be there."""

    def __init__(self, trick=""):
        super().__init__()
        self.trick = trick
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.stages = nn.ModuleList([nn.Conv2d(8, 12, 2, 2), nn.Conv2d(12, 16, 2, 2)])
        self.bias = nn.Parameter(torch.zeros(1, 12, 1, 1))
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 5)
        self.num_classes = 5
        self.feature_info = [{"module": "stages.0", "num_chs": 12}, {"module": "stages.1", "num_chs": 16}]
        self.pretrained_cfg = {"input_size": (3, 32, 32), "architecture": "toy"}

    def forward_features(self, x):
        x = self.stem(x)
        if self.trick == "stem":
            x = x * 2
        x = self.stages[0](x)
        if self.trick == "between":
            x = x + self.bias
        x = self.norm(self.stages[1](x))
        return x + 0 if self.trick == "behind" else x

    def forward_head(self, x):
        return self.head(x.mean((2, 3)))

    def forward(self, x):
        x = self.forward_features(x)
        return self.forward_head(x + 1 if self.trick == "forward" else x)


def test_cut_divides_a_chain_at_feature_info():
    toy = Toy().eval()
    parts = cut(toy)
    verify(toy, parts)
    assert [name for name, _ in parts.stages] == ["stem", "stages.0", "stages.1"]
    assert (parts.widths, parts.pooling, parts.prefix_tokens) == ([8, 12, 16], "average", 0)
    assert toy.norm in list(parts.stages[-1][1].body)  # what stands behind the last block belongs to it


def test_cut_keeps_code_of_the_network_in_the_stem():
    toy = Toy("stem").eval()
    parts = cut(toy)
    verify(toy, parts)
    held = [parameter for _, stage in parts.stages for parameter in stage.parameters()]
    held += list(parts.head.parameters())
    assert sum(map(torch.numel, held)) == sum(map(torch.numel, toy.parameters()))  # each once, in the part that runs it


@pytest.mark.parametrize(
    ("trick", "told"),
    [("between", "between 'stages.0' and 'stages.1'"), ("behind", "after 'norm'")],
)
def test_cut_refuses_computation_outside_the_blocks(trick, told):
    with pytest.raises(PluginError, match=f"toy .Toy. cannot be cut into stages: .*{told}.*Supported are"):
        cut(Toy(trick).eval())


def test_verify_refuses_a_forward_that_does_more_than_its_parts():
    toy = Toy("forward").eval()
    with pytest.raises(PluginError, match="'head' gets other values"):
        verify(toy, cut(toy))


def test_cut_refuses_a_network_without_feature_info():
    toy = Toy().eval()
    del toy.feature_info
    with pytest.raises(PluginError, match="it has no feature_info"):
        cut(toy)


def test_cut_refuses_a_wrong_feature_info():
    toy = Toy().eval()
    toy.feature_info[0]["num_chs"] = 13
    with pytest.raises(PluginError, match="by feature_info 13 channels"):
        cut(toy)


@pytest.mark.parametrize("wrong", ["swapped", "left out", "doubled"])
def test_verify_detects_a_wrong_cut_with_little_effect(wrong):
    network = timm.create_model("test_vit").eval()
    for block in network.blocks:  # as in networks whose residual branches begin at almost nothing
        block.attn.proj.weight.data *= 1e-9
        block.mlp.fc2.weight.data *= 1e-9
        block.attn.proj.bias.data.zero_()
        block.mlp.fc2.bias.data.zero_()
    parts = cut(network)
    verify(network, parts)
    stem, first, second, *rest = parts.stages
    parts.stages = {
        "swapped": [stem, second, first, *rest],
        "left out": [stem, second, *rest],
        "doubled": [stem, first, first, second, *rest],
    }[wrong]
    with pytest.raises(PluginError, match="of its forward is of"):
        verify(network, parts)


class Turned(Stage):
    """A stage around others that turns the order of the patches behind them, or before them."""

    def __init__(self, stage, before=False):
        super().__init__([stage])
        self.before = before

    def forward(self, values, mask=None):
        values = turned(values) if self.before else values
        values = self.body(values)
        return values if self.before else turned(values)


def turned(tokens):
    return torch.cat([tokens[:, :1], tokens[:, 1:].flip(1)], 1)  # (n, 1 + patches, channels)


def test_verify_refuses_tokens_out_of_order():
    network = timm.create_model("test_vit").eval()
    parts = cut(network)
    (stem, first), (block, second), *rest = parts.stages
    parts.stages = [(stem, Turned(first)), (block, Turned(second, before=True)), *rest]
    with pytest.raises(PluginError, match="order of rows and columns"):
        verify(network, parts)


def test_cut_network_names_the_image_size_it_takes():
    parts = cut(timm.create_model("test_vit").eval())
    with pytest.raises(InvalidParameterError, match=r"160x160 pixels .height x width., not 96x64"):
        parts.stages[0][1](torch.zeros(1, 3, 96, 64))


def test_cut_keeps_values_that_depend_on_the_size_alone_in_the_block():
    network = timm.create_model("eva02_tiny_patch14_224").eval()
    parts = cut(network)
    block = parts.stages[1][1]
    assert [name for name, _ in block.named_buffers() if "kwarg" in name] == ["body.0.kwarg_rope"]
    assert "body.0.kwarg_rope" not in block.state_dict()  # no weight: it is made anew


def test_cut_refuses_tables_computed_from_parameters():
    with torch.device("meta"):
        network = timm.create_model("beit_base_patch16_224", use_shared_rel_pos_bias=True).eval()
    with pytest.raises(PluginError, match="values computed from parameters"), torch.no_grad():
        cut(network)
