from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.exceptions import InvalidParameterError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODES = {
    "nearest": InterpolationMode.NEAREST,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "lanczos": InterpolationMode.LANCZOS,
}


def picture(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def floats(height, width, seed=0):
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


def of_torchvision(image, resize, crop, mode):
    steps = [] if resize is None else [v2.Resize(resize, interpolation=MODES[mode], antialias=True)]
    steps += [] if crop is None else [v2.CenterCrop(crop)]
    steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return v2.Compose(steps)(image)


@pytest.mark.parametrize("size", [(37, 53), (53, 37), (40, 40), (3, 301), (224, 9)])
@pytest.mark.parametrize(
    ("resize", "crop"),
    [
        (None, None),
        (32, None),
        (33, (27, 30)),
        ((20, 31), None),
        (17, (24, 25)),
        (None, (61, 11)),
        ((20, 20), (21, 26)),
    ],
)
def test_resize_and_crop_equal_torchvision(size, resize, crop):
    image = picture(*size)
    (ours,) = ImageTransform(resize=resize, crop=crop, mean=MEAN, std=STD)([image])
    theirs = of_torchvision(image, resize, crop, "bilinear")
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_interpolation_equals_torchvision(mode):
    image = picture(37, 53)
    (ours,) = ImageTransform(resize=24, interpolation=mode, mean=MEAN, std=STD)([image])
    torch.testing.assert_close(ours, of_torchvision(image, 24, None, mode), rtol=0, atol=1e-6)


def test_interpolation_modes_differ():
    found = [ImageTransform(resize=24, interpolation=mode)([picture(37, 53)])[0] for mode in MODES]
    assert all(not torch.allclose(a, b, atol=1e-2) for k, a in enumerate(found) for b in found[:k])


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("resize", [24, (20, 31)])
def test_resize_of_float_arrays_is_close_to_that_of_images(mode, resize):
    image = picture(37, 53).point(lambda value: 64 + value // 2)  # away from 0 and 255, where images are clipped
    transform = ImageTransform(resize=resize, interpolation=mode)
    ours, theirs = transform([np.asarray(image, np.float32) / 255, image])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=3 / 255)  # images are rounded to 8 bits


def test_imagetransform_keeps_the_precision_of_float_arrays():
    values = np.full((4, 4, 3), 0.5 / 255, np.float32)  # less than one step of 8 bits
    (ours,) = ImageTransform()([values])
    assert torch.equal(ours, torch.full((3, 4, 4), 0.5 / 255))


def test_imagetransform_keeps_values_outside_0_and_1():
    values = np.linspace(-3, 16, 48, dtype=np.float32).reshape(4, 4, 3)
    (ours,) = ImageTransform()([values])
    assert torch.equal(ours, torch.from_numpy(values).permute(2, 0, 1))
    (resized,) = ImageTransform(resize=(8, 8))([values])
    assert resized.max() > 10
    assert resized.min() < -1


def test_mean_and_std_apply_to_each_colour_channel():
    (ours,) = ImageTransform(mean=(0.1, 0.2, 0.3), std=(1, 2, 4))([np.ones((1, 1, 3), np.float32)])
    torch.testing.assert_close(ours.flatten(), torch.tensor([0.9, 0.4, 0.175]))


def test_resize_takes_samples_of_all_kinds_and_sizes():
    tensors = ImageTransform(resize=(6, 5))([picture(7, 9), floats(3, 4), picture(6, 5)])
    assert [tuple(one.shape) for one in tensors] == [(3, 6, 5)] * 3
    assert {one.dtype for one in tensors} == {torch.float32}


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.float32])
def test_imagetransform_returns_float32_for_any_default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        tensors = ImageTransform(resize=(6, 5))([floats(3, 4).astype(dtype), picture(7, 9)])
    finally:
        torch.set_default_dtype(before)
    assert {one.dtype for one in tensors} == {torch.float32}


def test_imagetransform_takes_read_only_arrays_and_leaves_all_unchanged():
    values = floats(8, 10)
    values.flags.writeable = False
    for array in (values, values[::-1], values[:, ::2], np.asfortranarray(values)):
        before = array.copy()
        (ours,) = ImageTransform(mean=(0.5, 0.5, 0.5))([array])
        ours += 1
        assert (array == before).all()
        torch.testing.assert_close(ours - 0.5, torch.from_numpy(before.copy()).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"resize": 0}, "resize=0"),
        ({"resize": -4}, "resize=-4"),
        ({"resize": True}, "resize=True"),
        ({"resize": 3.5}, "resize=3.5"),
        ({"resize": "32"}, "resize='32'"),
        ({"resize": (32,)}, "resize="),
        ({"resize": (32, 32, 3)}, "resize="),
        ({"resize": (32, 0)}, "resize="),
        ({"crop": 3.5}, r"crop=3.5 must be an int or \(height, width\)"),
        ({"crop": (32, 1.5)}, "crop="),
        ({"mean": (0.5, 0.5)}, "mean="),
        ({"mean": 0.5}, "mean=0.5"),
        ({"std": "abc"}, "std='abc'"),
        ({"std": (1, 0, 1)}, "std=.*greater than 0"),
        ({"background": (0, 0)}, "background="),
        ({"background": "white"}, "background='white'"),
        ({"background": (0, 0, 255)}, r"background=\(0.0, 0.0, 255.0\) must be in \[0, 1\], or None"),
        ({"interpolation": "cubic"}, "interpolation='cubic' must be one of.*'bicubic'"),
    ],
)
def test_updated_and_imagetransform_name_a_setting_that_is_not_allowed(settings, says):
    with pytest.raises(InvalidParameterError, match=f"preprocess: {says}"):
        ImageTransform(**settings)
    with pytest.raises(InvalidParameterError, match=f"preprocess: {says}"):
        ImageTransform().updated(settings)


