"""Checks on a GPU: run where there is one, and said to be not run where there is none."""

from __future__ import annotations

import pytest
import torch

from sktransfer.engine.compute import Compute
from sktransfer.engine.inference import prepare_for_inference
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing import checks_device as on_device
from sktransfer.testing.backbone_subject import NotRun, Subject, run_stages
from tests.helpers.mutants import image_twin, text_twin

CHECKS = (on_device.check_device, on_device.check_device_memory)


@pytest.mark.parametrize("check", CHECKS)
def test_without_a_gpu_they_are_not_run(check, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NotRun, match="no CUDA device"):
        check(Subject(image_twin()))


@pytest.mark.parametrize("check", CHECKS)
def test_the_cpu_has_nothing_to_be_compared_with(check):
    with pytest.raises(NotRun, match="there is nothing to compare it with"):
        check(Subject(image_twin(), device="cpu"))


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(InvalidParameterError, match="is not available"):
        on_device.check_device(Subject(image_twin(), device="cuda:99"))


def test_the_twin_that_runs_there_computes_the_same_and_keeps_its_copies_to_itself():
    backbone = image_twin()
    twin = on_device._twin(backbone)
    tensors = Subject(backbone).tensors
    for one, other in zip(run_stages(twin, tensors), run_stages(backbone, tensors)):
        assert all(map(torch.equal, one, other))
    assert twin.fingerprint() == backbone.fingerprint()
    prepare_for_inference(twin, Compute(torch.device("meta")))
    assert twin.copies
    assert not backbone.copies


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("twin", [image_twin, text_twin])
def test_right_ones_pass_on_a_gpu(twin):
    for check in CHECKS:
        check(Subject(twin()))


HELD = []


class HoldsDeviceMemory(torch.nn.Module):
    def __init__(self, right):
        super().__init__()
        self.right = right

    def forward(self, values, mask=None):
        HELD.append(values)
        return self.right(values)


class OtherOnDevice(torch.nn.Module):
    def __init__(self, right):
        super().__init__()
        self.right = right

    def forward(self, values, mask=None):
        return self.right(values) + 0.01 * (values.device.type != "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_wrong_ones_fail_on_a_gpu():
    with pytest.raises(AssertionError, match="on cuda:0, stage 1"):
        on_device.check_device(Subject(image_twin(middle=OtherOnDevice)))
    with pytest.raises(AssertionError, match="bytes of cuda:0 are still taken"):
        on_device.check_device_memory(Subject(image_twin(middle=HoldsDeviceMemory)))
