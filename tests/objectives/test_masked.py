"""Masked tokens against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from sktransfer import MaskedTokens, load_backbone
from sktransfer.exceptions import InvalidParameterError
from tests.helpers.huggingface_folders import batch_of
from tests.helpers.small_bert import small_bert

TEXTS = ["a good film", "bad", "", "a clever plot and more good acting than the very one"]


@pytest.fixture(scope="module")
def bert():
    return load_backbone("tiny/bert")


def prepared(bert, probability, seed=0, texts=TEXTS):
    ids, mask = batch_of(bert, texts)
    task = MaskedTokens(probability).for_backbone(bert)
    torch.manual_seed(seed)
    arguments, targets = task.prepare({"values": ids, "mask": mask}, ids)
    return task, ids, mask, arguments["values"], targets


def test_prepare_hides_the_share_of_tokens(bert):
    texts = ["a good film and a bad plot " * 8] * 50
    _, ids, mask, values, targets = prepared(bert, 0.3, texts=texts)
    hidden = targets != -100
    assert torch.equal(targets[hidden], ids[hidden])
    n_words = int(mask.sum()) - 2 * len(texts)
    assert abs(hidden.sum() / n_words - 0.3) < 0.03  # 3 standard errors of 2,800 tokens
    share = {
        "masked": (values[hidden] == bert.preprocess.mask_value).double().mean(),
        "kept": (values[hidden] == ids[hidden]).double().mean(),
    }
    assert abs(share["masked"] - 0.8) < 0.05
    assert abs(share["kept"] - 0.1) < 0.05
    assert torch.equal(values[~hidden], ids[~hidden])


def test_prepare_hides_no_special_token_and_one_of_each_text(bert):
    for seed in range(20):
        _, ids, mask, values, targets = prepared(bert, 0.01, seed)
        hidden = targets != -100
        assert not (hidden & ~mask).any()
        assert not hidden[:, 0].any()
        assert not hidden[ids == 3].any()  # [SEP]
        n_hidden = hidden.sum(1)
        assert n_hidden[[0, 1, 3]].min() >= 1
        assert n_hidden[2] == 0  # an empty text
        assert torch.equal(values[~mask], ids[~mask])


def test_loss_is_the_mean_over_the_hidden_tokens_of_a_text(bert):
    task, _, _, _, targets = prepared(bert, 0.5)
    hidden = targets != -100
    outputs = torch.randn(int(hidden.sum()), 10_000)
    of_token = functional.cross_entropy(outputs, targets[hidden], reduction="none")
    rows = hidden.nonzero()[:, 0]
    expected = [float(of_token[rows == row].mean()) if (rows == row).any() else 0.0 for row in range(4)]
    np.testing.assert_allclose(task.loss(outputs, targets, outputs), expected, rtol=1e-5)


@pytest.mark.parametrize("probability", [0, 1, -0.1, "0.1", None])
def test_probability_is_checked(probability, bert):
    with pytest.raises(InvalidParameterError, match="probability"):
        MaskedTokens(probability).for_backbone(bert)


def test_for_backbone_refuses_a_tokenizer_without_mask_token():
    with pytest.raises(InvalidParameterError, match=r"names no mask token.*objective='simcse'"):
        MaskedTokens().for_backbone(load_backbone("hf/" + small_bert()))
