"""Perplexities under causal and masked language models."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from sktransfer import load_backbone, perplexity, pseudo_perplexity
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError, TruncatedTextWarning
from tests.helpers.huggingface_folders import TEXTS, make_folder

SCORED = [text for text in TEXTS if text != "fox"]


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal")
    return make_folder("gpt2", folder, "ForCausalLM"), load_backbone(f"hf/{folder}")


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked")
    return make_folder("roberta", folder, "ForMaskedLM"), load_backbone(f"hf/{folder}")


@torch.no_grad()
def test_perplexity_equals_the_loss_of_transformers(causal):
    model, backbone = causal
    ids = backbone.preprocess(SCORED)
    losses = [float(model(input_ids=one[None], labels=one[None]).loss) for one in ids]
    np.testing.assert_allclose(perplexity(backbone, SCORED), np.exp(losses), rtol=1e-5)
    n = np.array([len(one) - 1 for one in ids])
    assert perplexity(backbone, SCORED, per="corpus") == pytest.approx(math.exp(n @ losses / n.sum()), rel=1e-5)


@torch.no_grad()
def test_pseudo_perplexity_equals_one_masked_copy_per_token(masked):
    model, backbone = masked
    expected, losses, n = [], 0.0, 0
    for ids in backbone.preprocess(SCORED):
        total = 0.0
        for position in range(1, len(ids) - 1):  # without <s> and </s>
            copy = ids.clone()
            copy[position] = backbone.preprocess.mask_value
            scores = model(input_ids=copy[None], attention_mask=torch.ones_like(copy)[None]).logits[0, position]
            total -= float(scores.log_softmax(0)[ids[position]])
        expected.append(math.exp(total / (len(ids) - 2)))
        losses, n = losses + total, n + len(ids) - 2
    np.testing.assert_allclose(pseudo_perplexity(backbone, SCORED), expected, rtol=1e-5)
    assert pseudo_perplexity(backbone, SCORED, per="corpus") == pytest.approx(math.exp(losses / n), rel=1e-5)


@pytest.mark.parametrize("function", [perplexity, pseudo_perplexity])
def test_perplexity_of_a_text_does_not_depend_on_the_others(function, causal, masked):
    backbone = (causal if function is perplexity else masked)[1]
    together = function(backbone, SCORED)
    alone = [function(backbone, text)[0] for text in SCORED]
    np.testing.assert_allclose(together, alone, rtol=1e-6)  # layers of GPT-2 round by the size of the batch
    np.testing.assert_allclose(function(backbone, SCORED, batch_size=1), together, rtol=1e-5)


def test_perplexity_scores_the_tokens_that_are_kept(causal):
    with pytest.warns(TruncatedTextWarning):
        short = perplexity(causal[1], SCORED[0], max_length=6)
    assert short[0] != perplexity(causal[1], SCORED[0])[0]


def test_perplexity_names_the_row_of_a_text_of_one_token(causal):
    with pytest.raises(InvalidSampleError, match=r"row 1.*only one token"):
        perplexity(causal[1], [SCORED[0], ""])
    with pytest.raises(InvalidSampleError, match="'b'"):
        perplexity(causal[1], pd.Series([SCORED[0], ""], index=["a", "b"]))


def test_pseudo_perplexity_names_the_row_of_a_text_without_tokens(masked):
    with pytest.raises(InvalidSampleError, match=r"row 1.*no token to score"):
        pseudo_perplexity(masked[1], [SCORED[0], ""])


def test_perplexity_refuses_the_other_kind_and_names_the_function(causal, masked):
    with pytest.raises(
        InvalidParameterError, match=r"is a masked language model, .* use fill_mask and pseudo_perplexity"
    ):
        perplexity(masked[1], SCORED)
    with pytest.raises(InvalidParameterError, match=r"is a causal language model, .* use perplexity"):
        pseudo_perplexity(causal[1], SCORED)
    with pytest.raises(InvalidParameterError, match="tiny/cnn has no language-model head"):
        perplexity("tiny/cnn", SCORED)


@pytest.mark.parametrize("function", [perplexity, pseudo_perplexity])
def test_perplexity_refuses_per(function, causal, masked):
    backbone = (causal if function is perplexity else masked)[1]
    with pytest.raises(InvalidParameterError, match="per='word'"):
        function(backbone, SCORED, per="word")
