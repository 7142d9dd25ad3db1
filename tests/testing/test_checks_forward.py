"""Checks of what stages give: each wrong backbone fails the check meant for it."""

from __future__ import annotations

import pytest
import torch

from sktransfer.testing import checks_forward as forward
from sktransfer.testing.backbone_checks import CHECKS
from sktransfer.testing.backbone_subject import NotRun, Subject
from tests.helpers.mutants import IN_MEMORY, assert_caught, image_twin, meant_for, text_twin


@pytest.mark.parametrize("wrong", meant_for(forward))
def test_a_wrong_backbone_fails_the_check_meant_for_it(wrong):
    assert_caught(wrong)


def test_there_are_many_wrong_backbones_and_each_has_its_check():
    assert len(IN_MEMORY) >= 14
    assert {check for check, *_ in IN_MEMORY.values()} <= {check.__name__ for check in CHECKS}


def test_stages_that_are_swapped_differ_from_the_reference():
    other = image_twin(seed=1)

    def reference(values):
        return own_forward(other, values)

    with pytest.raises(AssertionError, match="the head's logits differ from the reference"):
        forward.check_reference(Subject(image_twin(), reference=reference))


def own_forward(backbone, values, mask=None):
    for stage in backbone.stages:
        values = stage(values, mask)
    return values if backbone.head is None else backbone.head(values, mask)


def test_a_layer_that_is_left_out_between_two_stages_differs_from_the_reference():
    backbone = image_twin()

    def reference(values):
        stem, middle, top = backbone.stages
        return backbone.head(top(torch.relu(middle(stem(values)))))

    with pytest.raises(AssertionError, match="no layer between two stages is left out"):
        forward.check_reference(Subject(backbone, reference=reference))


def test_texts_without_a_head_are_compared_by_the_last_stage_where_tokens_are_real():
    backbone = text_twin()

    def reference(values, mask):
        return own_forward(backbone, values, mask) + 7.0 * ~mask[:, :, None]  # padding is nobody's

    forward.check_reference(Subject(backbone, reference=reference))


def test_a_reference_that_gives_the_same_for_all_samples_shows_nothing():
    with pytest.raises(AssertionError, match="about the same for all samples"):
        forward.check_reference(Subject(image_twin(), reference=lambda values: torch.ones(len(values), 3)))
    with pytest.raises(AssertionError, match=r"shape \(4, 3\), the reference gives \(4, 2\)"):
        forward.check_reference(Subject(image_twin(), reference=lambda values: torch.ones(len(values), 2)))


def test_without_a_reference_and_for_images_checks_say_why_they_are_not_run():
    with pytest.raises(NotRun, match="no reference was given"):
        forward.check_reference(Subject(image_twin()))
    with pytest.raises(NotRun, match="images have no padding"):
        forward.check_padding(Subject(image_twin()))


def test_a_stage_that_writes_into_what_it_gets_is_allowed():
    class InPlace(torch.nn.Module):
        def __init__(self, right):
            super().__init__()
            self.right = right

        def forward(self, values, mask=None):
            return self.right(values.sub_(0.5))

    subject = Subject(image_twin(middle=InPlace))
    for check in (forward.check_values, forward.check_determinism, forward.check_restart, forward.check_batch):
        check(subject)
