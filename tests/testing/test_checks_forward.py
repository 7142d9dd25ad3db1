"""Checks of the values of stages: each wrong backbone fails the check meant for it."""

from __future__ import annotations

import pytest
import torch

from sktransfer.engine.compute import Compute
from sktransfer.engine.inference import prepare_for_inference
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing import checks_forward as forward
from sktransfer.testing.backbone_checks import CHECKS
from sktransfer.testing.backbone_subject import NotRun, Subject, run_stages
from tests.helpers.mutants import IN_MEMORY, assert_caught, image_twin, meant_for, text_twin


@pytest.mark.parametrize("wrong", meant_for(forward))
def test_checks_forward_fail_for_mutants(wrong):
    assert_caught(wrong)


def test_mutants_name_checks_that_exist():
    assert len(IN_MEMORY) >= 14
    assert {check for check, *_ in IN_MEMORY.values()} <= {check.__name__ for check in CHECKS}


def test_check_reference_finds_other_weights():
    other = image_twin(seed=1)

    def reference(values):
        return own_forward(other, values)

    with pytest.raises(AssertionError, match="the head's logits differ from the reference"):
        forward.check_reference(Subject(image_twin(), reference=reference))


def own_forward(backbone, values, mask=None):
    for stage in backbone.stages:
        values = stage(values, mask)
    return values if backbone.head is None else backbone.head(values, mask)


def test_check_reference_finds_an_omitted_layer_between_stages():
    backbone = image_twin()

    def reference(values):
        stem, middle, top = backbone.stages
        return backbone.head(top(torch.relu(middle(stem(values)))))

    with pytest.raises(AssertionError, match="no layer between two stages is left out"):
        forward.check_reference(Subject(backbone, reference=reference))


def test_check_reference_compares_texts_at_real_tokens_of_the_last_stage():
    backbone = text_twin()

    def reference(values, mask):
        return own_forward(backbone, values, mask) + 7.0 * ~mask[:, :, None]  # values at padding are undefined

    forward.check_reference(Subject(backbone, reference=reference))


def test_check_reference_rejects_constant_references_and_other_shapes():
    with pytest.raises(AssertionError, match="about the same for all samples"):
        forward.check_reference(Subject(image_twin(), reference=lambda values: torch.ones(len(values), 3)))
    with pytest.raises(AssertionError, match=r"shape \(4, 3\), the reference gives \(4, 2\)"):
        forward.check_reference(Subject(image_twin(), reference=lambda values: torch.ones(len(values), 2)))


def test_check_reference_and_check_padding_say_why_they_are_not_run():
    with pytest.raises(NotRun, match="no reference was given"):
        forward.check_reference(Subject(image_twin()))
    with pytest.raises(NotRun, match="images have no padding"):
        forward.check_padding(Subject(image_twin()))


def test_checks_forward_pass_for_a_stage_that_works_in_place():
    class InPlace(torch.nn.Module):
        def __init__(self, right):
            super().__init__()
            self.right = right

        def forward(self, values, mask=None):
            return self.right(values.sub_(0.5))

    subject = Subject(image_twin(middle=InPlace))
    for check in (forward.check_values, forward.check_determinism, forward.check_restart, forward.check_batch):
        check(subject)


DEVICE_CHECKS = (forward.check_device, forward.check_device_memory)


@pytest.mark.parametrize("check", DEVICE_CHECKS)
def test_check_device_is_not_run_without_a_gpu(check, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NotRun, match="no CUDA device"):
        check(Subject(image_twin()))


@pytest.mark.parametrize("check", DEVICE_CHECKS)
def test_check_device_is_not_run_for_the_cpu(check):
    with pytest.raises(NotRun, match="there is no other device to compare it with"):
        check(Subject(image_twin(), device="cpu"))


def test_check_device_for_a_missing_device_is_an_error():
    with pytest.raises(InvalidParameterError, match="is not available"):
        forward.check_device(Subject(image_twin(), device="cuda:99"))


def test_copy_without_caches_computes_the_same_and_has_its_own_copies():
    backbone = image_twin()
    copy = forward._copy_without_caches(backbone)
    tensors = Subject(backbone).tensors
    for one, other in zip(run_stages(copy, tensors), run_stages(backbone, tensors)):
        assert all(map(torch.equal, one, other))
    assert copy.fingerprint() == backbone.fingerprint()
    prepare_for_inference(copy, Compute(torch.device("meta")))
    assert copy.copies
    assert not backbone.copies


@pytest.mark.gpu
@pytest.mark.parametrize("twin", [image_twin, text_twin])
def test_check_device_passes_on_a_gpu(twin, gpu):
    for check in DEVICE_CHECKS:
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
def test_check_device_fails_for_mutants_on_a_gpu(gpu):
    with pytest.raises(AssertionError, match="on cuda:0, stage 1"):
        forward.check_device(Subject(image_twin(middle=OtherOnDevice)))
    with pytest.raises(AssertionError, match="bytes of cuda:0 are still allocated"):
        forward.check_device_memory(Subject(image_twin(middle=HoldsDeviceMemory)))
