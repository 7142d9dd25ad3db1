"""Flat rows of pixels, as scikit-learn's own image data sets have them, and what images they stand for."""

from __future__ import annotations

import math
import numbers
import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import narwhals as nw
import numpy as np
from PIL import Image
from scipy.sparse import issparse

from sktransfer.exceptions import FlatImageWarning, InvalidParameterError, InvalidSampleError
from sktransfer.samples.arrays import CHANNELS, floats_to_rgb, tensor_to_array
from sktransfer.samples.base import noting
from sktransfer.samples.columns import (
    column_names,
    is_frame,
    is_missing,
    is_tensor,
    only_series,
    quoted,
)

__all__ = ["check_flat", "check_image_shape", "flat_to_rgb", "is_flat"]


def is_flat(X: Any) -> bool:
    """Return whether X is to be read as flat rows of pixels, and goes through scikit-learn's `check_array` first.

    True for whatever is a table of numbers, or a mistaken one that `check_array` has the right words for: numbers in a
    2-D array, tensor, frame, sparse matrix, list of lists or list of 1-D arrays; frames and arrays of objects with more
    than one column; single numbers and 1-D arrays of numbers. False for images of any kind.

    Parameters
    ----------
    X : any
        What a user passed.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.samples.images import is_flat
    >>> is_flat(np.zeros((10, 64))), is_flat([[0.0, 0.5], [1.0, 0.5]])
    (True, True)
    >>> is_flat(np.zeros((10, 8, 8))), is_flat(["cat.jpg", "dog.jpg"])
    (False, False)
    """
    if X is None or isinstance(X, (str, bytes, bytearray, os.PathLike, Image.Image)):
        return False
    if isinstance(X, numbers.Number) or issparse(X):
        return True
    if isinstance(X, (list, tuple)):
        return _are_numbers(X, rows=True)
    if isinstance(X, np.ndarray):
        return _is_flat_array(X)
    if is_tensor(X):
        return bool(X.ndim <= 2)
    if is_frame(X) and X.shape[1] != 1:
        return True
    if (series := only_series(X)) is not None:
        dtype = series.dtype
        return dtype.is_numeric() or dtype == nw.Boolean or _are_numbers(series.to_list())
    if hasattr(X, "__array_namespace__") and hasattr(X, "ndim"):
        return bool(X.ndim <= 2)
    return hasattr(X, "__array__") and _is_flat_array(np.asarray(X))


def _is_flat_array(array: np.ndarray) -> bool:
    kind = array.dtype.kind
    if kind not in "OUST":
        return array.ndim <= 2
    if array.ndim == 0:
        return is_flat(array.item())
    if array.ndim == 2 and array.shape[1] != 1:
        return True
    return kind == "O" and array.ndim <= 2 and _are_numbers(array.ravel())


def _are_numbers(values: Iterable[Any], *, rows: bool = False) -> bool:
    """Return whether all values that are there are numbers, or rows of numbers where these are allowed."""
    n_numbers = 0
    for value in values:
        if isinstance(value, numbers.Number) or (rows and _is_row(value)):
            n_numbers += 1
        elif not is_missing(value):
            return False
    return n_numbers > 0


