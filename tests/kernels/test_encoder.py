"""Fused encoder layers give the outputs of the layers that they replace, with the same bits in any batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sktransfer import load_backbone
from sktransfer.backbones.stages import run_stages
from sktransfer.kernels.attention import pad_attention
from sktransfer.kernels.encoder import EncoderLayer, fuse_encoder_layers
from sktransfer.kernels.linear import PackedLinear, pack
from sktransfer.providers.huggingface_text import TEXT_STAGES

SIZES = {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": 99}


def stages(kind, **settings):
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES, **settings)
    model = AutoModel.from_config(config, attn_implementation="sdpa").eval().requires_grad_(False)
    return nn.ModuleList(TEXT_STAGES[kind](model))


def prepared(plain):
    """Return a packed copy, and one that is fused as well."""
    both = [copy.deepcopy(plain) for _ in range(2)]
    for one in both:
        pad_attention(one)
        pack(one)
    fuse_encoder_layers(both[1])
    return both


def n_fused(some):
    return sum(type(module) is EncoderLayer for module in some.modules())


def outputs(some, values, mask):
    with torch.inference_mode():
        *_, last = run_stages(some, values, mask)
    return last


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", {}),
        ("bert", {"hidden_act": "relu"}),
        ("bert", {"is_decoder": True}),
        ("electra", {"embedding_size": 24}),
        ("roberta", {}),
        ("xlm-roberta", {}),
    ],
    ids=["bert", "bert-relu", "bert-decoder", "electra", "roberta", "xlm-roberta"],
)
def test_fuse_encoder_layers_gives_the_outputs_of_packed_layers(kind, settings, dtype):
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("linear layers are not packed in bfloat16 on this processor")
    packed, fused = prepared(stages(kind, **settings).to(dtype))
    assert (n_fused(packed), n_fused(fused)) == (0, 2)
    for n_tokens in (1, 7, 16, 21, 48):
        values = torch.randint(5, 99, (3, n_tokens), generator=torch.Generator().manual_seed(n_tokens))
        mask = torch.arange(n_tokens) <= torch.tensor([[0], [n_tokens // 2], [n_tokens]])  # (3, n_tokens)
        found, expected = outputs(fused, values, mask), outputs(packed, values, mask)
        tolerance = (1e-5 if dtype == torch.float32 else 2e-2) * float(expected.abs().max())
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def test_fuse_encoder_layers_gives_a_text_the_same_bits_in_any_batch():
    _, fused = prepared(load_backbone("tiny/bert").stages)
    values = torch.randint(1000, 2000, (5, 70), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(70) < torch.tensor([[1], [15], [33], [64], [70]])  # (5, 70)
    together = outputs(fused, values, mask)
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = outputs(fused, values[row : row + 1, :length], mask[row : row + 1, :length])
        assert torch.equal(alone[0], together[row, :length])


def test_fuse_encoder_layers_leaves_other_layers_unchanged():
    eager = stages("bert")
    for module in eager.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = "eager"
    hooked = stages("bert")
    for stage in hooked[1:]:
        stage.layer.output.register_forward_hook(lambda module, inputs, output: output)
    adapted = stages("bert")
    for stage in adapted[1:]:
        stage.layer.output.dense = nn.Sequential(stage.layer.output.dense)
    for some in (eager, hooked, adapted, stages("distilbert", dim=24, n_heads=3, hidden_dim=40)):
        packed, fused = prepared(some)
        assert n_fused(fused) == 0
        values, mask = torch.arange(5, 12)[None], torch.ones(1, 7, dtype=torch.bool)
        assert torch.equal(outputs(fused, values, mask), outputs(packed, values, mask))


def test_fuse_encoder_layers_leaves_layers_that_compute_otherwise():
    some = stages("bert")
    pad_attention(some)
    pack(some)
    for stage in some[1:]:
        stage.layer.feed_forward_chunk = lambda values: 2 * values
    fuse_encoder_layers(some)
    assert n_fused(some) == 0


def test_packed_linear_joined_has_the_outputs_side_by_side_and_draws_no_weights():
    torch.manual_seed(0)
    linears = [nn.Linear(8, n) for n in (3, 5)]
    before = torch.get_rng_state()
    joined = PackedLinear.joined(linears)
    assert torch.equal(torch.get_rng_state(), before)
    values = torch.randn(4, 8)
    with torch.inference_mode():
        expected = torch.cat([linear(values) for linear in linears], 1)  # (4, 8)
        torch.testing.assert_close(joined(values), expected, atol=1e-6, rtol=1e-5)
