"""Outputs of a sample have the same bits in any batch, with any number of threads and any content of the cache."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import sktransfer
from sktransfer import FineTuneClassifier, ImageFeaturizer, TextFeaturizer, load_backbone
from sktransfer.backbones.stages import run_stages
from sktransfer.engine.compute import Compute
from sktransfer.engine.inference import BatchInvariantConv2d, prepare_for_inference, prepare_head
from sktransfer.kernels.attention import PaddingInvariantAttention, pad_attention
from sktransfer.kernels.linear import pack

WORDS = ["a", "film", "of", "the", "year", "that", "nobody", "saw", "and", "few", "would", "like"]
TEXTS = [" ".join(WORDS[: 1 + n % len(WORDS)] * (1 + n % 4)) for n in range(24)]
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
CASES = {"tiny/cnn": (ImageFeaturizer, IMAGES), "tiny/bert": (TextFeaturizer, TEXTS)}


class OwnAttention(nn.Module):
    def forward(self, values, mask):
        return functional.scaled_dot_product_attention(values, values, values)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", CASES)
def test_transform_has_the_same_bits_in_any_batch_and_with_any_number_of_threads(name, threads):
    featurizer, X = CASES[name]
    whole = featurizer(name, layer="all", cache=None).fit_transform(X)
    for n_threads, batch_size in ((1, 1), (1, 3), (2, 1), (2, 24), (3, 5)):
        threads(n_threads)
        found = featurizer(name, layer="all", cache=None, batch_size=batch_size).fit_transform(X[::-1])
        np.testing.assert_array_equal(found[::-1], whole)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("freeze_depth", [2, "all"])
def test_fit_and_predict_have_the_same_bits_for_any_content_of_the_cache(name, freeze_depth):
    _, X = CASES[name]
    y = np.arange(len(X)) % 3

    def outputs(warm=()):
        sktransfer.clear_cache()
        for rows in warm:
            one = FineTuneClassifier(name, freeze_depth=freeze_depth, max_epochs=0, head_init="random")
            one.fit([X[row] for row in rows], np.arange(len(rows)) % 2)
        clf = FineTuneClassifier(name, freeze_depth=freeze_depth, max_epochs=1, batch_size=8, random_state=0)
        probabilities = clf.fit(X, y).predict_proba(X)
        return np.concatenate([probabilities, clf.predict_proba(X)])

    cold = outputs()
    shuffled = np.random.default_rng(0).permutation(len(X))
    for warm in ([shuffled[:11]], [shuffled], [[3, 4], [8, 9], shuffled[:5]]):
        np.testing.assert_array_equal(outputs(warm), cold)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("masked", [None, "bool", "float"])
def test_padding_invariant_attention_equals_attention(masked, is_causal):
    if masked and is_causal:
        pytest.skip("torch takes one of the two")
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 21, 8)
    mask = None
    if masked:
        mask = (torch.arange(21) < torch.tensor([21, 9])[:, None])[:, None, None].expand(2, 1, 21, 21)
        mask = mask if masked == "bool" else torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
    expected = functional.scaled_dot_product_attention(query, key, value, mask, is_causal=is_causal)
    with PaddingInvariantAttention():
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_packed_linear_of_a_single_row_has_the_bits_of_many():
    torch.manual_seed(0)
    stages = nn.ModuleList([nn.Linear(1280, 20)]).eval()
    pack(stages)
    values = torch.randn(9, 1280)
    with torch.inference_mode():
        together = stages[0](values)
        alone = [stages[0](values[:1])[0], stages[0](values[0])]
    assert all(torch.equal(one, together[0]) for one in alone)


def test_pad_attention_gives_the_bits_of_the_context_around_the_stages():
    backbone = load_backbone("tiny/bert")
    padded = copy.deepcopy(backbone.stages)
    assert pad_attention(padded)
    generator = torch.Generator().manual_seed(0)
    for n_tokens in (1, 7, 16, 21, 48):
        values = torch.randint(1000, 2000, (3, n_tokens), generator=generator)
        mask = torch.arange(n_tokens) <= torch.tensor([[0], [n_tokens // 2], [n_tokens]])  # (3, n_tokens)
        with torch.inference_mode():
            *_, found = run_stages(padded, values, mask)
            with PaddingInvariantAttention():
                *_, expected = run_stages(backbone.stages, values, mask)
        assert torch.equal(found, expected)


def test_pad_attention_leaves_the_stages_of_the_backbone_unchanged():
    backbone = load_backbone("tiny/bert")
    padded = copy.deepcopy(backbone.stages)
    assert pad_attention(padded)
    names = [
        {one.config._attn_implementation for one in some.modules() if hasattr(one, "config")}
        for some in (padded, backbone.stages)
    ]
    assert names == [{"sktransfer_sdpa"}, {"sdpa"}]
    assert prepare_for_inference(backbone, Compute(torch.device("cpu"))).pads_attention


@pytest.mark.parametrize("module", [nn.MultiheadAttention(8, 2), nn.TransformerEncoderLayer(8, 2), OwnAttention()])
def test_pad_attention_reports_attention_that_it_cannot_reach(module):
    assert not pad_attention(nn.ModuleList([nn.Sequential(nn.Linear(8, 8), module)]))
    assert pad_attention(nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))]))


def test_prepare_head_shares_weights_and_leaves_the_head_unchanged():
    head = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).train()
    prepared = prepare_head(head)
    assert prepared[0].weight is head[0].weight
    assert type(head[0]) is nn.Linear
    assert head.training
    assert not prepared.training
    torch.testing.assert_close(prepared(torch.ones(2, 4)), head(torch.ones(2, 4)))


def test_prepare_for_inference_replaces_convolutions_and_shares_them_in_every_place():
    stages = prepare_for_inference(load_backbone("tiny/cnn"), Compute(torch.device("cpu")))
    kinds = {type(module) for module in stages.modules() if isinstance(module, nn.Conv2d)}
    assert kinds == {BatchInvariantConv2d}
