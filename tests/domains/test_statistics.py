import copy

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import load_backbone
from sktransfer.domains.statistics import DomainNorms, batch_norm_stages, with_statistics
from sktransfer.engine.compute import Compute
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.images import check_images
from sktransfer.testing.samples import make_samples

CPU = Compute(torch.device("cpu"))


def inputs(backbone, n=12):
    return PreprocessedSamples(check_images(make_samples("image", n)[0]), backbone.preprocess)


def norms(backbone):
    return [one for one in nn.ModuleList(backbone.stages).modules() if isinstance(one, nn.BatchNorm2d)]


def test_with_statistics_takes_mean_and_variance_of_the_samples():
    backbone = load_backbone("tiny/cnn")
    before = {name: value.clone() for name, value in backbone.stages.state_dict().items()}
    samples = inputs(backbone)
    adapted = with_statistics(backbone, samples, CPU)
    values = torch.stack(samples.tensors(range(12)))
    with torch.no_grad():
        maps = backbone.stages[0].get_submodule(_first_convolution(backbone))(values).numpy()  # (12, c, h, w)
    first = norms(adapted)[0]
    np.testing.assert_allclose(first.running_mean.numpy(), maps.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(first.running_var.numpy(), maps.var((0, 2, 3), ddof=1), rtol=1e-3)
    for name, value in backbone.stages.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(norm.training for norm in norms(adapted))
    assert [norm.momentum for norm in norms(adapted)] == [norm.momentum for norm in norms(backbone)]


def _first_convolution(backbone):
    return next(name for name, one in backbone.stages[0].named_modules() if isinstance(one, nn.Conv2d))


def test_with_statistics_keeps_weights():
    backbone = load_backbone("tiny/cnn")
    adapted = with_statistics(backbone, inputs(backbone), CPU)
    for (name, one), other in zip(backbone.stages.named_parameters(), adapted.stages.parameters()):
        assert torch.equal(one, other), name
    assert adapted.stage_names == backbone.stage_names
    assert adapted.fingerprint != backbone.fingerprint


def test_batch_norm_stages_refuses_a_backbone_without_batch_norm():
    with pytest.raises(InvalidParameterError, match="tiny/bert has no BatchNorm; use another alignment"):
        batch_norm_stages(load_backbone("tiny/bert"))


@pytest.mark.parametrize("training", [False, True])
def test_domain_norms_equal_two_batch_norms(training):
    torch.manual_seed(0)
    stages = nn.ModuleList([nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)), _Stage(nn.BatchNorm2d(3))])
    one, other = copy.deepcopy(stages), copy.deepcopy(stages)
    for index in (0, 1):
        one[index][1 if index == 0 else 0].running_mean.uniform_()
        other[index][1 if index == 0 else 0].running_var.uniform_(1, 2)
    joint, norms = copy.deepcopy(one), DomainNorms(other.state_dict())
    norms.divide(joint)
    for network in (one, other, joint):
        network.train(training)
    values, is_target = torch.randn(7, 2, 4, 4), torch.tensor([0, 1, 1, 0, 0, 1, 0]).bool()
    norms.is_target = is_target
    found = _run(joint, values)
    expected = [_run(one, values[~is_target]), _run(other, values[is_target])]
    torch.testing.assert_close(found[~is_target], expected[0])
    torch.testing.assert_close(found[is_target], expected[1])
    found.square().sum().backward()
    (expected[0].square().sum() + expected[1].square().sum()).backward()
    joint_again = copy.deepcopy(joint)
    norms.restore(joint)
    assert [name for name, _ in joint.named_modules()] == [name for name, _ in one.named_modules()]
    for mixed, first, second in zip(joint.parameters(), one.parameters(), other.parameters()):
        torch.testing.assert_close(mixed.grad, first.grad + second.grad)
    for (name, mixed), first in zip(joint.named_buffers(), one.buffers()):
        torch.testing.assert_close(mixed, first, msg=name)
    assert norms.is_target is None
    with torch.no_grad():
        torch.testing.assert_close(_run(joint_again.eval(), values), _run(other.eval(), values))


class _Stage(nn.Sequential):
    def forward(self, values, mask=None):
        return super().forward(values)


def _run(stages, values):
    values = stages[0](values)
    return stages[1](values, None)
