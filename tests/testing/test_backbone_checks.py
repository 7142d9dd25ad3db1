"""check_backbone: right backbones pass all checks, and expected failures are strict."""

from __future__ import annotations

import importlib
import inspect

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
LM_HEAD = {"check_lm_head", "check_lm_reference", "check_lm_training"}
DEVICES = set() if torch.cuda.is_available() else {"check_device", "check_device_memory"}


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    write_zoo(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.setattr(home, "_registry", None)


def names_by_status(results):
    names = {}
    for result in results:
        names.setdefault(result.status, set()).add(result.name)
    return names


def own_forward(backbone):
    def forward(values, mask=None):
        for stage in backbone.stages:
            values = stage(values, mask)
        return values if backbone.head is None else backbone.head(values, mask)

    return forward


@pytest.mark.process
@pytest.mark.parametrize(("twin", "missing"), [(image_twin, {"check_padding"}), (text_twin, set())])
def test_check_backbone_passes_for_the_unmutated_twins(twin, missing):
    results = check_backbone(twin(), reference=own_forward(twin()))
    names = names_by_status(results)
    assert set(names) == {"passed", "not run"}
    assert names["not run"] == SPEC_AND_LOADER | LM_HEAD | DEVICES | missing
    assert [result.name for result in results] == [check.__name__ for check in CHECKS]
    assert all(result.reason for result in results if result.status == "not run")


@pytest.mark.process
def test_check_backbone_passes_for_the_right_zoo_by_name(zoo):
    names = names_by_status(check_backbone("zoo/right"))
    assert set(names) == {"passed", "not run"}
    assert names["not run"] == {"check_reference", "check_padding"} | LM_HEAD | DEVICES


@pytest.mark.process
@parametrize_with_backbone_checks(["tiny/cnn", "hf/" + small_bert()])
def test_parametrize_with_backbone_checks_on_built_in_backbones(backbone_name, check):
    check()


def double_backbone():
    return IN_MEMORY["gives float64"][1]()


@pytest.mark.process
def test_check_backbone_raises_all_failures_together():
    with pytest.raises(AssertionError) as caught:
        check_backbone(double_backbone())
    text = str(caught.value)
    assert "check_values: stage 1 ('middle') of mutants/maps gives torch.float64; expected: torch.float32." in text
    assert "To fix: " in text
    assert "Rule: each stage returns a finite, contiguous float32 tensor" in text
    assert text.count("Rule: ") == int(text.split()[0]) > 1


@pytest.mark.process
def test_expected_failures_are_strict():
    backbone = IN_MEMORY["keeps activations"][1]()
    expected = {"check_memory": "for the test", "check_order": "no longer", "check_padding": "does not apply"}
    results = {result.name: result for result in check_backbone(backbone, expected_failures=expected, on_fail=None)}
    assert (results["check_memory"].status, results["check_memory"].reason) == ("expected", "for the test")
    assert results["check_order"].status == "failed"
    assert (
        "passes, but is expected to fail (no longer): remove it from expected_failures" in results["check_order"].reason
    )
    assert (results["check_padding"].status, results["check_padding"].reason) == ("not run", "images have no padding")
    assert [name for name, result in results.items() if result.status == "failed"] == ["check_order"]


def test_parametrize_with_backbone_checks_ids_leave_out_parent_folders():
    (case, *_) = parametrize_with_backbone_checks(["hf/" + small_bert()]).args[1]
    assert case.id == "hf/small-bert-check_light_listing"
    assert case.values[0] == "hf/" + small_bert()


def test_expected_failures_must_name_checks():
    with pytest.raises(InvalidParameterError, match=r"'check_valus' is no check.*Did you mean 'check_values'"):
        check_backbone("tiny/cnn", expected_failures={"check_valus": "typo"})
    with pytest.raises(InvalidParameterError, match="is no check"):
        parametrize_with_backbone_checks(["tiny/cnn"], {"check_valus": "typo"})


def test_check_backbone_checks_its_arguments():
    with pytest.raises(InvalidParameterError, match="on_fail='warn' must be 'raise' or None"):
        check_backbone("tiny/cnn", on_fail="warn")
    with pytest.raises(InvalidParameterError, match="must be a name or a Backbone, not int"):
        check_backbone(3)
    with pytest.raises(BackboneNotFoundError, match="tiny/cn"):
        check_backbone("tiny/cn")


def test_parametrize_with_backbone_checks_gives_readable_ids_and_marks_expected_failures():
    mark = parametrize_with_backbone_checks(
        ["tiny/cnn", image_twin()], lambda name: {"check_values": "known"} if name == "tiny/cnn" else {}
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


def test_yield_backbone_checks_load_nothing_before_they_run():
    checks = dict(yield_backbone_checks(double_backbone()))
    assert list(checks) == [check.__name__ for check in CHECKS]
    with pytest.raises(AssertionError, match=r"torch\.float64"):
        checks["check_values"]()
    assert len(list(yield_backbone_checks("nobody/has this"))) == len(CHECKS)


def test_checks_state_a_rule_and_how_to_fix_a_failure():
    assert len(CHECKS) == 31
    for check in CHECKS:
        rule, _, fix = inspect.getdoc(check).partition("\n\nTo fix: ")
        assert rule.startswith("Check that "), check
        assert rule.endswith("."), check
        assert fix.strip().endswith("."), f"{check.__name__} states a rule, but no way to fix"
