"""Each family of torchvision's networks: what its stages compute, on weights under which every stage matters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from sktransfer.backbones.registry import registry
from sktransfer.exceptions import PluginError
from sktransfer.providers.torchvision_stages import Cut, build, cut
from tests.helpers.random_weights import distinct_images, make_weights_matter

# The smallest of each family, and what differs in structure; with a side in pixels that it works on.
SIDES = {
    "alexnet": 64,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "maxvit_t": 224,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_large": 64,
    "mobilenet_v3_small": 64,
    "regnet_x_400mf": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "resnext50_32x4d": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_0": 64,
    "squeezenet1_1": 64,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vgg11": 64,
    "vgg11_bn": 64,
    "vit_b_32": 224,
    "wide_resnet50_2": 64,
}
PRETRAINED = {"transform_input": True, "aux_logits": True, "init_weights": False}  # what torchvision's weights ask for
OPTIONS = {"googlenet": PRETRAINED, "inception_v3": PRETRAINED}


@dataclass
class Case:
    name: str
    model: nn.Module
    parts: Cut
    behind: list[Tensor]  # the images, then what each stage gives
    logits: Tensor  # torchvision's own

    @property
    def stages(self) -> list[nn.Module]:
        return [stage for _, stage in self.parts.stages]


@pytest.fixture(scope="module", params=SIDES)
def case(request) -> Iterator[Case]:
    name = request.param
    with torch.random.fork_rng(devices=[]):
        model = models.get_model(name, weights=None, **OPTIONS.get(name, {}))
    side = SIDES[name]
    images = distinct_images(2 if side > 96 else 16, side)  # small ones give the statistics of batch norms few values
    make_weights_matter(model, images)
    parts = cut(model)
    with torch.inference_mode():
        behind = [images[:3]]
        for _, stage in parts.stages:
            behind.append(stage(behind[-1]))
        yield Case(name, model, parts, behind, model(images[:3]))


def run(stages: Sequence[nn.Module], head: nn.Module, values: Tensor) -> Tensor:
    for stage in stages:
        values = stage(values)
    return head(values)


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference in units of the largest value expected."""
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


def assert_wrong(stages: Sequence[nn.Module], head: nn.Module, values: Tensor, expected: Tensor) -> None:
    try:
        logits = run(stages, head, values)
    except (RuntimeError, ValueError, AssertionError):
        return  # shapes do not fit
    assert relative(logits, expected) > 1e-3


def test_cut_cases_have_logits_of_order_one_that_differ_between_images(case):
    largest = case.logits.abs().max().item()
    assert 0.1 < largest < 100
    assert case.logits.std(0).mean() > 0.05 * largest


@torch.inference_mode()
def test_cut_stages_and_head_equal_torchvision(case):
    assert relative(case.parts.head(case.behind[-1]), case.logits) <= 1e-5


@torch.inference_mode()
def test_cut_stages_differ_when_one_is_left_out(case):
    for k in range(len(case.stages)):
        assert_wrong(case.stages[k + 1 :], case.parts.head, case.behind[k], case.logits)


@torch.inference_mode()
def test_cut_stages_differ_when_two_neighbours_are_swapped(case):
    for k in range(len(case.stages) - 1):
        swapped = [case.stages[k + 1], case.stages[k], *case.stages[k + 2 :]]
        assert_wrong(swapped, case.parts.head, case.behind[k], case.logits)


@torch.inference_mode()
def test_cut_stages_run_from_values_stored_at_every_cut(case):
    for k in range(1, len(case.stages) + 1):
        stored = case.behind[k].contiguous().clone()
        assert relative(run(case.stages[k:], case.parts.head, stored), case.logits) <= 1e-5


@torch.inference_mode()
def test_cut_stages_are_independent_of_the_batch(case):
    alone = case.behind[0][1:2]
    for stage, together in zip(case.stages, case.behind[1:], strict=True):
        alone = stage(alone)
        assert (alone - together[1:2]).abs().max() <= 1e-5 * together.abs().max()
    assert (case.parts.head(alone) - case.logits[1:2]).abs().max() <= 1e-5 * case.logits.abs().max()


@torch.inference_mode()
def test_cut_stage_names_widths_and_shapes_agree_with_the_spec(case):
    spec = registry().specs[f"torchvision/{case.name}"]
    assert [name for name, _ in case.parts.stages] == list(spec.stages)
    for values, width in zip(case.behind[1:], spec.stages.values(), strict=True):
        assert values.ndim in (2, 3, 4)
        assert values.shape[2 if values.ndim == 3 else 1] == width


@torch.inference_mode()
def test_cut_stages_leave_their_input_unchanged_in_eval_and_train_mode(case):
    statistics = {name: buffer.clone() for name, buffer in case.model.named_buffers()}
    for mode in (False, True):
        case.model.train(mode)
        for stage, values in zip([*case.stages, case.parts.head], case.behind, strict=True):
            given = values.clone()
            stage.train(mode)(given)
            assert torch.equal(given, values)
    case.model.eval()
    for stage in [*case.stages, case.parts.head]:
        stage.eval()
    for name, buffer in case.model.named_buffers():
        buffer.copy_(statistics[name])


def test_cut_puts_every_tensor_in_one_stage_or_the_head(case):
    parts = [*case.stages, case.parts.head]
    found = [id(parameter) for part in parts for parameter in part.parameters()]
    unused = ("aux1.", "aux2.", "AuxLogits.")
    assert len(found) == len(set(found))
    assert set(found) == {id(p) for name, p in case.model.named_parameters() if not name.startswith(unused)}
    head = {id(parameter) for parameter in case.parts.head.parameters()}
    assert head == {id(p) for name, p in case.model.named_parameters() if name.startswith(case.parts.head_prefix)}


def test_build_of_googlenet_fits_its_weights():
    model = build("googlenet", models.GoogLeNet_Weights.DEFAULT)
    assert model.transform_input
    assert model.aux1 is None


def test_cut_names_the_known_families_for_an_unknown_one():
    with pytest.raises(PluginError, match=r"Linear cannot be divided into stages.*ResNet"):
        cut(nn.Linear(1, 1))
