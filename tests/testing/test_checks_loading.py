"""Checks of spec, weights and loader: each wrong declaration of the zoo fails the check meant for it."""

from __future__ import annotations

import importlib

import pytest
import torch

import sktransfer.backbones.registry as home
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.testing import checks_loading as loading
from sktransfer.testing import yield_backbone_checks
from sktransfer.testing.backbone_subject import NotRun, Subject
from tests.helpers.mutants import HoldsFunction, assert_caught, image_twin, meant_for
from tests.helpers.plugin_zoo import offers, toy_spec
from tests.helpers.zoo import DECLARED, write_zoo

pytest_plugins = ["tests.helpers.plugin_zoo_fixtures"]
STARTS_PROCESS = ("check_light_listing", "check_offline", "check_reload")


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    write_zoo(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.setattr(home, "_registry", None)


@pytest.mark.parametrize(("width", "agrees"), [(5, True), (6, False)])
def test_check_stage_names_compares_a_summary_with_the_found_spec(plugin, use, width, agrees):
    stages = {"stem": 4, "middle": 6, "top": width}
    listed, found = toy_spec("open/a", stages=stages, summary=True), toy_spec("open/a")
    finder = f"@hookimpl\ndef sktransfer_find_backbone(name):\n    return {found}\n"
    use(plugin("open", f"{offers(listed)}\n\n{finder}"))
    if agrees:
        loading.check_stage_names(Subject("open/a"))
        return
    with pytest.raises(AssertionError, match="sktransfer_backbones lists open/a with other stages"):
        loading.check_stage_names(Subject("open/a"))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(wrong, marks=pytest.mark.process if check in STARTS_PROCESS else ())
        for wrong, (check, *_) in DECLARED.items()
    ],
)
def test_checks_loading_fail_for_wrong_declarations(zoo, wrong):
    check, name, word = DECLARED[wrong]
    with pytest.raises(AssertionError) as caught:
        dict(yield_backbone_checks(name))[check]()
    text = str(caught.value)
    assert word in text
    assert name in text
    assert "xpected" in text
    assert "Rule: " in text


def test_checks_of_the_spec_are_not_run_for_a_loaded_backbone():
    subject = Subject(image_twin())
    for check in (
        loading.check_light_listing,
        loading.check_stage_names,
        loading.check_widths,
        loading.check_input_size,
    ):
        with pytest.raises(NotRun, match="it has no spec and no loader"):
            check(subject)


def test_check_tampered_weights_and_check_pretrained_differs_need_pretrained_weights(zoo):
    with pytest.raises(NotRun, match="no pretrained weights"):
        loading.check_tampered_weights(Subject("zoo/right-random"))
    with pytest.raises(NotRun, match="not on this machine"):
        loading.check_pretrained_differs(Subject("zoo/right-random"))


def test_check_tampered_weights_needs_local_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(NotRun, match="is not on this machine"):
        loading.check_tampered_weights(Subject("torchvision/resnet18"))


@pytest.mark.process
def test_check_light_listing_passes_for_the_right_zoo(zoo):
    loading.check_light_listing(Subject("zoo/right"))


@pytest.mark.parametrize("wrong", meant_for(loading))
def test_checks_loading_fail_for_mutants(wrong):
    assert_caught(wrong)


def test_checks_of_the_loader_are_not_run_for_a_loaded_backbone():
    for check in (loading.check_offline, loading.check_beside_another):
        with pytest.raises(NotRun, match="it has no loader"):
            check(Subject(image_twin()))


class OtherElsewhere(torch.nn.Module):
    """Add a number that each process draws."""

    added = float(torch.randint(1, 2**31, (1,), generator=torch.Generator().manual_seed(torch.seed() % 2**31)))

    def __init__(self, right):
        super().__init__()
        self.right = right

    def forward(self, values, mask=None):
        return self.right(values) + self.added


class ForgetsSettings(ImageTransform):
    def __reduce__(self):
        return ImageTransform, ()


@pytest.mark.process
def test_check_reload_finds_values_that_differ_in_another_process():
    with pytest.raises(AssertionError, match=r"in a new process, stage 1 \('middle'\) of mutants/maps differs"):
        loading.check_reload(Subject(image_twin(middle=OtherElsewhere)))


def test_check_pickle_finds_a_preprocessing_that_forgets_its_settings():
    with pytest.raises(AssertionError, match=r"has the fingerprint .* after pickling"):
        loading.check_pickle(Subject(image_twin(preprocess=ForgetsSettings(resize=(12, 12)))))


def test_check_reload_of_a_backbone_that_cannot_be_pickled_is_an_error():
    with pytest.raises(Exception, match=r"(?i)pickle|local object"):
        loading.check_reload(Subject(image_twin(preprocess=HoldsFunction())))
