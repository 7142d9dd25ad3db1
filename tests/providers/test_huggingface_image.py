"""Stages and heads of image models against transformers' own forward, on weights that make every layer matter."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from sktransfer import load_backbone
from sktransfer.backbones.backbone import Backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.providers.huggingface_image import IMAGE_HEADS, IMAGE_STAGES
from tests.helpers.huggingface_folders import IMAGE_MODELS, distance, make_folder

CLOSE = 1e-5
LABELS = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
cases = pytest.mark.parametrize("case", list(IMAGE_MODELS))


@lru_cache
def pair(case: str) -> tuple[Any, Backbone]:
    with TemporaryDirectory() as folder:
        model = make_folder(case, Path(folder), "ForImageClassification", **LABELS)
        return model, load_backbone(f"hf/{folder}")


def images(case: str) -> torch.Tensor:
    side = 64 if case.startswith("convnext") else 16
    generator = torch.Generator().manual_seed(1)
    # Each image has a tint of its own: it is what is left where a network averages over whole images.
    coarse = torch.randn(4, 3, 4, 4, generator=generator) + 3 * torch.randn(4, 3, 1, 1, generator=generator)
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")  # (4, 3, side, side)


@torch.no_grad()
def run(backbone: Backbone, values: torch.Tensor, stages: list[int] | None = None) -> torch.Tensor:
    for i in range(len(backbone.stages)) if stages is None else stages:
        values = backbone.stages[i](values, None)
    return values


def test_image_stages_and_image_heads_cover_every_supported_type():
    assert {kind for kind, _ in IMAGE_MODELS.values()} == set(IMAGE_STAGES) == set(IMAGE_HEADS)


@cases
@torch.no_grad()
def test_image_stages_and_image_heads_equal_transformers(case):
    model, backbone = pair(case)
    pixels = images(case)
    base = model.base_model(pixels, output_hidden_states=True)
    values = list(backbone.run(pixels))
    for ours, theirs in zip(values[:-1], base.hidden_states[:-1], strict=True):
        assert distance(ours, theirs) <= CLOSE
    assert distance(values[-1], base.last_hidden_state) <= CLOSE
    logits = model(pixels).logits
    assert distance(backbone.head(values[-1], None), logits) <= CLOSE
    assert backbone.categories == ("a", "b", "c")
    assert 0.2 < values[-1].std() < 5
    assert logits.std(0).mean() > 0.05  # another for each sample


@cases
def test_image_stages_all_matter_and_their_order_too(case):
    _, backbone = pair(case)
    pixels = images(case)
    whole = run(backbone, pixels)
    for order in ([0, 2, 3, 4], [0, 1, 3, 4], [0, 1, 2, 4], [0, 1, 2, 3], [0, 2, 1, 3, 4], [0, 1, 3, 2, 4]):
        values = run(backbone, pixels, order)
        assert values.shape != whole.shape or distance(values, whole) > 100 * CLOSE


@cases
def test_image_stages_are_independent_of_the_batch_and_run_from_every_cut(case):
    _, backbone = pair(case)
    pixels = images(case)
    whole = run(backbone, pixels)
    for one, values in zip(pixels, whole):
        assert distance(run(backbone, one[None])[0], values) <= CLOSE
    for cut in range(1, 5):
        kept = run(backbone, pixels, list(range(cut))).clone()
        assert distance(run(backbone, kept, list(range(cut, 5))), whole) <= CLOSE


@pytest.mark.parametrize(
    ("case", "prefix", "pooling"),
    [
        ("vit", 1, "class_token"),
        ("dinov2", 1, "class_token"),
        ("dinov2_with_registers", 4, "class_token"),
        ("convnext", 0, "average"),
    ],
)
def test_prefix_tokens_and_pooling_of_image_models(case, prefix, pooling):
    _, backbone = pair(case)
    assert (backbone.prefix_tokens, backbone.pooling) == (prefix, pooling)
    values = run(backbone, images(case))
    if prefix:
        assert values.shape[1] == prefix + 16


def test_image_stages_of_vit_name_the_size_it_takes():
    _, backbone = pair("vit")
    with pytest.raises(InvalidParameterError, match=r"24x16 pixels, but the network takes 16x16; set preprocess="):
        run(backbone, torch.zeros(1, 3, 24, 16))


@torch.no_grad()
def test_image_stages_of_dinov2_take_other_sizes():
    model, backbone = pair("dinov2")
    pixels = torch.randn(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    assert distance(run(backbone, pixels), model.base_model(pixels).last_hidden_state) <= CLOSE
