from __future__ import annotations

import pytest
import torch
from torch import nn

from sktransfer import load_backbone
from sktransfer.exceptions import LoadError
from sktransfer.persistence.states import check_fingerprint, fill


def test_weights_are_copied_and_places_stay():
    module = nn.Linear(2, 3)
    place = module.weight.data_ptr()
    fill(module.state_dict(), {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, "mine")
    assert module.weight.data_ptr() == place
    assert module.weight.sum() == 6


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.ones(3, 2)}, r"mine lack \['bias'\]"),
        ({"weight": torch.ones(3, 2), "bias": torch.zeros(3), "more": torch.zeros(1)}, r"hold \['more'\]"),
        ({"weight": torch.ones(2, 3), "bias": torch.zeros(3)}, r"weight is \(2, 3\) of torch.float32, and must be"),
        ({"weight": torch.ones(3, 2), "bias": torch.zeros(3).half()}, "bias is .* of torch.float16"),
    ],
)
def test_other_weights_are_refused_and_nothing_is_changed(state, message):
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    with pytest.raises(LoadError, match=message):
        fill(module.state_dict(), state, "mine")
    assert torch.equal(module.weight, before)


def test_a_fingerprint_names_both():
    backbone = load_backbone("tiny/cnn")
    check_fingerprint(backbone, backbone.fingerprint())
    with pytest.raises(LoadError, match=f"its fingerprint is {backbone.fingerprint()}, and was 00"):
        check_fingerprint(backbone, "00")
