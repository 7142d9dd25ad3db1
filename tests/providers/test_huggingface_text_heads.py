"""Heads of classifying text models against transformers' own logits."""

from __future__ import annotations

import pytest
import torch

from sktransfer import load_backbone
from sktransfer.providers.huggingface_text import TEXT_HEADS
from tests.helpers.huggingface_folders import TEXT_MODELS, TEXTS, batch_of, distance, make_folder

LABELS = {"id2label": {i: f"kind {i}" for i in range(12)}, "label2id": {f"kind {i}": i for i in range(12)}}
CASES = {case: {} for case in TEXT_MODELS} | {"modernbert": {"classifier_pooling": "mean"}, "modernbert ": {}}
CASES.pop("bert as decoder")  # its head takes the first token, which sees no other
CASES |= {
    case: {"pad_token_id": 0} for case in ("gpt2", "openai-gpt")
}  # without it transformers takes one text a batch


def test_text_heads_cover_every_supported_type():
    assert {kind for kind, _ in TEXT_MODELS.values()} == set(TEXT_HEADS)


@pytest.mark.parametrize("case", list(CASES))
@torch.no_grad()
def test_text_heads_equal_the_logits_of_transformers(case, tmp_path):
    model = make_folder(case.strip(), tmp_path, "ForSequenceClassification", **LABELS, **CASES[case])
    backbone = load_backbone(f"hf/{tmp_path}")
    ids, mask = batch_of(backbone, TEXTS)
    own = model(input_ids=ids, attention_mask=mask.long()).logits
    *_, last = backbone.run(ids, mask)
    assert distance(backbone.head(last, mask), own) <= 1e-5
    assert own.std(0).mean() > 0.01
    assert backbone.categories == tuple(f"kind {i}" for i in range(12))  # by number: not 0, 1, 10, 11, 2


def test_head_is_none_for_a_model_that_does_not_classify(tmp_path):
    make_folder("bert", tmp_path)
    backbone = load_backbone(f"hf/{tmp_path}")
    assert backbone.head is None
    assert backbone.categories == ()
