"""The skorch net: losses by weight, groups by part."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sktransfer.backbones.stages import ImageStage
from sktransfer.engine.compute import Compute
from sktransfer.engine.forward import LayerOutput
from sktransfer.training.net import FineTuneNet
from sktransfer.training.network import FineTuneNetwork


def network():
    stage = ImageStage(nn.Linear(3, 3), nn.LayerNorm(3))
    return FineTuneNetwork(nn.ModuleList([stage]), [LayerOutput(1, "average")], 0, 3, 2)


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


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_stay_float32_whatever_the_precision_and_gradients_are_of_the_true_loss(precision):
    torch.manual_seed(0)
    whole = network()
    net = FineTuneNet(whole, criterion=nn.CrossEntropyLoss, criterion__reduction="none", optimizer=torch.optim.SGD)
    net.groups = lambda module: [{"params": list(module.parameters())}]
    net.compute = Compute(torch.device("cpu"), precision)
    net.initialize()
    batch = ({"values": torch.randn(8, 3)}, (torch.arange(8) % 2, torch.ones(8)))
    loss = net.train_step_single(batch)["loss"]
    found = [p.grad.clone() for p in net.module_.parameters()]
    assert {p.dtype for p in net.module_.parameters()} == {g.dtype for g in found} == {torch.float32}
    net.module_.zero_grad()
    logits = net.module_(**batch[0])
    expected = nn.functional.cross_entropy(logits, batch[1][0])
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=2e-2)
    tolerance = 1e-6 if precision == torch.float32 else 3e-2
    for gradient, p in zip(found, net.module_.parameters()):
        torch.testing.assert_close(gradient, p.grad, atol=tolerance, rtol=tolerance)


def test_a_step_in_float16_changes_weights_as_one_in_float32_does():
    steps = []
    for precision in (torch.float32, torch.float16):
        torch.manual_seed(0)
        whole = network()
        net = FineTuneNet(
            whole, criterion=nn.CrossEntropyLoss, criterion__reduction="none", optimizer=torch.optim.SGD, lr=0.1
        )
        net.groups = lambda module: [{"params": list(module.parameters())}]
        net.compute = Compute(torch.device("cpu"), precision)
        net.initialize()
        before = net.module_.head.weight.detach().clone()
        net.train_step(({"values": torch.randn(8, 3)}, (torch.arange(8) % 2, torch.ones(8))))
        steps.append(net.module_.head.weight.detach() - before)
    assert steps[0].abs().max() > 1e-3
    torch.testing.assert_close(steps[0], steps[1], atol=1e-4, rtol=3e-2)


class Unfused(torch.optim.AdamW):
    """One of the user's own: nothing is known of what it takes."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)


@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
def test_standard_optimizers_step_in_one_pass_to_where_others_step_in_several(precision):
    ends = []
    for optimizer in (torch.optim.AdamW, Unfused):
        torch.manual_seed(0)
        net = FineTuneNet(
            network(), criterion=nn.CrossEntropyLoss, criterion__reduction="none", optimizer=optimizer, lr=0.1
        )
        net.groups = lambda module: [{"params": list(module.parameters()), "weight_decay": 0.01}]
        net.compute = Compute(torch.device("cpu"), precision)
        net.initialize()
        before = net.module_.head.weight.detach().clone()
        for _ in range(3):
            net.train_step(({"values": torch.randn(8, 3)}, (torch.arange(8) % 2, torch.ones(8))))
        assert bool(net.optimizer_.param_groups[0]["fused"]) == (optimizer is torch.optim.AdamW)
        assert not net.module_.head.weight.equal(before)
        ends.append(net.module_.state_dict())
    torch.testing.assert_close(ends[0], ends[1], atol=1e-5, rtol=1e-5)
