"""The checks of backbones: right ones pass all, known failures are strict, and two of the house's are held to them."""

from __future__ import annotations

import importlib

import pytest
import torch

import sktransfer.backbones.registry as home
from sktransfer.exceptions import BackboneNotFoundError, InvalidParameterError
from sktransfer.testing import check_backbone, parametrize_with_backbone_checks, yield_backbone_checks
from sktransfer.testing.backbone_checks import CHECKS
from tests.helpers.mutants import IN_MEMORY, image_twin, text_twin
from tests.helpers.small_bert import small_bert
from tests.helpers.zoo import write_zoo

SPEC_AND_LOADER = {
    "check_light_listing",
    "check_stage_names",
    "check_widths",
    "check_input_size",
    "check_tampered_weights",
    "check_pretrained_differs",
    "check_offline",
    "check_beside_another",
}
DEVICES = set() if torch.cuda.is_available() else {"check_device", "check_device_memory"}


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    write_zoo(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.setattr(home, "_registry", None)


def statuses(results):
    found = {}
    for result in results:
        found.setdefault(result.status, set()).add(result.name)
    return found


def own_forward(backbone):
    def forward(values, mask=None):
        for stage in backbone.stages:
            values = stage(values, mask)
        return values if backbone.head is None else backbone.head(values, mask)

    return forward


@pytest.mark.parametrize(("twin", "missing"), [(image_twin, {"check_padding"}), (text_twin, set())])
def test_the_unmutated_twins_pass_all_checks(twin, missing):
    results = check_backbone(twin(), reference=own_forward(twin()))
    found = statuses(results)
    assert set(found) == {"passed", "not run"}
    assert found["not run"] == SPEC_AND_LOADER | DEVICES | missing
    assert [result.name for result in results] == [check.__name__ for check in CHECKS]
    assert all(result.reason for result in results if result.status == "not run")


def test_the_right_one_of_the_zoo_passes_the_checks_of_spec_and_loader_too(zoo):
    found = statuses(check_backbone("zoo/right"))
    assert set(found) == {"passed", "not run"}
    assert found["not run"] == {"check_reference", "check_padding"} | DEVICES


@parametrize_with_backbone_checks(["tiny/cnn", "hf/" + small_bert()])
def test_backbones_of_the_house(backbone_name, check):
    check()


def wrong():
    return IN_MEMORY["gives float64"][1]()


def test_all_failures_are_raised_together_at_the_end():
    with pytest.raises(AssertionError) as caught:
        check_backbone(wrong())
    text = str(caught.value)
    assert "check_values: stage 1 ('middle') of mutants/maps gives torch.float64; expected: torch.float32." in text
    assert "To fix: " in text
    assert "Rule: Each stage gives a finite, contiguous float32 tensor" in text
    assert text.count("Rule: ") == int(text.split()[0]) > 1


def test_known_failures_are_strict():
    backbone = IN_MEMORY["keeps activations"][1]()
    expected = {"check_memory": "for the test", "check_order": "no longer", "check_padding": "does not apply"}
    results = {result.name: result for result in check_backbone(backbone, expected_failures=expected, on_fail=None)}
    assert (results["check_memory"].status, results["check_memory"].reason) == ("expected", "for the test")
    assert results["check_order"].status == "failed"
    assert "passes, but is expected to fail (no longer): take it off the list" in results["check_order"].reason
    assert (results["check_padding"].status, results["check_padding"].reason) == ("not run", "images have no padding")
    assert [name for name, result in results.items() if result.status == "failed"] == ["check_order"]


def test_ids_name_a_folder_without_those_above_it():
    (case, *_) = parametrize_with_backbone_checks(["hf/" + small_bert()]).args[1]
    assert case.id == "hf/small-bert-check_light_listing"
    assert case.values[0] == "hf/" + small_bert()


def test_known_failures_that_name_no_check_are_an_error():
    with pytest.raises(InvalidParameterError, match=r"'check_valus' is no check.*Did you mean 'check_values'"):
        check_backbone("tiny/cnn", expected_failures={"check_valus": "typo"})
    with pytest.raises(InvalidParameterError, match="is no check"):
        parametrize_with_backbone_checks(["tiny/cnn"], {"check_valus": "typo"})


def test_arguments_that_are_not_allowed_are_errors():
    with pytest.raises(InvalidParameterError, match="on_fail='warn' must be 'raise' or None"):
        check_backbone("tiny/cnn", on_fail="warn")
    with pytest.raises(InvalidParameterError, match="must be a name or a Backbone, not int"):
        check_backbone(3)
    with pytest.raises(BackboneNotFoundError, match="tiny/cn"):
        check_backbone("tiny/cn")


def test_the_decorator_gives_readable_ids_and_marks_known_failures():
    mark = parametrize_with_backbone_checks(
        ["tiny/cnn", image_twin()], lambda one: {"check_values": "known"} if one == "tiny/cnn" else {}
    )
    names, cases = mark.args
    assert names == ("backbone_name", "check")
    assert len(cases) == 2 * len(CHECKS)
    assert cases[0].id == "tiny/cnn-check_light_listing"
    assert cases[-1].id == "mutants/maps-check_device_memory"
    marked = [case for case in cases if case.marks]
    assert [(case.id, case.marks[0].kwargs) for case in marked] == [
        ("tiny/cnn-check_values", {"reason": "known", "strict": True})
    ]


def test_yielded_checks_raise_and_load_nothing_before_they_run():
    checks = dict(yield_backbone_checks(wrong()))
    assert list(checks) == [check.__name__ for check in CHECKS]
    with pytest.raises(AssertionError, match=r"torch\.float64"):
        checks["check_values"]()
    assert len(list(yield_backbone_checks("nobody/has this"))) == len(CHECKS)


def test_every_check_states_its_rule_and_how_to_fix():
    for check in CHECKS:
        rule = check.__doc__.partition("\n")[0]
        assert rule.endswith("."), check
        assert ": " in rule, f"{check.__name__} states a rule, but no way to fix"
