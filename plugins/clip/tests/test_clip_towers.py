"""Both towers, held against CLIPModel itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from clip_folders import SIDE, SPACE, TEXTS, build, distance, folder, save
from PIL import Image

from sktransfer import ImageFeaturizer, TextFeaturizer, load_backbone
from sktransfer.exceptions import InvalidParameterError, TruncatedTextWarning
from sktransfer.testing import parametrize_with_backbone_checks, yield_backbone_checks

IMAGES = f"clip/{folder()}"
WORDS = f"{IMAGES}#text"


def pixels(n=3):
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def picture(width, height):
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 5 + i) * np.cos(columns / (7 + i)) for i in range(3)]
    return Image.fromarray(((np.stack(waves, 2) + 1) * 127).astype(np.uint8))


def vectors_of_texts(model, texts=TEXTS):
    tokens = transformers.AutoTokenizer.from_pretrained(folder())
    batch = tokens(texts, return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        return model.get_text_features(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).pooler_output


@parametrize_with_backbone_checks([IMAGES, WORDS])
def test_backbone_checks(backbone_name, check):
    check()


@torch.no_grad()
def test_run_equals_get_image_features():
    model = build()
    expected = model.get_image_features(pixels()).pooler_output
    *_, found = load_backbone(IMAGES).run(pixels())
    assert found.shape == (3, SPACE)
    assert distance(found, expected) < 1e-5
    assert distance(expected[:1], expected[1:2]) > 0.1  # else a network that ignores its input would pass

    def forward(values):
        return model.get_image_features(values).pooler_output

    dict(yield_backbone_checks(IMAGES, reference=forward))["check_reference"]()


def test_textfeaturizer_equals_get_text_features():
    with pytest.warns(TruncatedTextWarning):  # the longest: its closing token stays
        found = TextFeaturizer(WORDS, cache=None).fit_transform(TEXTS)
    expected = vectors_of_texts(build())
    assert distance(torch.from_numpy(found), expected) < 1e-5
    assert distance(expected[:1], expected[1:2]) > 0.1


def test_imagefeaturizer_prepares_photos_as_the_processor_of_clip():
    photos = [picture(40, 30), picture(24, 50)]
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder())
    with torch.no_grad():
        expected = build().get_image_features(processor(photos, return_tensors="pt")["pixel_values"]).pooler_output
    found = ImageFeaturizer(IMAGES, cache=None).fit_transform(photos)
    assert distance(torch.from_numpy(found), expected) < 1e-5


def test_eos_token_id_of_2_means_the_highest_token(tmp_path):
    model = build(end=2)
    name = f"clip/{save(tmp_path, model)}#text"
    found = TextFeaturizer(name, cache=None).fit_transform(TEXTS[:2])
    assert distance(torch.from_numpy(found), vectors_of_texts(model, TEXTS[:2])) < 1e-5


@pytest.mark.parametrize("name", [IMAGES, WORDS])
def test_shared_space_names_the_text_tower_and_the_scale(name):
    space = load_backbone(name).shared_space
    assert space.texts == WORDS
    assert space.scale == pytest.approx(float(torch.tensor(1.0).exp()))


def test_load_backbone_random_towers_of_one_seed_are_of_one_model():
    images, words = (load_backbone(name, weights="random", seed=4) for name in (IMAGES, WORDS))
    config = build().config
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(4)
        model = transformers.CLIPModel(config)
    assert torch.equal(images.stages[-1].project.weight, model.visual_projection.weight)
    assert torch.equal(words.stages[-1].project.weight, model.text_projection.weight)


def test_preprocess_of_another_size_is_refused():
    with pytest.raises(InvalidParameterError, match=r"8x8 pixels.*takes 16x16.*'resize': 16"):
        ImageFeaturizer(IMAGES, preprocess={"resize": 8, "crop": (8, 8)}, cache=None).fit([picture(8, 8)])
