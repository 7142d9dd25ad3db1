from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sktransfer import ImageFeaturizer
from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.arrays import array_to_rgb, channels_last, check_pixels, tensor_to_array

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (4, 6, 4), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4), (1, 1), (3, 6, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "bool", "float16", "float32", "float64"])
def test_check_pixels_and_array_to_rgb_accept_allowed_shapes_and_dtypes(shape: tuple[int, ...], dtype: str):
    array = np.ones(shape, dtype)
    check_pixels(array, 0)
    image = array_to_rgb(array)
    if dtype in ("uint8", "bool"):
        assert isinstance(image, Image.Image)
        assert (image.mode, image.size) == ("RGB", (shape[1], shape[0]))
    else:
        assert (image.dtype, image.shape) == (np.float32, (*shape[:2], 3))


def test_array_to_rgb_keeps_uint8_colours():
    assert np.array_equal(np.asarray(array_to_rgb(COLOURS[:, :, :3])), COLOURS[:, :, :3])
    assert np.array_equal(np.asarray(array_to_rgb(COLOURS, background=None)), COLOURS[:, :, :3])


@pytest.mark.parametrize("index", [np.s_[:, :, 0], np.s_[:, :, :1]])
def test_array_to_rgb_repeats_grey(index: tuple[slice, ...]):
    expected = np.repeat(COLOURS[:, :, :1], 3, axis=2)
    assert np.array_equal(np.asarray(array_to_rgb(COLOURS[index])), expected)
    floats = array_to_rgb(COLOURS[index] / 255)
    assert np.allclose(floats, expected / 255, atol=1e-6)


def test_array_to_rgb_keeps_floats():
    values = RNG.random((4, 6, 4))
    assert np.array_equal(array_to_rgb(values[:, :, :3]), values[:, :, :3].astype(np.float32))
    assert np.array_equal(array_to_rgb(values, background=None), values[:, :, :3].astype(np.float32))


def test_array_to_rgb_divides_uint16_by_65535():
    image = array_to_rgb(np.array([[0, 300, 65535]], dtype=np.uint16))
    assert np.allclose(image[0, :, 0], [0, 300 / 65535, 1], atol=1e-7)


def test_array_to_rgb_of_bool_is_black_and_white():
    assert np.asarray(array_to_rgb(np.array([[False, True]])))[0].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_array_to_rgb_accepts_any_memory_layout():
    turned = COLOURS[::-1, ::2, :3].transpose(1, 0, 2)
    assert np.array_equal(np.asarray(array_to_rgb(turned)), turned)


def test_array_to_rgb_does_not_change_its_input():
    values = RNG.random((4, 6, 3)).astype(np.float32)
    before = values.copy()
    array_to_rgb(values)[:] = 0
    assert np.array_equal(values, before)


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint32", "complex64", "object", "str"])
def test_check_pixels_rejects_other_dtypes(dtype: str):
    with pytest.raises(
        InvalidSampleError, match=r"row 5: the array has dtype .*allowed are uint8.*x\.astype\(np\.uint8\)"
    ):
        check_pixels(np.zeros((4, 6)).astype(dtype), 5)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((), "Reshape it"),
        ((24,), r"np\.stack"),
        ((3, 4, 6), r"channels seem to come first: move them, np\.moveaxis"),
        ((5, 6, 2), r"grey with alpha, repeat the grey: x\[\.\.\., \[0, 0, 0, 1\]\]; else pick the channels"),
        ((5, 6, 5), "pick the channels"),
        ((2, 4, 6, 3), "Reshape it"),
    ],
)
def test_check_pixels_rejects_other_shapes(shape: tuple[int, ...], hint: str):
    with pytest.raises(InvalidSampleError, match=rf"row 5: the array has shape .*with 1, 3 or 4 channels.*{hint}"):
        check_pixels(np.zeros(shape), 5)


@pytest.mark.parametrize("shape", [(0, 6), (4, 0, 3)])
def test_check_pixels_rejects_an_image_without_pixels(shape: tuple[int, ...]):
    with pytest.raises(InvalidSampleError, match=r"row 5: .*no pixel; drop this row"):
        check_pixels(np.zeros(shape, np.uint8), 5)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-1, 1), (0, 1.01), (-0.01, 1)])
def test_check_pixels_rejects_floats_out_of_range(low: float, high: float):
    with pytest.raises(InvalidSampleError, match=rf"row 5: .*from {low:g} to {high:g}; .*x / 255 for 8 bits"):
        check_pixels(np.array([[low, 0.5, high]]), 5)


def test_check_pixels_tolerates_float32_rounding():
    check_pixels(np.array([[0, np.nextafter(np.float32(1), np.float32(2))]], dtype=np.float32), 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_pixels_rejects_nan_and_infinity(value: float):
    with pytest.raises(InvalidSampleError, match=r"row 5: .*NaN or infinite values; fill them, or drop"):
        check_pixels(np.array([[0, value]]), 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8])
def test_tensor_to_array_accepts_any_dtype(dtype: torch.dtype):
    tensor = torch.ones(2, 3, dtype=dtype)
    assert np.array_equal(tensor_to_array(tensor), np.ones((2, 3)))


def test_tensor_to_array_accepts_tensors_that_require_gradients():
    assert np.array_equal(tensor_to_array(torch.ones(2, 3, requires_grad=True)), np.ones((2, 3)))


@pytest.mark.parametrize(
    ("shape", "axis", "expected"),
    [
        ((3, 4, 6), 0, (4, 6, 3)),
        ((1, 4, 6), 0, (4, 6, 1)),
        ((4, 6, 3), 0, (6, 3, 4)),  # torch's channel axis has length 4, so channels come first
        ((5, 6, 3), 0, (5, 6, 3)),
        ((2, 3, 4, 6), 1, (2, 4, 6, 3)),
        ((2, 5, 6, 3), 1, (2, 5, 6, 3)),
    ],
)
def test_channels_last_moves_channels_that_come_first(shape: tuple[int, ...], axis: int, expected: tuple[int, ...]):
    assert channels_last(np.zeros(shape), axis).shape == expected


def test_check_pixels_of_normalized_values_says_that_the_backbone_normalizes():
    with pytest.raises(InvalidSampleError, match=r"from -2 to 2.5; .*If it is normalized, pass it as it was before"):
        check_pixels(np.array([[-2.0, 2.5]]), 0)


def test_arrays_of_integers_0_and_1_are_black_and_white():
    with pytest.raises(InvalidSampleError, match=r"Its values are 0 and 1: .*x\.astype\(bool\)"):
        ImageFeaturizer("tiny/cnn").fit([np.eye(8, dtype=int)])
