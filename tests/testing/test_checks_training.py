"""Checks inside estimators: each wrong backbone fails the check meant for it."""

from __future__ import annotations

import pytest

from sktransfer.testing import checks_training as training
from sktransfer.testing.backbone_subject import Subject
from tests.helpers.mutants import assert_caught, image_twin, meant_for, text_twin


@pytest.mark.parametrize("wrong", meant_for(training))
def test_a_wrong_backbone_fails_the_check_meant_for_it(wrong):
    assert_caught(wrong)


@pytest.mark.parametrize("twin", [image_twin, text_twin])
def test_right_ones_pass(twin):
    subject = Subject(twin())
    for name in training.__all__:
        if name.startswith("check_"):
            getattr(training, name)(subject)


@pytest.mark.parametrize(("n", "depths"), [(1, [0, 1]), (4, [0, 1, 2, 3, 4]), (5, [0, 2, 4, 5]), (13, [0, 6, 12, 13])])
def test_few_stages_are_frozen_at_every_depth_and_many_at_some(n, depths):
    assert training.freezing_depths(n) == depths


def test_a_parameter_of_a_lower_stage_is_not_asked_to_train_above_the_cut():
    backbone = text_twin()
    backbone.stages[2] = backbone.stages[1]
    training.check_freezing(Subject(backbone))
