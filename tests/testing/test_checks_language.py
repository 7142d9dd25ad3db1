"""Checks of language-model heads: each wrong head fails the check meant for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sktransfer.backbones import LanguageModelHead
from sktransfer.backbones.backbone import Backbone
from sktransfer.testing import checks_language as language
from sktransfer.testing import yield_backbone_checks
from sktransfer.testing.backbone_subject import NotRun, Subject
from tests.helpers.huggingface_folders import make_folder
from tests.helpers.mutants import text_twin

CHECKS = ("check_lm_head", "check_lm_reference", "check_lm_training")


def tied_output(stages):
    output = nn.Linear(8, 10)
    output.weight = stages[0].table.weight
    return output


class OverPositions(nn.Module):
    def forward(self, values):
        return values - values.mean(1, keepdim=True)


class Detached(nn.Module):
    def forward(self, values):
        return values.detach()


def with_head(make, kind="masked"):
    """Return the twin with a head, which `make` builds of its stages."""
    twin = text_twin()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        head = LanguageModelHead(kind, *make(twin.stages))
    return Backbone(
        name="mutants/words",
        modality="text",
        stages=list(zip(twin.stage_names, twin.stages)),
        preprocess=twin.preprocess,
        pooling="mean",
        lm_head=head,
    )


def untied(stages):
    output = nn.Linear(8, 10)
    output.weight = nn.Parameter(stages[0].table.weight.detach().clone())
    return output


WRONG = {
    "two dimensions": ("check_lm_head", lambda stages: [tied_output(stages), nn.Flatten(0, 1)], "shape"),
    "few tokens": ("check_lm_head", lambda stages: [nn.Linear(8, 3)], "logits for 3 tokens"),
    "not finite": (
        "check_lm_head",
        lambda stages: [tied_output(stages), nn.Threshold(0.0, float("nan"))],
        "not finite",
    ),
    "over positions": ("check_lm_head", lambda stages: [OverPositions(), tied_output(stages)], "alone"),
    "a copy of the table": ("check_lm_head", lambda stages: [untied(stages)], "is a copy of"),
    "detached": ("check_lm_training", lambda stages: [Detached(), tied_output(stages)], "reaches stage 1"),
}


def test_check_lm_head_passes_for_a_correct_head():
    backbone = with_head(lambda stages: [nn.LayerNorm(8), tied_output(stages)])
    checks = dict(yield_backbone_checks(backbone, lm_reference=own_forward(backbone)))
    for name in CHECKS:
        checks[name]()


def own_forward(backbone, shift=0.0):
    def forward(values, mask):
        for stage in backbone.stages:
            values = stage(values, mask)
        return backbone.lm_head(values) + shift

    return forward


@pytest.mark.parametrize("wrong", list(WRONG))
def test_checks_language_fail_for_wrong_heads(wrong):
    check, make, word = WRONG[wrong]
    with pytest.raises(AssertionError, match=word) as caught:
        dict(yield_backbone_checks(with_head(make)))[check]()
    for part in ("mutants/words", "expected: ", "To fix: ", "Rule: "):
        assert part in str(caught.value)


def test_check_lm_head_finds_a_causal_head_on_stages_that_look_ahead():
    backbone = with_head(lambda stages: [tied_output(stages)], "causal")
    with pytest.raises(AssertionError, match=r"if a token is appended.*declare the kind 'masked'"):
        dict(yield_backbone_checks(backbone))["check_lm_head"]()


def test_check_lm_reference_finds_another_head():
    backbone = with_head(lambda stages: [tied_output(stages)])
    language.check_lm_reference(Subject(backbone, lm_reference=own_forward(backbone)))
    with pytest.raises(AssertionError, match="the transform, the norm and the bias"):
        language.check_lm_reference(Subject(backbone, lm_reference=own_forward(backbone, shift=0.1)))
    with pytest.raises(AssertionError, match=r"the reference \(4, 3\)"):
        language.check_lm_reference(Subject(backbone, lm_reference=lambda values, mask: torch.ones(4, 3)))


@pytest.mark.parametrize("check", CHECKS)
def test_checks_language_are_not_run_without_a_head(check):
    with pytest.raises(NotRun, match="has no language-model head"):
        getattr(language, check)(Subject(text_twin()))
    with pytest.raises(NotRun, match="has no language-model head"):
        getattr(language, check)(Subject("tiny/cnn"))


def test_check_lm_reference_is_not_run_without_a_reference():
    with pytest.raises(NotRun, match="no reference was given"):
        language.check_lm_reference(Subject(with_head(lambda stages: [tied_output(stages)])))


@pytest.mark.parametrize(("case", "head"), [("bert", "ForMaskedLM"), ("gpt2", "ForCausalLM")])
def test_check_backbone_passes_language_checks_for_a_model_of_transformers(case, head, tmp_path):
    model = make_folder(case, tmp_path, head)

    def forward(ids, mask):
        return model(input_ids=ids, attention_mask=mask.long()).logits

    checks = dict(yield_backbone_checks(f"hf/{tmp_path}", lm_reference=forward))
    for name in CHECKS:
        checks[name]()
