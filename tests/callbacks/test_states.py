from __future__ import annotations

import numpy as np
import pytest
import torch
from skorch.callbacks import EarlyStopping, LRScheduler
from torch.optim.lr_scheduler import StepLR

from sktransfer.callbacks.checkpoint import Digest, params_of, set_state, state_of


class Some:
    def __init__(self, **attributes):
        vars(self).update(attributes)


def test_what_ends_in_an_underscore_and_is_plain_is_state():
    some = Some(n_=3, best_=np.float32(0.5), weights_={"w": torch.ones(2)}, none_=None, parameter=1, _own=2, f_=print)
    state = state_of(some)
    assert list(state) == ["n_", "best_", "weights_", "none_"]
    assert type(state["best_"]) is float


def test_what_has_a_state_dict_gives_it_and_takes_it_back():
    one, other = Some(layer_=torch.nn.Linear(2, 2), n_=1), Some(layer_=torch.nn.Linear(2, 2), n_=0)
    held = other.layer_
    set_state(other, state_of(one))
    assert other.layer_ is held
    assert torch.equal(one.layer_.weight, other.layer_.weight)
    assert other.n_ == 1


def test_params_are_called_alike_in_all_processes():
    assert params_of(LRScheduler(StepLR, step_size=2)) == {
        **{"policy": "StepLR", "monitor": "train_loss", "event_name": "event_lr"},
        **{"step_every": "epoch", "step_size": 2},
    }
    assert params_of(EarlyStopping(sink=print))["sink"] == "print"


TENSOR = torch.arange(4.0)


@pytest.mark.parametrize(
    "other",
    [
        [TENSOR.double()],
        [TENSOR[:3]],
        [TENSOR + 1],
        [[TENSOR]],
        [TENSOR, None],
        [TENSOR.reshape(2, 2).numpy()],
        [{"a": TENSOR}],
    ],
    ids=str,
)
def test_digests_differ_where_values_do(other):
    assert Digest().add(*other).hex() != Digest().add(TENSOR).hex()
    assert Digest().add(*other).hex() == Digest().add(*other).hex()


def test_parts_do_not_run_into_one_another():
    digests = {Digest().add(*parts).hex() for parts in (["ab", "c"], ["a", "bc"], ["abc"], [["ab"], "c"], [b"ab", "c"])}
    assert len(digests) == 5
