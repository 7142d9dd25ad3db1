"""Parameter groups, learning rate schedules and L2-SP."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skorch.callbacks import LRScheduler
from torch import nn

from sktransfer import FineTuneClassifier, load_backbone
from sktransfer.backbones.stages import ImageStage
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.heads import FeatureHead
from sktransfer.testing.samples import make_samples
from sktransfer.training.network import FineTuneNetwork
from sktransfer.training.optimisation import MIX_LR, SCHEDULES, l2_sp_penalty, parameter_groups, with_schedule


def network(n_stages=1, n_mixed=None):
    stages = [ImageStage(nn.Linear(3, 3), nn.LayerNorm(3)) for _ in range(n_stages)]
    layers, width = {"features": [LayerOutput(1, "average")]}, 3 * (n_mixed or 1)
    heads = nn.ModuleDict({"y": FeatureHead(width, 2, n_mixed)})
    options = {"widths": {"features": width}, "n_mixed": n_mixed}
    return FineTuneNetwork(nn.ModuleList(stages), layers, 0, heads, {"y": "features"}, **options)


def described(groups):
    return [(pytest.approx(g["lr"]), g["weight_decay"], len(g["params"])) for g in groups]


def test_parameter_groups_of_stages_and_head_decay_only_matrices():
    groups = parameter_groups(network(), 1e-4, 1e-3, 0.1)
    assert described(groups) == [(1e-4, 0.1, 1), (1e-4, 0.0, 3), (1e-3, 0.1, 1), (1e-3, 0.0, 1)]


def test_parameter_groups_omit_frozen_parameters():
    net = network()
    net.stages.requires_grad_(False)
    assert [g["lr"] for g in parameter_groups(net, 1e-4, 1e-3, 0.1)] == [1e-3, 1e-3]


def test_parameter_groups_divide_lr_by_decay_per_stage():
    groups = parameter_groups(network(3), 2.6**2, 50.0, 0.1, decay=2.6)
    assert [g["lr"] for g in groups] == pytest.approx([1.0, 1.0, 2.6, 2.6, 2.6**2, 2.6**2, 50.0, 50.0])


def test_parameter_groups_put_a_shared_parameter_into_the_first_stage():
    net = network(3)
    net.stages[2] = net.stages[0]
    groups = parameter_groups(net, 4.0, 9.0, 0.0, decay=2.0)
    assert described(groups) == [(1.0, 0.0, 4), (2.0, 0.0, 4), (9.0, 0.0, 2)]


def test_parameter_groups_with_l2_sp_have_no_weight_decay_on_stages():
    groups = parameter_groups(network(), 1e-4, 1e-3, 0.1, l2_sp=0.5)
    assert described(groups) == [(1e-4, 0.0, 4), (1e-3, 0.1, 1), (1e-3, 0.0, 1)]


def test_parameter_groups_give_layer_weights_their_own_lr():
    *_, scores, gamma = parameter_groups(network(1, n_mixed=2), 1e-4, 1e-3, 0.1)
    assert described([scores, gamma]) == [(MIX_LR, 0.1, 1), (MIX_LR, 0.0, 1)]


def test_layer_lr_decay_is_shown_by_stages():
    X, y = make_samples("image", 12)
    clf = FineTuneClassifier(freeze_depth=-3, layer_lr_decay=2.0, lr=4e-4, max_epochs=1, random_state=0).fit(X, y)
    table = clf.stages_
    assert list(table.index) == list(clf.backbone_.stage_names)
    assert list(table["trained"]) == [False] * 4 + [True] * 3
    assert list(table["lr"][4:]) == pytest.approx([1e-4, 2e-4, 4e-4])
    assert table["lr"][:4].isna().all()
    assert table["n_trained"].iloc[-1] == sum(p.numel() for p in clf.backbone_.stages[-1].parameters())


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


def test_lr_schedule_linear_falls_to_zero():
    assert rates("linear", 10) == pytest.approx([1 - k / 10 for k in range(10)])


def test_lr_schedule_cosine_equals_torch():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for rate in rates("cosine", 10):
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_lr_schedule_slanted_triangular_equals_the_paper():
    n_steps, cut = 50, 5
    for step, rate in enumerate(rates("slanted_triangular", n_steps)):
        p = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / 0.1 - 1))
        assert rate == pytest.approx((1 + p * 31) / 32)
    assert SCHEDULES["slanted_triangular"](0, 3) == 1.0  # so few steps have no rise


@pytest.mark.parametrize("n_steps", [10, 23])
def test_lr_schedule_one_cycle_equals_torch(n_steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, n_steps, cycle_momentum=False)
    for step, rate in enumerate(rates("one_cycle", n_steps)):
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < n_steps - 1:
            scheduler.step()


def test_with_schedule_adds_no_callback_for_constant():
    assert with_schedule(["mine"], "constant", 10) == ["mine"]
    assert with_schedule(None, "linear", 0) == []
    assert {SCHEDULES["constant"](step, 3) for step in range(4)} == {1.0}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_are_not_negative_after_the_last_step(schedule):
    assert all(0 <= SCHEDULES[schedule](step, 7) <= 1 for step in range(12))


def test_with_schedule_lets_a_user_schedule_replace_only_the_default():
    own = LRScheduler("StepLR", step_size=3)
    assert with_schedule([("own", own)], "linear", 10) == [("own", own)]
    with pytest.raises(InvalidParameterError, match="two schedules"):
        with_schedule([own], "cosine", 10)


IMAGES, LABELS = make_samples("image", 12)


def test_l2_sp_penalty_adds_the_gradient_of_the_penalty():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    layers[0].bias.requires_grad_(False)
    start = [p.detach().clone() for p in layers.parameters()]
    pull = l2_sp_penalty(layers, 0.7)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.add_(torch.randn_like(parameter))
    loss = layers(torch.ones(1, 3)).sum()
    penalty = 0.35 * sum(((p - s) ** 2).sum() for p, s in zip(layers.parameters(), start) if p.requires_grad)
    expected = torch.autograd.grad(loss + penalty, [p for p in layers.parameters() if p.requires_grad])
    loss = layers(torch.ones(1, 3)).sum()
    loss.backward()
    pull()
    for parameter, gradient in zip((p for p in layers.parameters() if p.requires_grad), expected):
        torch.testing.assert_close(parameter.grad, gradient)
    assert layers[0].bias.grad is None


def distance(clf):
    pairs = zip(clf.backbone_.stages.parameters(), load_backbone("tiny/cnn").stages.parameters())
    return sum(float(((one - other) ** 2).sum()) for one, other in pairs) ** 0.5


def test_l2_sp_keeps_weights_near_the_start():
    options = {"freeze_depth": -2, "max_epochs": 8, "lr": 0.02, "optimizer": "sgd", "random_state": 0}
    free, held, tight = (
        FineTuneClassifier(l2_sp=l2_sp, **options).fit(IMAGES, LABELS[::-1]) for l2_sp in (0.0, 1.0, 40.0)
    )
    assert distance(tight) < 0.8 * distance(held) < 0.8 * distance(free)
    assert held.net_._add_l2_sp is None  # a pickle has no use for it


def log_likelihood(clf, X, y):
    return float(np.log(clf.predict_proba(X)[np.arange(len(y)), np.searchsorted(clf.classes_, y)]).mean())


@pytest.mark.parametrize(("optimizer", "lr", "firmly"), [("sgd", 0.02, 40.0), ("adamw", 1e-3, 100.0)])
def test_l2_sp_reduces_forgetting(optimizer, lr, firmly):
    X, y = make_samples("image", 40)
    first, second = slice(0, 20), slice(20, 40)
    turned = np.where(y[second] == "good", "bad", "good")  # the second task contradicts the first
    lost = {}
    for l2_sp in (0.0, firmly):
        options = {"layer": -1, "freeze_depth": -2, "optimizer": optimizer, "random_state": 0}
        clf = FineTuneClassifier(warm_start=True, l2_sp=l2_sp, **options)
        clf.set_params(lr=lr, max_epochs=2).fit(X[first], y[first])
        before = log_likelihood(clf, X[first], y[first])
        clf.set_params(head_lr=1e-9, max_epochs=10).fit(X[second], turned)
        lost[l2_sp] = before - log_likelihood(clf, X[first], y[first])
    assert lost[0.0] > 0.5
    assert lost[firmly] < 0.5 * lost[0.0]
