"""The learning rate from the first step to the last."""

from __future__ import annotations

import pytest
import torch
from skorch.callbacks import LRScheduler

from sktransfer.exceptions import InvalidParameterError
from sktransfer.training.optimisation import SCHEDULES, with_schedule


def rates(schedule, n_steps):
    ((name, callback),) = with_schedule(None, schedule, n_steps)
    assert name == "schedule"
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = callback.policy(optimizer, **callback.kwargs)
    found = []
    for _ in range(n_steps):
        found.append(optimizer.param_groups[0]["lr"] / 2)
        optimizer.step()
        scheduler.step()
    return found


def test_a_line_falls_to_zero():
    assert rates("linear", 10) == pytest.approx([1 - k / 10 for k in range(10)])


def test_half_a_wave_falls_as_torch_has_it():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for rate in rates("cosine", 10):
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_the_slanted_triangle_is_that_of_the_paper():
    n_steps, cut = 50, 5
    for step, rate in enumerate(rates("slanted_triangular", n_steps)):
        p = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / 0.1 - 1))
        assert rate == pytest.approx((1 + p * 31) / 32)
    assert SCHEDULES["slanted_triangular"](0, 3) == 1.0  # so few steps have no rise


@pytest.mark.parametrize("n_steps", [10, 23])
def test_one_cycle_is_that_of_torch(n_steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, n_steps, cycle_momentum=False)
    for step, rate in enumerate(rates("one_cycle", n_steps)):
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < n_steps - 1:
            scheduler.step()


def test_a_constant_rate_needs_no_callback():
    assert with_schedule(["mine"], "constant", 10) == ["mine"]
    assert with_schedule(None, "linear", 0) == []
    assert {SCHEDULES["constant"](step, 3) for step in range(4)} == {1.0}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_past_the_last_step_no_rate_is_negative(schedule):
    assert all(0 <= SCHEDULES[schedule](step, 7) <= 1 for step in range(12))


def test_a_schedule_of_ones_own_takes_the_place_of_the_default_alone():
    own = LRScheduler("StepLR", step_size=3)
    assert with_schedule([("own", own)], "linear", 10) == [("own", own)]
    with pytest.raises(InvalidParameterError, match="two schedules"):
        with_schedule([own], "cosine", 10)
