"""Checks of loading: what cannot be pickled or differs elsewhere is found. The zoo has wrong loaders."""

from __future__ import annotations

import pytest
import torch

from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.testing import checks_loading as loading
from sktransfer.testing.backbone_subject import NotRun, Subject
from tests.helpers.mutants import HoldsFunction, assert_caught, image_twin, meant_for


@pytest.mark.parametrize("wrong", meant_for(loading))
def test_a_wrong_backbone_fails_the_check_meant_for_it(wrong):
    assert_caught(wrong)


def test_the_loaders_checks_are_not_run_for_a_loaded_backbone():
    for check in (loading.check_offline, loading.check_beside_another):
        with pytest.raises(NotRun, match="it has no loader"):
            check(Subject(image_twin()))


class OtherElsewhere(torch.nn.Module):
    """What it adds is drawn by each process."""

    added = float(torch.randint(1, 2**31, (1,), generator=torch.Generator().manual_seed(torch.seed() % 2**31)))

    def __init__(self, right):
        super().__init__()
        self.right = right

    def forward(self, values, mask=None):
        return self.right(values) + self.added


class ForgetsSettings(ImageTransform):
    def __reduce__(self):
        return ImageTransform, ()


def test_values_that_differ_in_another_process_are_found():
    with pytest.raises(AssertionError, match=r"in a fresh process, stage 1 \('middle'\) of mutants/maps differs"):
        loading.check_reload(Subject(image_twin(middle=OtherElsewhere)))


def test_a_preprocessing_that_forgets_its_settings_is_found():
    with pytest.raises(AssertionError, match="comes out of pickle with"):
        loading.check_pickle(Subject(image_twin(preprocess=ForgetsSettings(resize=(12, 12)))))


def test_a_backbone_that_cannot_be_pickled_cannot_be_tried_elsewhere():
    with pytest.raises(Exception, match=r"(?i)pickle"):
        loading.check_reload(Subject(image_twin(preprocess=HoldsFunction())))
