"""Images whose values use a small part of their range, or that lose details, from X to the warning."""

from __future__ import annotations

import io
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sktransfer import FineTuneClassifier, ImageFeaturizer
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.exceptions import DarkImageWarning, InvalidSampleError, ReducedImageWarning
from sktransfer.samples.arrays import check_pixels
from sktransfer.samples.images import check_images

RNG = np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, (4, 8, 8)).astype(np.uint16)
FOUR = (TWELVE >> 8).astype(np.uint8)  # 0 to 15


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def files(values: np.ndarray, kind: str) -> list[bytes]:
    return [encoded(Image.fromarray(one), kind) for one in values]


DARK = {
    "uint16": TWELVE,
    "uint16, colours": TWELVE[..., None].repeat(3, 3),
    "list of uint16": list(TWELVE),
    "uint16 of 8 bits": TWELVE >> 4,
    "uint8 of 4 bits": FOUR,
    "uint8 of 1 bit": FOUR >> 3,
    "flat uint8": FOUR.reshape(4, -1),
    "float, divided twice": TWELVE / 4095 / 255,
    "16-bit PNG": files(TWELVE, "PNG"),
    "16-bit TIFF": files(TWELVE, "TIFF"),
    "8-bit PNG": files(FOUR, "PNG"),
    "32-bit TIFF": files(TWELVE.astype(np.int32), "TIFF"),
    "float TIFF": files((TWELVE / 65535).astype(np.float32), "TIFF"),
    "mode I": [Image.fromarray(one.astype(np.int32)) for one in TWELVE],
    "mode L": [Image.fromarray(one) for one in FOUR],
}
BRIGHT = {
    "uint16": TWELVE * 16,
    "one bright image": np.concatenate([TWELVE, TWELVE[:1] * 16]),
    "uint8": FOUR * 17,
    "one bright pixel": np.where(np.arange(256).reshape(4, 8, 8) == 9, np.uint8(255), FOUR),
    "bool": FOUR > 7,
    "float": TWELVE / 4095,
    "16-bit PNG": files(TWELVE * 16, "PNG"),
    "black": np.zeros((2, 8, 8), np.uint16),
}


@pytest.mark.parametrize("kind", DARK)
def test_transform_warns_once_of_images_that_use_a_small_part_of_their_range(kind: str):
    with pytest.warns(DarkImageWarning, match=r"4 images are almost black: .*x / 4095 for 12 bits") as caught:
        ImageFeaturizer(cache=None).fit_transform(DARK[kind])
    assert len(caught) == 1
    assert 0 < caught[0].message.brightest < 0.07  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", BRIGHT)
def test_transform_does_not_warn_of_images_that_use_their_range(kind: str):
    ImageFeaturizer(cache=None).fit_transform(BRIGHT[kind])  # a warning would be an error here


def test_fit_warns_of_dark_images():
    with pytest.warns(DarkImageWarning):
        FineTuneClassifier(max_epochs=1, random_state=0).fit(TWELVE, [0, 1, 0, 1])


def test_scaled_values_give_the_features_of_the_full_range():
    expected = ImageFeaturizer(cache=None).fit_transform(TWELVE / 4095)
    full = np.round(TWELVE / 4095 * 65535).astype(np.uint16)
    np.testing.assert_allclose(ImageFeaturizer(cache=None).fit_transform(full), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        (np.array([[0, 255]]), r"run from 0 to 255: if those of all .*x\.astype\(np\.uint8\)"),
        (np.array([[0, 256]]), r"run from 0 to 256: divide .* x / 1023$"),
        (np.array([[0, 3000]], np.int16), r"run from 0 to 3000: divide .* x / 4095$"),
        (np.array([[0, 16383]], np.int32), r"divide .* x / 16383$"),
        (np.array([[7, 2**20]], np.uint32), r"divide .* x / 4294967295$"),
        (
            np.array([[-1024, 3071]], np.int16),
            r"run from -1024 to 3071: .*np\.clip\(\(x - low\) / \(high - low\), 0, 1",
        ),
        (np.array([[-128, 127]], np.int8), r"run from -128 to 127: choose the range"),
    ],
)
def test_check_pixels_and_check_images_give_the_hint_that_fits_the_integers(values: np.ndarray, hint: str):
    with pytest.raises(InvalidSampleError, match=f"row 0: the array has dtype {values.dtype}; .*{hint}"):
        check_pixels(values, 0)
    with pytest.raises(InvalidSampleError, match=hint):
        check_images(np.stack([values * 0, values]))  # the first image alone would fit into 8 bits


def photos(n: int, side: int) -> list[np.ndarray]:
    return [RNG.integers(0, 256, (side, side + 9, 3), dtype=np.uint8) for _ in range(n)]


def test_fit_transform_warns_once_of_photos_that_are_reduced_to_few_pixels():
    message = r"read at 32 x 32 pixels, .*torchvision/mobilenet_v2.*list_backbones"
    with pytest.warns(ReducedImageWarning, match=message) as caught:
        ImageFeaturizer(cache=None).fit_transform(photos(3, 129))
    assert len(caught) == 1
    with pytest.warns(ReducedImageWarning, match="read at a shorter side of 32 pixels"):
        ImageFeaturizer(cache=None, preprocess={"resize": 32, "crop": None}).fit_transform(np.stack(photos(2, 140)))


def test_fit_transform_does_not_warn_of_small_images_and_larger_input():
    for X in (photos(3, 128), [*photos(1, 400), *photos(2, 32)]):  # the median decides
        ImageFeaturizer(cache=None).fit_transform(X)
    ImageFeaturizer(cache=None, preprocess={"resize": (65, 65)}).fit_transform(photos(2, 300))
    ImageFeaturizer(cache=None, preprocess={"resize": (8, 8)}).fit_transform(photos(2, 100))


def test_reducedimagewarning_and_darkimagewarning_can_be_filtered_and_pickled():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReducedImageWarning)
        ImageFeaturizer(cache=None).fit_transform(photos(2, 200))
    given: list[Any] = [ReducedImageWarning("32 x 32 pixels"), DarkImageWarning(3, 0.1)]
    assert [str(pickle.loads(pickle.dumps(one))) for one in given] == list(map(str, given))


def test_resized_size_follows_resize():
    assert ImageTransform(resize=(32, 30)).resized_size(100, 50) == (32, 30)
    assert ImageTransform(resize=32).resized_size(100, 50) == (64, 32)
    assert ImageTransform().resized_size(100, 50) == (100, 50)
