from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sktransfer import ImageFeaturizer
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.samples.alpha import WHITE, flatten, flatten_pil
from sktransfer.samples.images import check_images

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
ALPHA = np.where(np.indices((8, 8)).sum(0) % 2, 255, 0).astype(np.uint8)[:, :, None]
SHOWN = np.where(ALPHA == 0, 255, COLOURS)  # on white


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgba(colours: np.ndarray = COLOURS, alpha: np.ndarray = ALPHA) -> np.ndarray:
    return np.concatenate([colours, alpha], axis=2)


def palette(hidden: int) -> Image.Image:
    """Return a picture whose palette entry 0 is transparent and hides a grey."""
    image = Image.fromarray(ALPHA[:, :, 0] // 255).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([hidden] * 3 + [10, 200, 30])
    return image


def pairs(hidden: int) -> dict[str, Any]:
    """Return one picture as X in every form that has transparent pixels, with another hidden colour."""
    under = np.where(ALPHA == 0, np.uint8(hidden), COLOURS)
    pixels, grey = rgba(under), rgba(under)[:, :, [0, 3]]
    named = np.where(ALPHA == 0, np.uint8(hidden), np.uint8(199))
    return {
        "uint8": pixels[None],
        "uint16": pixels[None].astype(np.uint16) * 257,
        "float32": (pixels[None] / 255).astype(np.float32),
        "bool": pixels[None] > 127,
        "RGBA": [Image.fromarray(pixels)],
        "LA": [Image.fromarray(grey)],
        "La": [Image.fromarray(grey).convert("La")],
        "RGBa": [Image.fromarray(pixels).convert("RGBa")],
        "PA": [Image.fromarray(pixels).convert("PA")],
        "PNG": [encoded(Image.fromarray(pixels), "PNG")],
        "WEBP": [encoded(Image.fromarray(pixels), "WEBP", lossless=True, exact=True)],
        "TIFF": [encoded(Image.fromarray(pixels), "TIFF")],
        "PNG, palette": [encoded(palette(hidden), "PNG", transparency=0)],
        "GIF": [encoded(palette(hidden), "GIF", transparency=0)],
        "PNG, grey": [encoded(Image.fromarray(named[:, :, 0]), "PNG", transparency=hidden)],
        "PNG, colours": [encoded(Image.fromarray(named.repeat(3, 2)), "PNG", transparency=(hidden,) * 3)],
        "PNG, 16 bits": [encoded(Image.fromarray(named[:, :, 0] * np.uint16(257)), "PNG", transparency=hidden * 257)],
    }


@pytest.mark.parametrize("kind", pairs(0))
def test_hidden_colours_do_not_change_the_image(kind: str):
    one, other = (np.asarray(check_images(pairs(hidden)[kind]).load(0)) for hidden in (0, 90))
    assert np.array_equal(one, other)
    white = 1 if one.dtype == np.float32 else 255
    assert (one[ALPHA[:, :, 0] == 0] == white).all()
    assert (one[ALPHA[:, :, 0] == 255] != white).any()


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "bool", "RGBA", "LA", "PA", "PNG", "WEBP"])
def test_opaque_alpha_equals_no_alpha(kind: str):
    pixels = rgba(COLOURS, np.full_like(ALPHA, 255))
    forms = {
        "uint8": lambda x: [x],
        "uint16": lambda x: [x.astype(np.uint16) * 257],
        "float32": lambda x: [x.astype(np.float32) / 255],
        "bool": lambda x: [x > 127],
        "RGBA": lambda x: [Image.fromarray(x)],
        "LA": lambda x: [Image.fromarray(x[:, :, [0, 3] if x.shape[2] == 4 else 0])],
        "PA": lambda x: [Image.fromarray(x).convert("P" if x.shape[2] == 3 else "PA")],
        "PNG": lambda x: [encoded(Image.fromarray(x), "PNG")],
        "WEBP": lambda x: [encoded(Image.fromarray(x), "WEBP", lossless=True)],
    }
    plain = COLOURS // 51 * 51 if kind == "PA" else COLOURS  # colours of the web palette
    pixels[:, :, :3] = plain
    found, expected = (np.asarray(check_images(forms[kind](x)).load(0)) for x in (pixels, plain))
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


def test_flatten_and_flatten_pil_blend_partly_transparent_pixels():
    pixels = rgba(COLOURS, RNG.integers(0, 256, (8, 8, 1), dtype=np.uint8))
    for background in (WHITE, (0.0, 0.5, 1.0)):
        assert background is not None
        share = pixels[:, :, 3:] / 255
        expected = COLOURS / 255 * share + np.array(background) * (1 - share)
        floats = flatten((pixels / 255).astype(np.float32), background)
        np.testing.assert_allclose(floats, expected, atol=1e-6)
        eight_bit = np.asarray(flatten_pil(Image.fromarray(pixels), background)) / 255
        np.testing.assert_allclose(eight_bit, expected, atol=1.5 / 255)


def test_background_of_preprocess_reaches_the_features():
    X = rgba(np.full_like(COLOURS, 200), np.zeros_like(ALPHA))[None]  # invisible grey
    for background, colour in (("white", 255), ("black", 0), ("hidden", 200)):
        given = {"white": "auto", "black": {"background": (0, 0, 0)}, "hidden": {"background": None}}[background]
        found = ImageFeaturizer(preprocess=given).fit_transform(X)  # one cache for all three
        assert np.array_equal(found, ImageFeaturizer(cache=None).fit_transform(np.full_like(X[..., :3], colour)))


def test_key_of_images_and_of_the_preprocessing_depend_on_the_background():
    images = check_images([Image.fromarray(rgba())])
    assert images.key(0) != images.with_background(None).key(0)
    assert len({ImageTransform(background=background).key for background in (WHITE, (0, 0, 0), None)}) == 3
    assert ImageTransform(background=(1, 1, 1)).key == ImageTransform().key
