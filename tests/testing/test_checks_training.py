"""Checks inside estimators: each wrong backbone fails the check meant for it."""

from __future__ import annotations

import pytest

from sktransfer.testing import checks_training as training
from sktransfer.testing.backbone_subject import Subject
from tests.helpers.mutants import assert_caught, image_twin, meant_for, text_twin


@pytest.mark.parametrize("wrong", meant_for(training))
def test_checks_training_fail_for_mutants(wrong):
    assert_caught(wrong)


@pytest.mark.parametrize("twin", [image_twin, text_twin])
def test_checks_training_pass_for_the_twins(twin):
    subject = Subject(twin())
    for name in training.__all__:
        if name.startswith("check_"):
            getattr(training, name)(subject)


@pytest.mark.parametrize(("n", "depths"), [(1, [0, 1]), (4, [0, 1, 2, 3, 4]), (5, [0, 2, 4, 5]), (13, [0, 6, 12, 13])])
def test_freeze_depths_are_all_for_few_stages_and_some_for_many(n, depths):
    assert training.freeze_depths(n) == depths


def test_check_freezing_allows_a_stage_that_shares_parameters_with_a_lower_one():
    backbone = text_twin()
    backbone.stages[2] = backbone.stages[1]
    training.check_freezing(Subject(backbone))
