"""Stages of text models against transformers' own forward, on weights that make every layer matter."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from sktransfer import load_backbone
from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.inputs import collate
from sktransfer.exceptions import WeightsError
from sktransfer.providers.huggingface_text import TEXT_STAGES, attention_bias
from tests.helpers.huggingface_folders import TEXT_MODELS, TEXTS, batch_of, build, distance, make_folder

CLOSE = 1e-5
cases = pytest.mark.parametrize("case", list(TEXT_MODELS))


@lru_cache
def pair(case: str) -> tuple[Any, Backbone]:
    with TemporaryDirectory() as folder:
        model = make_folder(case, Path(folder))
        return model, load_backbone(f"hf/{folder}")


@torch.no_grad()
def run(backbone: Backbone, values: torch.Tensor, mask: torch.Tensor, stages: list[int] | None = None) -> torch.Tensor:
    for i in range(len(backbone.stages)) if stages is None else stages:
        values = backbone.stages[i](values, mask)
    return values


def test_text_stages_cover_every_supported_type():
    assert {kind for kind, _ in TEXT_MODELS.values()} == set(TEXT_STAGES)


@cases
@torch.no_grad()
def test_text_stages_equal_transformers(case):
    model, backbone = pair(case)
    ids, mask = batch_of(backbone, TEXTS)
    assert not mask.all()
    own = model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True)
    values = list(backbone.run(ids, mask))
    assert backbone.stage_names == ("embeddings", "layer1", "layer2", "layer3", "layer4")
    assert len(values) == len(own.hidden_states) == 5
    for ours, theirs in zip(values, own.hidden_states, strict=True):
        assert distance(ours[mask], theirs[mask]) <= CLOSE
    last = own.last_hidden_state
    assert distance(values[-1][mask], last[mask]) <= CLOSE
    assert 0.3 < last[mask].std() < 3  # of order one
    ends = torch.stack([text[real][-1] for text, real in zip(last, mask)])
    assert ends.std(0).mean() > 0.1  # and another for each sample


@cases
def test_text_stages_differ_when_one_is_left_out(case):
    _, backbone = pair(case)
    ids, mask = batch_of(backbone, TEXTS)
    whole = run(backbone, ids, mask)[mask]
    for left_out in range(1, 5):
        kept = [i for i in range(5) if i != left_out]
        assert distance(run(backbone, ids, mask, kept)[mask], whole) > 100 * CLOSE


@cases
def test_text_stages_differ_when_two_are_swapped(case):
    _, backbone = pair(case)
    ids, mask = batch_of(backbone, TEXTS)
    whole = run(backbone, ids, mask)[mask]
    orders = {(1, 2): [0, 2, 1, 3, 4], (2, 3): [0, 1, 3, 2, 4], (3, 4): [0, 1, 2, 4, 3]}
    for swapped, order in orders.items():
        first, second = (backbone.stages[i] for i in swapped)
        shared = case.startswith("albert") and first.layer is second.layer
        apart = distance(run(backbone, ids, mask, order)[mask], whole)
        assert apart == 0 if shared else apart > 100 * CLOSE


@cases
def test_text_stages_are_independent_of_padding_and_batch(case):
    _, backbone = pair(case)
    ids, mask = batch_of(backbone, TEXTS)
    together = run(backbone, ids, mask)
    wide = torch.nn.functional.pad(ids, (0, 9), value=7)  # padding of any token
    wide_mask = torch.nn.functional.pad(mask, (0, 9), value=False)
    assert distance(run(backbone, wide, wide_mask)[:, : ids.shape[1]][mask], together[mask]) <= CLOSE
    turned = run(backbone, ids.flip(0), mask.flip(0)).flip(0)
    assert distance(turned[mask], together[mask]) <= CLOSE
    for text, one, real in zip(TEXTS, together, mask):
        alone = run(backbone, *batch_of(backbone, [text]))[0]
        assert distance(alone, one[real]) <= CLOSE


@cases
def test_text_stages_run_from_every_cut(case):
    _, backbone = pair(case)
    ids, mask = batch_of(backbone, TEXTS)
    whole = run(backbone, ids, mask)
    for cut in range(1, 5):
        kept = [one[real].clone() for one, real in zip(run(backbone, ids, mask, list(range(cut))), mask)]
        values, again = collate(kept[::-1], "text")
        rest = run(backbone, values, again, list(range(cut, 5))).flip(0)
        assert distance(rest[mask], whole[mask]) <= CLOSE


@cases
def test_text_stages_ignore_values_in_padding_at_every_cut(case):
    _, backbone = pair(case)
    ids, mask = batch_of(backbone, TEXTS)
    whole = run(backbone, ids, mask)
    for cut in range(1, 5):
        values = run(backbone, ids, mask, list(range(cut))).masked_fill(~mask[:, :, None], 7.0)
        assert distance(run(backbone, values, mask, list(range(cut, 5)))[mask], whole[mask]) <= CLOSE


@torch.no_grad()
def test_text_stages_of_deberta_embed_padding_as_zeros():
    _, backbone = pair("deberta-v2 with convolution")
    ids, mask = batch_of(backbone, TEXTS)
    assert (run(backbone, ids, mask, [0])[~mask] == 0).all()


@cases
def test_text_stages_pass_gradients_to_every_weight(case):
    stages = torch.nn.ModuleList(TEXT_STAGES[TEXT_MODELS[case][0]](build(case).base_model))
    _, backbone = pair(case)
    values, mask = batch_of(backbone, TEXTS)
    for stage in stages:
        values = stage(values, mask)
    values[mask].square().sum().backward()
    assert [name for name, weight in stages.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("case", ["mpnet", "deberta-v2"])
def test_text_stages_share_one_distances_table(case):
    _, backbone = pair(case)
    tables = {id(stage.distances.weight) for stage in list(backbone.stages)[1:]}
    assert len(tables) == 1
    assert all("distances.weight" in stage.state_dict() for stage in list(backbone.stages)[1:])


@torch.no_grad()
def test_text_stages_of_modernbert_apply_the_window_in_local_layers():
    _, backbone = pair("modernbert")
    ids, mask = batch_of(backbone, TEXTS)
    assert [stage.window for stage in list(backbone.stages)[1:]] == [None, 3, 3, None]
    assert mask.sum(1).max() > 3 * 7  # the longest text is more than three windows of 7 tokens long
    everywhere = build("modernbert", local_attention=200)
    without = everywhere(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    assert distance(run(backbone, ids, mask)[mask], without[mask]) > 100 * CLOSE


def test_text_stages_of_modernbert_refuse_a_dynamic_rope_type():
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10.0}
    changing = build("modernbert", rope_parameters={"full_attention": rope, "sliding_attention": rope})
    with pytest.raises(WeightsError, match="rope_type='dynamic'"):
        TEXT_STAGES["modernbert"](changing)


@pytest.mark.parametrize("case", ["roberta", "mpnet"])
@torch.no_grad()
def test_text_stages_count_positions_of_a_real_padding_token(case):
    model, backbone = pair(case)
    ids = torch.tensor([[0, 20, 1, 30, 40, 2]])  # 1 is the padding's id, and a real token here
    mask = torch.ones_like(ids, dtype=torch.bool)
    own = model(input_ids=ids, attention_mask=mask.long(), position_ids=torch.arange(2, 8)[None]).last_hidden_state
    assert distance(run(backbone, ids, mask), own) <= CLOSE


@pytest.mark.parametrize("case", ["gpt2", "openai-gpt"])
def test_text_stages_of_decoders_ignore_later_tokens(case):
    _, backbone = pair(case)
    assert backbone.pooling == "last_token"
    ids, mask = batch_of(backbone, TEXTS[:1])
    changed = ids.clone()
    changed[:, -1] += 1
    before, after = run(backbone, ids, mask), run(backbone, changed, mask)
    assert distance(before[:, :-1], after[:, :-1]) == 0
    assert distance(before[:, -1], after[:, -1]) > 100 * CLOSE


def test_attention_bias_is_finite_and_obeys_causal_and_window():
    mask = torch.tensor([[True, True, True, False]])
    values = torch.zeros(1, 4, 2)
    assert (attention_bias(values, mask)[0, 0, 0] == 0).tolist() == [True, True, True, False]
    causal = attention_bias(values, mask, causal=True)[0, 0] == 0
    assert causal.tolist() == [[j <= i and j < 3 for j in range(4)] for i in range(4)]
    local = attention_bias(values, mask, window=1)[0, 0] == 0
    assert local.tolist() == [[abs(j - i) <= 1 and j < 3 for j in range(4)] for i in range(4)]
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        bias = attention_bias(values.to(dtype), torch.zeros_like(mask))
        assert bias.dtype == dtype
        assert bias.isfinite().all()
        assert not bias.softmax(-1).isnan().any()
