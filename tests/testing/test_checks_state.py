"""Checks of side effects: each wrong backbone fails the check meant for it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from sktransfer.testing import checks_state as state
from sktransfer.testing.backbone_subject import Subject
from tests.helpers.mutants import assert_caught, image_twin, meant_for, text_twin


@pytest.mark.parametrize("wrong", meant_for(state))
def test_checks_state_fail_for_mutants(wrong):
    assert_caught(wrong)


def test_checks_restore_the_global_state_that_mutants_change():
    numpy_state, torch_state = repr(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    python_state = random.getstate()
    assert_caught("seeds torch")
    assert_caught("sets the default dtype")
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch_state, torch.get_rng_state())
    assert numpy_state == repr(np.random.get_state())  # noqa: NPY002
    assert python_state == random.getstate()


@pytest.mark.parametrize("twin", [image_twin, text_twin])
def test_checks_state_pass_for_the_twins(twin):
    subject = Subject(twin())
    for name in state.__all__:
        getattr(state, name)(subject)


def test_check_odd_inputs_allows_a_value_error_for_every_empty_text():
    class Refuses(type(text_twin().preprocess)):
        def tokenize(self, samples):
            if "" in samples:
                raise ValueError("an empty text")
            return super().tokenize(samples)

    state.check_odd_inputs(Subject(text_twin(words=Refuses)))


def test_check_odd_inputs_finds_a_value_error_for_an_empty_text_in_a_batch_only():
    class RefusesInCompany(type(text_twin().preprocess)):
        def tokenize(self, samples):
            if "" in samples and len(samples) > 1:
                raise ValueError("an empty text")
            return super().tokenize(samples)

        def __call__(self, samples):
            return self.tokenize(samples)[0]

    with pytest.raises(AssertionError, match="a ValueError both times"):
        state.check_odd_inputs(Subject(text_twin(words=RefusesInCompany)))
