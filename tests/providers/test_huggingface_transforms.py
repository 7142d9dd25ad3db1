"""Preprocessing read from JSON against transformers' own image processors."""

from __future__ import annotations

import numpy as np
import pytest
import transformers
from PIL import Image

from sktransfer.exceptions import WeightsError
from sktransfer.providers.huggingface_image import read_transform

COLOURS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}


def picture(width: int, height: int) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 5 + i) * np.cos(columns / (7 + i)) for i in range(3)]
    return Image.fromarray(((np.stack(waves, 2) + 1) * 127).astype(np.uint8))


CASES = {
    "vit": ("vit", "ViTImageProcessor", {"size": {"height": 24, "width": 32}, "resample": 2}),
    "vit of old": (
        "vit",
        "ViTImageProcessor",
        {"size": {"height": 24, "width": 24}, "resample": 3, "do_rescale": True},
    ),
    "dinov2": (
        "dinov2",
        "BitImageProcessor",
        {
            "size": {"shortest_edge": 32},
            "do_center_crop": True,
            "crop_size": {"height": 24, "width": 24},
            "resample": 3,
        },
    ),
    "no crop": ("dinov2", "BitImageProcessor", {"size": {"shortest_edge": 30}, "do_center_crop": False, "resample": 2}),
    "no resizing": ("vit", "ViTImageProcessor", {"do_resize": False}),
    "not normalised": ("vit", "ViTImageProcessor", {"size": {"height": 8, "width": 8}, "do_normalize": False}),
    "convnext": (
        "convnext",
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 28}, "crop_pct": 0.875, "resample": 3},
    ),
    "convnext large": ("convnext", "ConvNextImageProcessor", {"size": {"shortest_edge": 384}, "crop_pct": 0.9}),
}


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("size", [(64, 48), (40, 80), (50, 50)])
def test_read_transform_equals_the_image_processor_of_transformers(case, size):
    kind, processor, settings = CASES[case]
    settings = COLOURS | {"resample": 2} | settings
    own = getattr(transformers, f"{processor}Pil")(**settings)
    expected = own(picture(*size), return_tensors="pt")["pixel_values"][0]
    named = {**settings, "image_processor_type": processor}
    found = read_transform(named, kind, "hf/x")([picture(*size)])[0]
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5
    assert expected.std() > 0.1


@pytest.mark.parametrize(
    ("kind", "settings", "resize", "crop"),
    [
        ("vit", {"size": 224}, (224, 224), None),
        ("dinov2", {"size": 256, "do_center_crop": True, "crop_size": 224}, 256, (224, 224)),
        ("convnext", {"size": 224, "crop_pct": 0.875}, 256, (224, 224)),
        ("convnext", {"size": 384, "crop_pct": 1.0}, (384, 384), None),
        ("convnext", {"size": 224, "feature_extractor_type": "ConvNextFeatureExtractor"}, 256, (224, 224)),
    ],
)
def test_read_transform_reads_single_numbers_of_old_files(kind, settings, resize, crop):
    transform = read_transform({**COLOURS, **settings}, kind, "hf/x")
    assert (transform.resize, transform.crop) == (resize, crop)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (None, "hf/x: lacks preprocessor_config.json"),
        ({**COLOURS, "size": 8, "do_rescale": False}, "does not rescale"),
        ({**COLOURS, "size": 8, "rescale_factor": 1 / 127.5}, "does not rescale"),
        ({**COLOURS, "size": 8, "resample": 5}, "resample=5 is not supported"),
        ({"size": 8}, "lacks a setting or has an invalid one: 'image_mean'"),
        ({**COLOURS, "size": {"longest_edge": 8}}, "invalid one: 'height'"),
        ({**COLOURS, "size": 8, "do_center_crop": True}, "invalid one: 'crop_size'"),
        (COLOURS, "lacks a setting or has an invalid one: 'NoneType'"),
    ],
)
def test_read_transform_refuses_unsupported_settings(settings, message):
    with pytest.raises(WeightsError, match=message):
        read_transform(settings, "vit", "hf/x")
