"""Arrays and tensors as images: validation and conversion to RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.alpha import WHITE, Background, flatten, flatten_pil

__all__ = [
    "array_to_rgb",
    "channels_last",
    "check_layout",
    "check_pixels",
    "check_range",
    "floats_to_rgb",
    "tensor_to_array",
]

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
SLACK = 1e-6  # tolerance for float32 rounding at the ends of [0, 1]


def check_pixels(array: np.ndarray, row: int, name: str = "the array") -> None:
    """Raise an error unless an array is a valid image.

    Parameters
    ----------
    array : ndarray of shape (height, width) or (height, width, 1, 3 or 4)
        Values of uint8, uint16, bool, or float in [0, 1].
    row : int
        Row of the sample, for messages.
    name : str, default="the array"
        Name of the array in messages.

    Raises
    ------
    InvalidSampleError
        If dtype, shape or values are not allowed.
    """
    check_layout(array, row, name)
    if array.dtype.kind == "f":
        check_range(float(array.min()), float(array.max()), row, name)


def check_layout(array: np.ndarray, row: int, name: str, values: np.ndarray | None = None) -> None:
    """Raise an error unless an array has the dtype and shape of an image. Values are not checked.

    Parameters
    ----------
    array : ndarray
        One image.
    row : int
        Row of the sample, for messages.
    name : str
        Name of the array in messages.
    values : ndarray, default=None
        Values of all images, for messages. None for those of `array`.

    Raises
    ------
    InvalidSampleError
        If dtype or shape are not allowed.
    """
    if array.dtype.kind not in "bf" and array.dtype not in (np.uint8, np.uint16):
        raise InvalidSampleError(
            row,
            f"{name} has dtype {array.dtype}; allowed are uint8 (0 to 255), uint16 (0 to 65535), bool, and float in "
            f"[0, 1]. {_dtype_hint(array if values is None else values)}",
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in CHANNELS):
        raise InvalidSampleError(row, f"{name} has shape {array.shape}; {_shape_hint(array.shape)}")
    if array.size == 0:
        raise InvalidSampleError(row, f"{name} has shape {array.shape}, which has no pixel; drop this row from X and y")


def _dtype_hint(values: np.ndarray) -> str:
    """Return how to convert values of another dtype, which may only be rounded to 8 bits if they fit."""
    if values.dtype.kind not in "iu" or values.size == 0:
        return "If values run from 0 to 255, convert it: x.astype(np.uint8)"
    low, high = int(values.min()), int(values.max())
    if low < 0:
        return (
            f"Its values run from {low} to {high}: choose the range to show, the same for all images, and pass "
            "np.clip((x - low) / (high - low), 0, 1)"
        )
    if high == 1:
        return "Its values are 0 and 1: convert it to black and white, x.astype(bool)"
    if high > 255:
        bits = next((bits for bits in (10, 12, 14, 16) if high < 2**bits), 32)
        return f"Its values run from 0 to {high}: divide by the largest value that a pixel can have, x / {2**bits - 1}"
    return f"Its values run from {low} to {high}: if those of all images are from 0 to 255, x.astype(np.uint8)"


def _shape_hint(shape: tuple[int, ...]) -> str:
    allowed = "an image is (height, width) or (height, width, channels) with 1, 3 or 4 channels"
    if len(shape) == 1:
        return f"{allowed}. Rows of pixels are passed as one array (n, n_pixels): np.stack(list(X))"
    if len(shape) == 3 and shape[0] in CHANNELS:
        return f"{allowed}. Its channels seem to come first: move them, np.moveaxis(x, 0, -1)"
    if len(shape) == 3 and shape[2] == 2:
        return f"{allowed}. If it is grey with alpha, repeat the grey: x[..., [0, 0, 0, 1]]; else pick the channels"
    return f"{allowed}. Reshape it, or pick the channels to use"


def check_range(low: float, high: float, row: int, name: str) -> None:
    """Raise an error unless the values of a float image are in [0, 1].

    Parameters
    ----------
    low, high : float
        Smallest and largest value, NaN if any value is.
    row : int
        Row of the sample, for messages.
    name : str
        Name of the array in messages.

    Raises
    ------
    InvalidSampleError
        If a value is NaN, infinite or out of range.
    """
    if not np.isfinite([low, high]).all():
        raise InvalidSampleError(row, f"{name} holds NaN or infinite values; fill them, or drop this row from X and y")
    if low < -SLACK or high > 1 + SLACK:
        normalized = (
            "If it is normalized, pass it as it was before, because the preprocessing of the backbone normalizes "
            "images. Else "
        )
        remedy = "divide by the largest value that a pixel can have (x / 255 for 8 bits), or pass uint8"
        raise InvalidSampleError(
            row,
            f"{name} is a float image with values from {low:g} to {high:g}; floats must be in [0, 1]. "
            + (normalized + remedy if low < -SLACK else "D" + remedy[1:]),
        )


def array_to_rgb(array: np.ndarray, background: Background = WHITE) -> Image.Image | np.ndarray:
    """Convert a validated array to RGB. Grey is repeated for the three channels.

    Parameters
    ----------
    array : ndarray of shape (height, width) or (height, width, 1, 3 or 4)
        Array that passes `check_pixels`.
    background : (float, float, float) or None, default=(1.0, 1.0, 1.0)
        Background of transparent pixels, a colour in [0, 1]. None keeps the colours that they hide.

    Returns
    -------
    image : PIL image in mode RGB, or float32 ndarray (height, width, 3)
        A float array for float arrays and for uint16 (divided by 65535), else a PIL image.
    """
    if array.dtype.kind == "f":
        return floats_to_rgb(array, background)
    if array.dtype == np.uint16:
        return floats_to_rgb(array.astype(np.float32) / 65535, background)
    pixels = array.astype(np.uint8) * 255 if array.dtype.kind == "b" else array
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]  # (height, width)
    return flatten_pil(Image.fromarray(np.ascontiguousarray(pixels)), background)


def floats_to_rgb(array: np.ndarray, background: Background = WHITE) -> np.ndarray:
    """Convert a float array with 1, 3, 4 or no channels to a float32 array (height, width, 3)."""
    values = array.astype(np.float32)
    if values.ndim == 2:
        values = values[:, :, None]  # (height, width, 1)
    if values.shape[2] == 1:
        return np.repeat(values, 3, axis=2)  # (height, width, 3)
    return flatten(values, background) if values.shape[2] == 4 else np.ascontiguousarray(values)


def tensor_to_array(tensor: Any) -> np.ndarray:
    """Return a torch tensor as an array, copied only if it is on a GPU or bfloat16."""
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":  # NumPy has no bfloat16
        tensor = tensor.float()
    array: np.ndarray = tensor.numpy()
    return array


def channels_last(array: np.ndarray, axis: int) -> np.ndarray:
    """Move the channels of images from torch tensors to the last axis.

    Channels are taken to come first if the channel axis of torch has length 1, 3 or 4, regardless of the other axes.

    Parameters
    ----------
    array : ndarray
        (channels, height, width) or (height, width, channels), with leading axes for several images.
    axis : int
        Channel axis of torch.
    """
    return np.moveaxis(array, axis, -1) if array.shape[axis] in CHANNELS else array  # (..., height, width, channels)
