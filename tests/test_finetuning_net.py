"""The skorch net: losses by weight, groups by part."""

from __future__ import annotations

import pytest
import torch
from skorch.callbacks import LRScheduler
from torch import nn

from sktransfer.engine.forward import Tap
from sktransfer.exceptions import InvalidParameterError
from sktransfer.finetuning.net import FineTuneNet, parameter_groups, resolve_optimizer, with_schedule
from sktransfer.finetuning.network import FineTuneNetwork


def network():
    return FineTuneNetwork(
        nn.ModuleList([nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))]), [Tap(1, "average")], 0, 3, 2
    )


def test_stages_and_head_have_their_own_rates_and_only_matrices_decay():
    groups = parameter_groups(network(), 1e-4, 1e-3, 0.1)
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in groups] == [
        (1e-4, 0.1, 1),
        (1e-4, 0.0, 3),
        (1e-3, 0.1, 1),
        (1e-3, 0.0, 1),
    ]


def test_frozen_parameters_are_in_no_group():
    net = network()
    net.stages.requires_grad_(False)
    assert [g["lr"] for g in parameter_groups(net, 1e-4, 1e-3, 0.1)] == [1e-3, 1e-3]


@pytest.mark.parametrize(
    ("criterion", "targets"), [(nn.CrossEntropyLoss, [0, 1, 1]), (nn.MSELoss, [[0.0, 1], [1, 2], [2, 3]])]
)
def test_the_loss_is_the_weighted_mean(criterion, targets):
    net = FineTuneNet(network(), criterion=criterion, criterion__reduction="none")
    net.groups = lambda module: [{"params": list(module.parameters())}]
    net.initialize()
    outputs, y = torch.tensor([[0.0, 1], [2, 0], [1, 1]]), torch.tensor(targets)
    single = [criterion()(outputs[i : i + 1], y[i : i + 1]).item() for i in range(3)]
    loss = net.get_loss(outputs, (y, torch.tensor([1.0, 2.0, 0.0])))
    assert loss.item() == pytest.approx((single[0] + 2 * single[1]) / 3)


def test_optimizers_by_name_and_by_class():
    assert resolve_optimizer("sgd") is torch.optim.SGD
    assert resolve_optimizer(torch.optim.RMSprop) is torch.optim.RMSprop
    for wrong in ("lion", int, None):
        with pytest.raises(InvalidParameterError, match="adamw"):
            resolve_optimizer(wrong)


def test_the_rate_falls_to_zero_in_a_straight_line_unless_a_schedule_is_given():
    (name, linear), *rest = with_schedule(["mine"], 10)
    assert (name, rest) == ("linear_decay", ["mine"])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = linear.policy(optimizer, **linear.kwargs)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1 - k / 10 for k in range(10)])
    own = LRScheduler("StepLR", step_size=3)
    assert with_schedule([("own", own)], 10) == [("own", own)]
    assert with_schedule(None, 0) == []
