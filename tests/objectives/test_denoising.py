"""Denoising against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sktransfer import Denoising, load_backbone
from sktransfer.exceptions import InvalidParameterError
from tests.helpers.huggingface_folders import batch_of

TEXTS = ["unfilmed", "an unfilmed plot and a bad one", "a good film " * 10]


@pytest.fixture(scope="module")
def bert():
    return load_backbone("tiny/bert")


def prepared(bert, rate, seed, texts=TEXTS):
    ids, mask = batch_of(bert, texts)
    task = Denoising(rate).for_backbone(bert)
    torch.manual_seed(seed)
    arguments, targets = task.prepare({"values": ids, "mask": mask}, ids)
    return task, ids, arguments["values"], arguments["mask"], targets


def test_prepare_deletes_the_share_of_words(bert):
    _, ids, values, mask, targets = prepared(bert, 0.6, 0, ["a good film " * 20] * 40)
    left = (mask.sum(1) - 2) / 60
    assert abs(left.mean() - 0.4) < 0.04  # 4 standard errors of 2,400 words
    assert torch.equal(targets, ids)
    assert not values[~mask].any()  # padding


def test_prepare_keeps_order_special_tokens_and_whole_words(bert):
    pieces = bert.preprocess(["unfilmed"])[0][1:-1].tolist()
    assert len(pieces) > 1
    for seed in range(20):
        _, ids, values, mask, _ = prepared(bert, 0.6, seed)
        for row in range(len(TEXTS)):
            left, whole = values[row][mask[row]].tolist(), ids[row].tolist()
            assert left[0] == 2
            assert left[-1] == 3
            assert len(left) > 2
            rest = iter(whole)
            assert all(token in rest for token in left)  # a subsequence
            assert (pieces[0] in left) == (pieces[-1] in left)
        assert values[0][mask[0]].tolist() == [2, *pieces, 3]  # the only word stays


def test_decoder_sees_the_vector_and_earlier_tokens_only(bert):
    task = Denoising().for_backbone(bert)
    decoder = task.make_head(160).eval()
    task.connect_head(decoder, bert.stages)
    assert decoder.table.data_ptr() == bert.stages[0].embeddings.word_embeddings.weight.data_ptr()
    targets = torch.tensor([[2, 50, 51, 52, 3]])
    vector = torch.randn(1, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = decoder(vector, targets=targets)
        assert logits.shape == (4, 10_000)
        later = decoder(vector, targets=torch.tensor([[2, 50, 51, 99, 3]]))
        torch.testing.assert_close(later[:3], logits[:3])
        assert not torch.allclose(later[3], logits[3])
        assert not torch.allclose(decoder(-vector, targets=targets)[0], logits[0])
        padded = decoder(vector, targets=nn.functional.pad(targets, (0, 2), value=-100))
        torch.testing.assert_close(padded, logits)
    loss = task.loss(logits, targets, vector)
    expected = nn.functional.cross_entropy(logits, targets[0, 1:])
    torch.testing.assert_close(loss, expected[None])


@pytest.mark.parametrize("rate", [0, 1, "0.6", None])
def test_rate_is_checked(rate, bert):
    with pytest.raises(InvalidParameterError, match="rate"):
        Denoising(rate).for_backbone(bert)