@pytest.mark.parametrize(
    "transform",
    [
        ImageTransform(),
        ImageTransform(resize=256, crop=(224, 200), mean=MEAN, std=STD, interpolation="bicubic"),
        ImageTransform(resize=(10, 12)),
        ImageTransform(background=None),
        ImageTransform(background=[0, np.float32(0.5), 1]),
        ImageTransform(resize=np.int64(9), crop=[np.int32(4), 5], mean=[np.float32(0.5)] * 3),
    ],
)
def test_key_is_json_of_the_settings(transform):
    assert ImageTransform(**json.loads(transform.key)) == transform
    assert ImageTransform(**json.loads(transform.key)).key == transform.key
    assert ImageTransform.from_state(transform.to_state()) == transform


def test_key_differs_exactly_with_the_settings():
    changes = {"resize": 9, "crop": (4, 4), "mean": MEAN, "std": STD, "interpolation": "bicubic", "background": None}
    keys = {ImageTransform().key, *(ImageTransform(**{name: value}).key for name, value in changes.items())}
    assert len(keys) == 1 + len(changes)
    assert ImageTransform(resize=9).key != ImageTransform(resize=(9, 9)).key
    assert ImageTransform(mean=(0, 0, 0)).key == ImageTransform(mean=[0.0, 0.0, 0.0]).key


def test_crop_of_one_number_is_a_square():
    assert ImageTransform(crop=np.int64(3)) == ImageTransform(crop=(3, 3))
    assert ImageTransform(crop=3)([picture(7, 9)])[0].shape == (3, 3, 3)


def test_updated_changes_only_the_given_settings():
    before = ImageTransform(resize=9, mean=MEAN)
    assert before.updated({"resize": [4, 5], "crop": None}) == ImageTransform(resize=(4, 5), mean=MEAN)
    assert before.resize == 9
    other = ImageTransform(crop=(2, 2))
    assert before.updated(other) is other
    with pytest.raises(InvalidParameterError, match=r"'resise' is not a setting.*Did you mean 'resize'"):
        before.updated({"resise": 4})
    for given in (3, "resize", None, [("resize", 3)]):
        with pytest.raises(InvalidParameterError, match=r"preprocess=.*'auto'"):
            before.updated(given)


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (2, 4001), (3, 5000)])
@pytest.mark.parametrize("kind", ["pixels", "floats"])
def test_resize_trims_long_strips_first(monkeypatch, size, kind):
    from sktransfer.backbones import preprocess

    image = picture(*size)
    image = image if kind == "pixels" else np.asarray(image, np.float32) / 255
    transform = ImageTransform(resize=32, crop=(28, 30))
    (whole,) = transform([image])
    monkeypatch.setattr(preprocess, "_LARGEST", 1000)
    resized = []
    target = ImageTransform.resized_size
    monkeypatch.setattr(
        ImageTransform, "resized_size", lambda self, *shape: resized.append(target(self, *shape)) or resized[-1]
    )
    (trimmed,) = transform([image])
    assert max(resized[-1]) <= 17 * 32 < max(resized[0])
    assert (trimmed - whole).abs().mean() < 0.02  # shifted by less than a pixel, where the sides are odd


def test_image_transform_of_floats_equals_that_of_8_bit_images_up_to_rounding():
    pixels = np.random.default_rng(0).choice([0, 255], (9, 8, 3)).astype(np.uint8)
    transform = ImageTransform(resize=(32, 32), interpolation="bicubic")  # overshoots at edges
    of_bits, of_floats = transform([Image.fromarray(pixels), (pixels / 255).astype(np.float32)])
    assert (of_bits - of_floats).abs().max() < 0.02
    outside = transform([pixels.astype(np.float32)])[0]  # flat rows may be outside [0, 1]
    assert outside.max() > 200


def test_image_transform_rejects_a_mean_of_8_bit_images():
    with pytest.raises(InvalidParameterError, match=r"mean=\(123\.7, .*at most 1.*divide mean and std by 255"):
        ImageTransform(mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
