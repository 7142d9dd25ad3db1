"""Packed linear layers give what plain ones give."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sktransfer.kernels.linear import PackedLinear, pack, with_spare_rows


def packed(stages):
    return [type(module) is PackedLinear for module in stages.modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 7, 12), (3, 12), (1, 1, 12), (12,)])
def test_pack_keeps_outputs_up_to_rounding(dtype, shape):
    torch.manual_seed(0)
    stages = nn.ModuleList([nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 4, bias=False))]).to(dtype).eval()
    plain, values = copy.deepcopy(stages), torch.randn(shape).to(dtype)
    pack(stages)
    # oneDNN packs bfloat16 only if the processor supports it (AVX-512, not AVX2 alone). Outputs agree either way.
    packs = dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert packed(stages) == [packs, packs]
    with torch.inference_mode():
        found, expected = stages[0](values), plain[0](values)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    tolerance = (1e-5 if dtype == torch.float32 else 2e-2) * float(expected.abs().max())
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    assert float(expected.abs().max()) > 0.1


def test_pack_keeps_weight_and_state_dict():
    linear = nn.Linear(4, 3)
    stages = nn.ModuleList([linear]).eval()
    pack(stages)
    assert stages[0].weight is linear.weight
    assert (stages[0].in_features, stages[0].out_features) == (4, 3)
    assert list(stages.state_dict()) == ["0.weight", "0.bias"]


def test_pack_packs_a_shared_layer_once():
    linear = nn.Linear(4, 4)
    stages = nn.ModuleList([nn.Sequential(linear, linear)]).eval()
    pack(stages)
    assert stages[0][0] is stages[0][1]
    assert packed(stages) == [True]


def test_pack_skips_other_dtypes_and_subclasses_of_linear():
    class Own(nn.Linear):
        def forward(self, values):
            return super().forward(values) + 1

    stages = nn.ModuleList([nn.Linear(4, 4).half(), Own(4, 4), nn.Linear(4, 4).double()]).eval()
    pack(stages)
    assert packed(stages) == [False, False, False]


def test_pack_does_nothing_without_mkldnn(monkeypatch):
    stages = nn.ModuleList([nn.Linear(4, 4)]).eval()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    pack(stages)
    assert packed(stages) == [False]


@pytest.mark.parametrize(("activation", "folds"), [("gelu", True), ("gelu_new", False), ("relu", False)])
def test_pack_fuses_gelu_into_the_linear_layer_before_it(activation, folds):
    from transformers.models.bert.modeling_bert import BertConfig, BertIntermediate

    torch.manual_seed(0)
    config = BertConfig(hidden_size=8, intermediate_size=12, hidden_act=activation)
    stages = nn.ModuleList([BertIntermediate(config)]).eval()
    plain, values = copy.deepcopy(stages), torch.randn(3, 5, 8)
    pack(stages)
    assert packed(stages) == [True]
    assert isinstance(stages[0].intermediate_act_fn, nn.Identity) == folds
    with torch.inference_mode():
        torch.testing.assert_close(stages[0](values), plain[0](values), atol=1e-6, rtol=1e-5)


def test_pack_generates_code_for_few_numbers_of_rows(capfd):
    stages = nn.ModuleList([nn.Linear(13, 29)]).eval()  # of no other test, whose code would be used again
    pack(stages)
    with torch.inference_mode(), torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON_CREATION):
        for n in range(1, 301):
            stages[0](torch.ones(n, 13))
    generated = [line for line in capfd.readouterr().out.splitlines() if "create:cache_miss" in line and "ic13" in line]
    assert 0 < len(generated) <= 50


@pytest.mark.parametrize("shape", [(12,), (1, 12), (31, 12), (7, 37, 12), (300, 12), (2, 151, 12)])
def test_pack_gives_a_row_the_same_bits_with_any_number_of_rows(shape):
    torch.manual_seed(0)
    stages = nn.ModuleList([nn.Sequential(nn.Linear(12, 20), nn.Linear(20, 4))]).eval()
    pack(stages)
    values = torch.randn(shape)
    with torch.inference_mode():
        found, alone = stages[0](values), [stages[0](row) for row in values.reshape(-1, 12)]
    assert torch.equal(found, torch.stack(alone).view(*shape[:-1], 4))


def test_with_spare_rows_gives_few_numbers_of_rows():
    sizes = [len(with_spare_rows(torch.empty(n, 3))) for n in range(1, 2049)]
    assert len(set(sizes)) <= 150
    assert all(n <= size <= max(n + 1, n * 1.13) for n, size in enumerate(sizes, start=1))


def test_with_spare_rows_copies_only_without_room():
    values = torch.arange(144.0).view(36, 4)
    assert with_spare_rows(values).data_ptr() == values.data_ptr()
    within = with_spare_rows(values[:33])
    assert within.shape == (36, 4)
    assert within.data_ptr() == values.data_ptr()
    for apart in (values[3:], values[:33].clone(), values[:33, :2], values.T):
        rows = with_spare_rows(apart)
        assert torch.equal(rows[: len(apart)], apart)
        assert not rows[len(apart) :].any()
