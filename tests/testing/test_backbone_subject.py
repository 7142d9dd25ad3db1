"""Subject of the checks, and comparisons of stages."""

from __future__ import annotations

import unittest

import numpy as np
import pytest
import torch

from sktransfer.exceptions import BackboneNotFoundError
from sktransfer.testing.backbone_subject import NotRun, Subject, assert_close, require, restore_global_state, run_stages
from tests.helpers.mutants import image_twin, text_twin


def test_subject_loads_a_name_on_first_use():
    subject = Subject("nobody/has this")
    assert subject.name == "nobody/has this"
    with pytest.raises(BackboneNotFoundError):
        subject.backbone  # noqa: B018


def test_subject_weights_are_pretrained_if_local():
    assert Subject("tiny/cnn").weights == "pretrained"
    assert Subject("tiny/cnn").local_weights.is_file()


def test_subject_weights_are_random_without_local_ones(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert Subject("torchvision/resnet18").weights == "random"


def test_subject_spec_of_a_loaded_backbone_is_not_run():
    subject = Subject(image_twin())
    assert (subject.is_loaded, subject.name, subject.modality) == (True, "mutants/maps", "image")
    with pytest.raises(NotRun, match="it has no spec and no loader"):
        subject.spec  # noqa: B018


def test_not_run_is_a_skip_test():
    assert issubclass(NotRun, unittest.SkipTest)


@pytest.mark.parametrize("twin", [image_twin, text_twin])
def test_subject_samples_differ_and_have_labels_of_two_classes(twin):
    subject = Subject(twin())
    assert len({str(np.asarray(sample).tolist()) for sample in subject.samples}) == len(subject.labels) == 4
    assert sorted(set(subject.labels)) == ["bad", "good"]
    lengths = {len(tensor) for tensor in subject.tensors}
    assert len(lengths) == (3 if subject.modality == "text" else 1)


def test_run_stages_returns_texts_without_padding():
    subject = Subject(text_twin())
    for stage in run_stages(subject.backbone, subject.tensors):
        assert [len(values) for values in stage] == [len(ids) for ids in subject.tensors]


def test_run_stages_does_not_change_the_tensors():
    subject = Subject(image_twin())
    before = [tensor.clone() for tensor in subject.tensors]
    run_stages(subject.backbone, subject.tensors)
    assert all(map(torch.equal, before, subject.tensors))


def test_assert_close_names_stage_and_sample():
    subject = Subject(image_twin())
    stages = [[torch.ones(2), torch.ones(2)] for _ in range(3)]
    other = [[values.clone() for values in stage] for stage in stages]
    assert_close(other, stages, subject, "here", "nothing")
    other[1][1][0] = 1.5
    with pytest.raises(AssertionError, match=r"here, stage 1 \('middle'\) of mutants/maps differs by 0.5 in sample 1"):
        assert_close(other, stages, subject, "here", "look")
    other[1][1] = torch.full((2,), torch.nan)
    with pytest.raises(AssertionError, match="differs by nan"):
        assert_close(other, stages, subject, "here", "look")
    other[1][1] = torch.ones(3)
    with pytest.raises(AssertionError, match=r"shape \(3,\) for sample 1; expected: \(2,\). To fix: look"):
        assert_close(other, stages, subject, "here", "look")


def test_require_states_what_was_seen_what_is_expected_and_how_to_fix():
    require(True, "a", expected="b", fix="c")
    with pytest.raises(AssertionError, match=r"a; expected: b\. To fix: c"):
        require(False, "a", expected="b", fix="c")


def test_restore_global_state_restores_torch_and_numpy():
    before = torch.get_rng_state(), torch.get_num_threads(), repr(np.random.get_state())  # noqa: NPY002
    with restore_global_state():
        torch.manual_seed(3)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(before[1] + 1)
        np.random.seed(3)  # noqa: NPY002
    assert torch.equal(before[0], torch.get_rng_state())
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (torch.float32, True)
    assert (torch.get_num_threads(), repr(np.random.get_state())) == before[1:]  # noqa: NPY002
