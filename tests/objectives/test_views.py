"""Dropout views against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sktransfer import DropoutViews, load_backbone
from sktransfer.exceptions import InvalidParameterError
from tests.helpers.small_bert import small_bert


def test_loss_is_the_cross_entropy_among_the_texts_of_the_batch():
    features = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    unit = (features / features.norm(dim=1, keepdim=True)).double().numpy()
    cosines = unit[:4] @ unit[4:].T / 0.1
    expected = np.log(np.exp(cosines).sum(1)) - np.diag(cosines)
    losses = DropoutViews(temperature=0.1).loss(None, torch.zeros(4), features)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_prepare_repeats_every_argument():
    arguments = {"values": torch.arange(6).view(3, 2), "fixed_values": {"maps": [torch.ones(3, 1)]}}
    twice, targets = DropoutViews().prepare(arguments, torch.arange(3))
    assert twice["values"].tolist() == [[0, 1], [2, 3], [4, 5]] * 2
    assert twice["fixed_values"]["maps"][0].shape == (6, 1)
    assert len(targets) == 3


@pytest.mark.parametrize("temperature", [0, -1, "1", None])
def test_temperature_is_checked(temperature):
    with pytest.raises(InvalidParameterError, match="temperature"):
        DropoutViews(temperature).for_backbone(load_backbone("hf/" + small_bert()))


def test_check_boundary_refuses_stages_without_dropout():
    dry = load_backbone("hf/" + small_bert(0.0))
    with pytest.raises(InvalidParameterError, match=r"above the freezing boundary, \['layer2', 'layer3'\], have none"):
        DropoutViews().check_boundary(dry, 2, 2)
    DropoutViews().check_boundary(load_backbone("hf/" + small_bert()), 2, 2)