def _is_row(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return not value or isinstance(value[0], numbers.Number)
    if is_tensor(value):
        return bool(value.ndim <= 1)
    if isinstance(value, Image.Image) or not hasattr(value, "__array__"):
        return False
    array = np.asarray(value)
    return array.ndim <= 1 and array.dtype.kind in "biufc"


def check_image_shape(image_shape: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return `image_shape` as a tuple of ints.

    Raises
    ------
    InvalidParameterError
        If it is not (height, width) or (height, width, channels).
    """
    if image_shape is None:
        return None
    message = (
        f"image_shape={image_shape!r} must be (height, width) or (height, width, channels) with 1, 3 or 4 channels, "
        "or None for squares"
    )
    if not isinstance(image_shape, (tuple, list)) or len(image_shape) not in (2, 3):
        raise InvalidParameterError(message)
    if not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n > 0 for n in image_shape):
        raise InvalidParameterError(message)
    if len(image_shape) == 3 and image_shape[2] not in CHANNELS:
        raise InvalidParameterError(message)
    return tuple(int(n) for n in image_shape)


def check_flat(X: Any, image_shape: Sequence[int] | None, invalid: dict[int, str] | None = None) -> np.ndarray:
    """Return flat rows as images, values and dtype as they are.

    Parameters
    ----------
    X : array-like of shape (n, n_pixels)
        Finite numbers.
    image_shape : tuple of int or None
        (height, width) or (height, width, channels) of each row; None for what its length tells.
    invalid : dict of int to str, default=None
        Gets the rows that hold NaN or infinite values, and why they cannot be used; None: they raise.

    Returns
    -------
    images : ndarray of shape (n, height, width) or (n, height, width, channels)

    Raises
    ------
    InvalidParameterError
        If `image_shape` does not fit the number of columns.
    InvalidSampleError
        If a row holds NaN or infinite values.
    ValueError
        If X is no table of numbers, or empty.

    Warns
    -----
    FlatImageWarning
        Once, if rows are read as strips, or floats lie outside [0, 1].
    """
    rows = _as_table(X)
    strip, shape = _shape_of(rows.shape[1], check_image_shape(image_shape))
    parts = []
    if strip:
        parts.append(
            f"rows of {rows.shape[1]} values are no squares (n * n, or 3 * n * n with colours), and are read as strips "
            "one pixel high; image_shape=(height, width) says what they are"
        )
    if rows.dtype.kind != "b" and rows.dtype != np.uint8:
        low, high = _finite_range(rows, invalid)
        if low < 0 or high > 1:
            parts.append(
                f"values run from {low:g} to {high:g} and are taken as they are; images are expected in [0, 1], so "
                "divide by the greatest value that a pixel can have"
            )
    if parts:
        warnings.warn("Flat rows as images: " + ". Moreover, ".join(parts) + ".", FlatImageWarning, stacklevel=3)
    return rows.reshape(len(rows), *shape)  # (n, height, width) or (n, height, width, channels)


def _as_table(X: Any) -> np.ndarray:
    if issparse(X):
        raise ValueError("X is a sparse matrix; images are dense: pass X.toarray()")
    array = tensor_to_array(X) if is_tensor(X) else np.asarray(X)
    if array.ndim != 2:
        raise ValueError(
            f"X is an array of shape {array.shape}; flat rows of pixels have shape (n, n_pixels). Reshape your data: "
            "X.reshape(1, -1) makes one row of it"
        )
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            names = f" (columns {quoted(column_names(X))})" if is_frame(X) else ""
            raise ValueError(
                f"X has {array.shape[1]} columns{names} that are not all numbers. Images as paths, bytes or arrays "
                "stand in one column: pick it"
            ) from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"X has dtype {array.dtype}; flat rows of pixels are real numbers. Convert X to float")
    if 0 in array.shape:
        what = "sample(s)" if len(array) == 0 else "feature(s)"
        raise ValueError(f"Found array with 0 {what} (shape={array.shape}) while a minimum of 1 is required")
    return array


def _shape_of(width: int, image_shape: tuple[int, ...] | None) -> tuple[bool, tuple[int, ...]]:
    """Return whether rows are read as strips, and the shape of each image."""
    if image_shape is not None:
        if math.prod(image_shape) != width:
            raise InvalidParameterError(
                f"image_shape={image_shape} has {math.prod(image_shape)} values, a row of X has {width}; the two must "
                "agree"
            )
        return False, image_shape
    # No width is both: 3 is not the square of a fraction.
    if math.isqrt(width) ** 2 == width:
        return False, (math.isqrt(width), math.isqrt(width))
    side = math.isqrt(width // 3)
    if 3 * side * side == width:
        return False, (side, side, 3)
    return True, (1, width)


def _finite_range(rows: np.ndarray, invalid: dict[int, str] | None) -> tuple[float, float]:
    low, high = float(rows.min()), float(rows.max())
    greatest = float(np.finfo(np.float32).max)
    if -greatest <= low and high <= greatest:  # not so where there is NaN
        return low, high
    good = ((rows >= -greatest) & (rows <= greatest)).all(axis=1)
    for row in np.flatnonzero(~good).tolist():
        with noting(invalid):
            raise InvalidSampleError(
                row,
                "the row holds NaN, infinity or a value too large for float32; fill it, or drop this row from X and y",
            )
    return (float(rows[good].min()), float(rows[good].max())) if good.any() else (0.0, 0.0)


def flat_to_rgb(image: np.ndarray) -> np.ndarray:
    """Return one image of `check_flat` as float32 (height, width, 3): uint8 divided by 255, the rest as it is."""
    return floats_to_rgb(image.astype(np.float32) / 255 if image.dtype == np.uint8 else image)
