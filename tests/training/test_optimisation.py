"""Which parameters learn how fast, and which decay."""

from __future__ import annotations

import pytest
from torch import nn

from sktransfer import FineTuneClassifier
from sktransfer.backbones.stages import ImageStage
from sktransfer.engine.layers import LayerOutput
from sktransfer.tasks.heads import FeatureHead
from sktransfer.testing.samples import make_samples
from sktransfer.training.network import FineTuneNetwork
from sktransfer.training.optimisation import MIX_LR, parameter_groups


def network(n_stages=1, n_mixed=None):
    stages = [ImageStage(nn.Linear(3, 3), nn.LayerNorm(3)) for _ in range(n_stages)]
    layers, width = {"features": [LayerOutput(1, "average")]}, 3 * (n_mixed or 1)
    heads = nn.ModuleDict({"y": FeatureHead(width, 2, n_mixed)})
    options = {"widths": {"features": width}, "n_mixed": n_mixed}
    return FineTuneNetwork(nn.ModuleList(stages), layers, 0, heads, {"y": "features"}, **options)


def described(groups):
    return [(pytest.approx(g["lr"]), g["weight_decay"], len(g["params"])) for g in groups]


def test_stages_and_head_have_their_own_rates_and_only_matrices_decay():
    groups = parameter_groups(network(), 1e-4, 1e-3, 0.1)
    assert described(groups) == [(1e-4, 0.1, 1), (1e-4, 0.0, 3), (1e-3, 0.1, 1), (1e-3, 0.0, 1)]


def test_frozen_parameters_are_in_no_group():
    net = network()
    net.stages.requires_grad_(False)
    assert [g["lr"] for g in parameter_groups(net, 1e-4, 1e-3, 0.1)] == [1e-3, 1e-3]


def test_each_stage_learns_slower_than_the_one_above_it():
    groups = parameter_groups(network(3), 2.6**2, 50.0, 0.1, decay=2.6)
    assert [g["lr"] for g in groups] == pytest.approx([1.0, 1.0, 2.6, 2.6, 2.6**2, 2.6**2, 50.0, 50.0])


def test_a_parameter_that_stages_share_belongs_to_the_first():
    net = network(3)
    net.stages[2] = net.stages[0]
    groups = parameter_groups(net, 4.0, 9.0, 0.0, decay=2.0)
    assert described(groups) == [(1.0, 0.0, 4), (2.0, 0.0, 4), (9.0, 0.0, 2)]


def test_what_is_held_where_it_started_is_not_drawn_to_zero_as_well():
    groups = parameter_groups(network(), 1e-4, 1e-3, 0.1, l2_sp=0.5)
    assert described(groups) == [(1e-4, 0.0, 4), (1e-3, 0.1, 1), (1e-3, 0.0, 1)]


def test_the_weights_of_mixed_layers_have_a_rate_of_their_own_and_are_drawn_to_equality():
    *_, scores, gamma = parameter_groups(network(1, n_mixed=2), 1e-4, 1e-3, 0.1)
    assert described([scores, gamma]) == [(MIX_LR, 0.1, 1), (MIX_LR, 0.0, 1)]


def test_the_rates_of_a_fit_are_to_be_read_by_stage():
    X, y = make_samples("image", 12)
    clf = FineTuneClassifier(freeze_depth=-3, layer_lr_decay=2.0, lr=4e-4, max_epochs=1, random_state=0).fit(X, y)
    table = clf.stages_
    assert list(table.index) == list(clf.backbone_.stage_names)
    assert list(table["trained"]) == [False] * 4 + [True] * 3
    assert list(table["lr"][4:]) == pytest.approx([1e-4, 2e-4, 4e-4])
    assert table["lr"][:4].isna().all()
    assert table["n_trained"].iloc[-1] == sum(p.numel() for p in clf.backbone_.stages[-1].parameters())
