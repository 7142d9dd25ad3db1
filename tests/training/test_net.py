"""The skorch net: losses by weight, steps in each precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import FineTuneClassifier
from sktransfer.backbones.stages import ImageStage
from sktransfer.engine.compute import Compute
from sktransfer.engine.layers import LayerOutput
from sktransfer.tasks.classification import Multiclass
from sktransfer.tasks.continuous import Continuous
from sktransfer.tasks.heads import FeatureHead
from sktransfer.training.net import build_net
from sktransfer.training.network import FineTuneNetwork
from sktransfer.training.settings import check_settings

BATCH = (
    {"values": torch.randn(8, 3, generator=torch.Generator().manual_seed(0))},
    {"y": (torch.arange(8) % 2, torch.ones(8))},
)


def net_of(task=None, precision=torch.float32, **parameters):
    """Return an initialized net that trains one stage and a head of two outputs; its weights are always the same."""
    torch.manual_seed(0)
    stage = ImageStage(nn.Linear(3, 3), nn.LayerNorm(3))
    layers, heads = {"features": [LayerOutput(1, "average")]}, nn.ModuleDict({"y": FeatureHead(3, 2)})
    widths, reads = {"features": 3}, {"y": "features"}
    network = FineTuneNetwork(nn.ModuleList([stage]), layers, 0, heads, reads, widths=widths)
    options = {"optimizer": "sgd", "lr": 0.1, "lr_schedule": "constant", "verbose": 0, **parameters}
    settings = check_settings(FineTuneClassifier(**options))
    tasks = {"y": task or Multiclass(classes=np.arange(2))}
    compute = Compute(torch.device("cpu"), precision)
    return build_net(network, tasks, settings, compute, seed=0, callbacks=None, n_batches=1).initialize()


def gradients(net):
    return [parameter.grad.clone() for parameter in net.module_.parameters()]


@pytest.mark.parametrize(
    ("task", "criterion", "targets"),
    [
        (Multiclass(classes=np.arange(2)), nn.CrossEntropyLoss, [0, 1, 1]),
        (Continuous(), nn.MSELoss, [[0.0, 1], [1, 2], [2, 3]]),
    ],
    ids=["multiclass", "continuous"],
)
def test_losses_are_the_weighted_mean_of_samples(task, criterion, targets):
    y = torch.tensor(targets)
    batch = {"values": torch.tensor([[0.0, 1, 5], [2, 0, 1], [1, 1, 3]])}, {"y": (y, torch.tensor([1.0, 2.0, 0.0]))}
    net = net_of(task)
    ((loss, outputs),) = net.losses(batch)
    single = [criterion()(outputs["y"][i : i + 1], y[i : i + 1]).item() for i in range(3)]
    assert loss.item() == pytest.approx((single[0] + 2 * single[1]) / 3)
    assert net.validation_step(batch)["loss"].item() == pytest.approx(loss.item())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_precision_keeps_weights_float32_and_gradients_of_the_unscaled_loss(precision):
    net = net_of(precision=precision)
    loss = net.train_step_single(BATCH)["loss"]
    found = gradients(net)
    assert {p.dtype for p in net.module_.parameters()} == {g.dtype for g in found} == {torch.float32}
    net.module_.zero_grad()
    arguments, targets = BATCH
    outputs, _ = net.module_(**arguments)
    expected = nn.functional.cross_entropy(outputs["y"], targets["y"][0])
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=2e-2)
    tolerance = 1e-6 if precision == torch.float32 else 3e-2
    torch.testing.assert_close(found, gradients(net), atol=tolerance, rtol=tolerance)


def test_train_step_in_float16_changes_weights_as_in_float32():
    steps = []
    for precision in (torch.float32, torch.float16):
        net = net_of(precision=precision, weight_decay=0)
        weight = net.module_.heads["y"].linear.weight
        before = weight.detach().clone()
        net.train_step(BATCH)
        steps.append(weight.detach() - before)
    assert steps[0].abs().max() > 1e-3
    torch.testing.assert_close(steps[0], steps[1], atol=1e-4, rtol=3e-2)


class Unfused(torch.optim.AdamW):
    """An optimizer of the user's. Its arguments are unknown."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)


@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
def test_optimizer_of_torch_is_fused_and_gives_equal_weights(precision):
    ends = []
    for optimizer in (torch.optim.AdamW, Unfused):
        net = net_of(precision=precision, optimizer=optimizer, weight_decay=0.01)
        weight = net.module_.heads["y"].linear.weight
        before = weight.detach().clone()
        for _ in range(3):
            net.train_step(BATCH)
        assert bool(net.optimizer_.param_groups[0]["fused"]) == (optimizer is torch.optim.AdamW)
        assert not weight.equal(before)
        ends.append(net.module_.state_dict())
    torch.testing.assert_close(ends[0], ends[1], atol=1e-5, rtol=1e-5)
