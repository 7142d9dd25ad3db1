"""Next tokens, and new language-model heads."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from sktransfer import NextTokens, load_backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.objectives.heads import is_causal, token_table, with_new_lm_head
from tests.helpers.huggingface_folders import TEXTS, batch_of, make_folder


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt")
    make_folder("gpt2", folder)
    return load_backbone(f"hf/{folder}")


@pytest.fixture(scope="module")
def albert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("albert")
    make_folder("albert", folder)  # with a table of another width than the stages
    return load_backbone(f"hf/{folder}")


def test_encode_gives_the_next_token():
    ids = np.empty(2, object)
    ids[:] = [torch.tensor([5, 6, 7]), torch.tensor([8, 9])]
    targets = NextTokens().encode(ids, np.ones(2))
    assert [one.tolist() for one in targets.values] == [[6, 7, -100], [9, -100]]


def test_is_causal(gpt, albert):
    assert is_causal(gpt)
    assert not is_causal(albert)


def test_for_backbone_refuses_a_network_that_reads_ahead(albert):
    with pytest.raises(InvalidParameterError, match="reads those after it as well"):
        NextTokens().for_backbone(albert)


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_with_new_lm_head_is_tied_to_the_table(kind, gpt, albert):
    for backbone in (gpt, albert):
        assert backbone.lm_head is None
        made = with_new_lm_head(backbone, kind)
        assert made.lm_head.kind == kind
        assert any(parameter is token_table(backbone) for parameter in made.lm_head.parameters())
        assert backbone.lm_head is None
        assert made.fingerprint() == backbone.fingerprint()
        ids, mask = batch_of(made, TEXTS)
        with torch.no_grad():
            *_, last = made.run(ids, mask)
            logits = made.lm_head(last)
            chosen = made.lm_head(last, targets=ids.masked_fill(~mask, -100))
        assert logits.shape == (*ids.shape, len(token_table(backbone)))
        torch.testing.assert_close(chosen, logits[mask])
        copied = pickle.loads(pickle.dumps(made))
        with torch.no_grad():
            torch.testing.assert_close(copied.lm_head(last), logits)  # equal weights are drawn
