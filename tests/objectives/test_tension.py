"""Contrastive tension against its definition."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from sktransfer import ContrastiveTension, SelfSupervisedTuner, load_backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from sktransfer.training.network import trainable_stages
from tests.helpers.small_bert import small_bert

BERT = "hf/" + small_bert()
TEXTS, _ = make_samples("text", 12)


@pytest.mark.parametrize("negatives", [1, 2, 9])
def test_loss_is_the_cross_entropy_of_pairs(negatives):
    features = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    first, second = features.double().numpy().reshape(2, 4, 5)
    expected = np.zeros(4)
    n_others = min(negatives, 3)
    for row in range(4):
        others = [(row + shift) % 4 for shift in range(1, n_others + 1)]
        pairs = [np.log1p(np.exp(-first[row] @ second[row]))]
        pairs += [np.log1p(np.exp(first[row] @ second[other])) for other in others]
        expected[row] = np.mean(pairs)
    losses = ContrastiveTension(negatives).loss(None, torch.zeros(4), features)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert ContrastiveTension(negatives).loss(None, torch.zeros(1), features[:2]).shape == (1,)


def test_change_stages_makes_two_equal_networks_that_are_trained_apart():
    stages = trainable_stages(load_backbone(BERT), 1).eval()
    own, task = list(stages), ContrastiveTension()
    values, mask = torch.randn(4, 3, 32), torch.ones(4, 3, dtype=torch.bool)
    expected = own[0](values, mask)
    task.change_stages(stages)
    torch.testing.assert_close(stages[0](values, mask), expected)
    with torch.no_grad():
        for parameter in stages[0].second.parameters():
            parameter.add_(1.0)
    changed = stages[0](values, mask)
    torch.testing.assert_close(changed[:2], expected[:2])
    assert not torch.allclose(changed[2:], expected[2:])
    task.restore_stages(stages)
    assert all(one is other for one, other in zip(stages, own, strict=True))


def test_fit_keeps_one_network():
    params = {"freeze_depth": 1, "max_epochs": 2, "lr": 1e-4, "random_state": 0}
    tension, simcse = (
        SelfSupervisedTuner(BERT, objective=name, **params).fit(TEXTS) for name in ("contrastive_tension", "simcse")
    )
    assert tension.stages_.equals(simcse.stages_)
    assert len(pickle.dumps(tension)) < 1.1 * len(pickle.dumps(simcse))
    names = [set(one.net_.module_.state_dict()) for one in (tension, simcse)]
    assert names[0] == names[1]
    source = load_backbone(BERT)
    assert tension.backbone_.fingerprint(1) == source.fingerprint(1)
    assert tension.backbone_.fingerprint() != source.fingerprint()


@pytest.mark.parametrize("negatives", [0, -1, 1.5, None])
def test_negatives_are_checked(negatives):
    with pytest.raises(InvalidParameterError, match="negatives"):
        ContrastiveTension(negatives).for_backbone(load_backbone(BERT))
