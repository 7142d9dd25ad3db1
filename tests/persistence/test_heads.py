from __future__ import annotations

import numpy as np
import pytest
import torch

from sktransfer.exceptions import LoadError
from sktransfer.persistence.heads import HEAD
from sktransfer.persistence.parts import Loading, Saving
from tests.helpers.saved_estimators import made


def forged(name, change):
    saving = Saving(False)
    data = HEAD.encode(made(name).head_, saving)
    change(data, saving.tensors)
    return Loading(saving.tensors, {HEAD.kind: HEAD}).build("Head", data)


@pytest.mark.parametrize("name", ["FineTuneClassifier", "FineTuneRegressor", "FineTuneClassifier, adapter, mix"])
def test_heads_come_back(name):
    before, after = made(name).head_, forged(name, lambda data, tensors: None)
    assert repr(after) == repr(before)
    assert (after.classes is None) == (before.classes is None)
    assert before.classes is None or np.array_equal(after.classes, before.classes)
    for one, other in ((before._state, after._state), ({"": before._shift}, {"": after._shift})):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert torch.equal(before._spread, after._spread)


@pytest.mark.parametrize(
    "change",
    [
        lambda data, tensors: data.update(task="mischief"),
        lambda data, tensors: data.update(classes="abc"),
        lambda data, tensors: data.update(classes=np.arange(3)),
        lambda data, tensors: tensors.pop("0/head.bias"),
        lambda data, tensors: tensors.update({"0/head.weight": tensors["0/head.weight"][:2]}),
        lambda data, tensors: tensors.update({"1/shift": tensors["1/shift"].float()}),
        lambda data, tensors: tensors.pop("1/spread"),
        lambda data, tensors: data.pop("state"),
    ],
)
def test_parts_that_make_no_head_are_refused(change):
    with pytest.raises(LoadError):
        forged("FineTuneClassifier", change)
