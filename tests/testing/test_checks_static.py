"""Checks of what a plugin declares: each wrong declaration of the zoo fails the check meant for it."""

from __future__ import annotations

import importlib

import pytest

import sktransfer.backbones.registry as home
from sktransfer.testing import checks_static as static
from sktransfer.testing import yield_backbone_checks
from sktransfer.testing.backbone_subject import NotRun, Subject
from tests.helpers.mutants import image_twin
from tests.helpers.zoo import DECLARED, write_zoo


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    write_zoo(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.setattr(home, "_registry", None)


@pytest.mark.parametrize("wrong", DECLARED)
def test_what_is_declared_or_loaded_wrongly_fails_the_check_meant_for_it(zoo, wrong):
    check, name, word = DECLARED[wrong]
    with pytest.raises(AssertionError) as caught:
        dict(yield_backbone_checks(name))[check]()
    text = str(caught.value)
    assert word in text
    assert name in text
    assert "xpected" in text
    assert "Rule: " in text


def test_the_checks_of_the_spec_are_not_run_for_a_loaded_backbone():
    subject = Subject(image_twin())
    for check in (static.check_light_listing, static.check_stage_names, static.check_widths, static.check_input_size):
        with pytest.raises(NotRun, match="it has no spec and no loader"):
            check(subject)


def test_weights_without_a_hash_of_their_own_are_not_tampered_with(zoo):
    with pytest.raises(NotRun, match="no pretrained weights"):
        static.check_tampered_weights(Subject("zoo/right-random"))
    with pytest.raises(NotRun, match="not on this machine"):
        static.check_pretrained_differs(Subject("zoo/right-random"))


def test_weights_that_were_not_fetched_are_not_tampered_with(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(NotRun, match="is not on this machine"):
        static.check_tampered_weights(Subject("torchvision/resnet18"))


def test_listing_the_zoo_imports_nothing_heavy(zoo):
    static.check_light_listing(Subject("zoo/right"))
