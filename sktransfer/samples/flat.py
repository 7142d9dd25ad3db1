"""Images as flat rows of pixels, as in scikit-learn's image data sets."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable, Sequence
from typing import Any

import narwhals as nw
import numpy as np
from narwhals.exceptions import DuplicateError
from PIL import Image
from scipy.sparse import issparse

from sktransfer._validation import is_int
from sktransfer.exceptions import FlatImageWarning, InvalidParameterError, InvalidSampleError, warn
from sktransfer.samples.alpha import WHITE, Background
from sktransfer.samples.arrays import CHANNELS, floats_to_rgb, tensor_to_array
from sktransfer.samples.base import collect_invalid
from sktransfer.samples.columns import (
    as_series,
    is_frame,
    is_missing,
    is_tensor,
    several_columns_error,
)

__all__ = ["check_flat", "check_image_shape", "flat_to_rgb", "is_flat", "refuse_other_columns"]


def is_flat(X: Any) -> bool:
    """Return whether X is read as flat rows of pixels, which scikit-learn's `check_array` validates first.

    True for tables of numbers: numbers in a 2-D array, tensor, frame, sparse matrix, list of lists or list of 1-D
    arrays. Also True for invalid tables, for which `check_array` has a suitable error: frames and arrays of objects
    with more than one column, single numbers and 1-D arrays of numbers. False for images of any kind, and for a column
    or a list of missing values only.

    Parameters
    ----------
    X : any
        Input of an estimator.

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
        return not (X and isinstance(X[0], (str, bytes))) and _are_numbers(X, rows=True)  # asked for each prediction
    if isinstance(X, np.ndarray):
        return _is_flat_array(X)
    if is_tensor(X):
        return bool(X.ndim <= 2)
    if is_frame(X) and X.shape[1] != 1:
        return True
    if (series := as_series(X)) is not None:
        dtype, values = series.dtype, series.to_list()
        if dtype.is_numeric() or dtype == nw.Boolean:
            return not values or not all(map(is_missing, values))
        return _are_numbers(values)
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


def refuse_other_columns(X: Any) -> None:
    """Raise if X has several columns that hold anything but numbers. scikit-learn would only name the first value.

    Parameters
    ----------
    X : any
        Input of an estimator.

    Raises
    ------
    ValueError
        If a column of a frame holds anything but numbers, or an array holds texts, paths, bytes or PIL images.
    """
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] > 1 and _holds_images(X):
        raise several_columns_error(X, "image")
    if not is_frame(X):
        return
    try:
        frame = nw.from_native(X, eager_only=True)
    except DuplicateError:  # pandas allows the same name twice
        return
    columns = [frame[name] for name, dtype in frame.schema.items() if not (dtype.is_numeric() or dtype == nw.Boolean)]
    if any(not is_missing(value) and not isinstance(value, numbers.Number) for one in columns for value in one):
        raise several_columns_error(X, "image")


def _holds_images(array: np.ndarray) -> bool:
    """Return whether an array holds texts that are no numbers, paths, bytes or PIL images."""
    if array.dtype.kind not in "OUST":
        return False
    try:
        array.astype(np.float64)
    except (TypeError, ValueError):
        return any(isinstance(value, (str, bytes, os.PathLike, Image.Image)) for value in array.flat)
    return False


def _are_numbers(values: Iterable[Any], *, rows: bool = False) -> bool:
    """Return whether all values that are not missing are numbers, or rows of numbers if `rows` allows them."""
    n_numbers = 0
    for value in values:
        if is_missing(value):
            continue
        if not isinstance(value, numbers.Number) and not (rows and _is_row(value)):
            return False
        n_numbers += 1
    return n_numbers > 0


def _is_row(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return not value or (isinstance(value[0], numbers.Number) and isinstance(value[-1], numbers.Number))
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
    if not all(is_int(n) and n > 0 for n in image_shape):
        raise InvalidParameterError(message)
    if len(image_shape) == 3 and image_shape[2] not in CHANNELS:
        raise InvalidParameterError(message)
    return tuple(int(n) for n in image_shape)


def check_flat(X: Any, image_shape: Sequence[int] | None, invalid: dict[int, str] | None = None) -> np.ndarray:
    """Return flat rows reshaped to images, with values and dtype unchanged.

    Parameters
    ----------
    X : array-like of shape (n, n_pixels)
        Finite numbers.
    image_shape : tuple of int or None
        Shape (height, width) or (height, width, channels) of each row. None infers it from the number of columns.
    invalid : dict of int to str, default=None
        Dict that receives the rows with NaN or infinite values, and the reasons. None raises an error instead.

    Returns
    -------
    images : ndarray of shape (n, height, width) or (n, height, width, channels)

    Raises
    ------
    InvalidParameterError
        If `image_shape` is inconsistent with the number of columns.
    InvalidSampleError
        If a row contains NaN or infinite values.
    ValueError
        If X is empty or not a table of numbers.

    Warns
    -----
    FlatImageWarning
        Once, if rows are read as strips, or floats are outside [0, 1].
    """
    rows = _as_table(X)
    strip, shape = _shape_of(rows.shape[1], check_image_shape(image_shape))
    problems = []
    if strip:
        problems.append(
            f"rows of {rows.shape[1]} values are not squares (n * n, or 3 * n * n with colours) and are read as strips "
            "one pixel high. Set image_shape=(height, width) to give their shape"
        )
    if rows.dtype.kind != "b" and rows.dtype != np.uint8:
        low, high = _finite_range(rows, invalid)
        if low < 0 or high > 1:
            problems.append(
                f"values run from {low:g} to {high:g} and are not rescaled; images are expected in [0, 1], so "
                "divide by the largest value that a pixel can have"
            )
    if problems:
        warn("Flat rows as images: " + ". Moreover, ".join(problems) + ".", FlatImageWarning)
    return rows.reshape(len(rows), *shape)  # (n, height, width) or (n, height, width, channels)


def _as_table(X: Any) -> np.ndarray:
    if issparse(X):
        raise ValueError("X is a sparse matrix; images are dense: pass X.toarray()")
    refuse_other_columns(X)
    array = tensor_to_array(X) if is_tensor(X) else np.asarray(X)
    if array.ndim != 2:
        raise ValueError(
            f"X is an array of shape {array.shape}; flat rows of pixels have shape (n, n_pixels). Reshape your data: "
            "np.reshape(X, (1, -1)) makes it one row"
        )
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"X has {array.shape[1]} columns that are not all numbers. Images as paths, bytes or arrays must be in "
                "one column: select it, X[:, 0]"
            ) from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"X has dtype {array.dtype}; flat rows of pixels are real numbers. Convert X to float")
    if 0 in array.shape:
        noun = "sample(s)" if len(array) == 0 else "feature(s)"
        raise ValueError(f"Found array with 0 {noun} (shape={array.shape}) while a minimum of 1 is required")
    return array


def _shape_of(width: int, image_shape: tuple[int, ...] | None) -> tuple[bool, tuple[int, ...]]:
    """Return whether rows are read as strips, and the shape of each image."""
    if image_shape is not None:
        if math.prod(image_shape) != width:
            raise InvalidParameterError(
                f"image_shape={image_shape} has {math.prod(image_shape)} values, a row of X has {width}; the two "
                "numbers must agree"
            )
        return False, image_shape
    # No width matches both, because 3 is not the square of a fraction.
    if math.isqrt(width) ** 2 == width:
        return False, (math.isqrt(width), math.isqrt(width))
    side = math.isqrt(width // 3)
    if 3 * side * side == width:
        return False, (side, side, 3)
    return True, (1, width)


def _finite_range(rows: np.ndarray, invalid: dict[int, str] | None) -> tuple[float, float]:
    low, high = float(rows.min()), float(rows.max())
    largest = float(np.finfo(np.float32).max)
    if -largest <= low and high <= largest:  # False for NaN
        return low, high
    is_valid = ((rows >= -largest) & (rows <= largest)).all(axis=1)
    for row in np.flatnonzero(~is_valid).tolist():
        with collect_invalid(invalid):
            raise InvalidSampleError(
                row,
                "the row holds NaN, infinity or a value too large for float32; fill it, or drop this row from X and y",
            )
    return (float(rows[is_valid].min()), float(rows[is_valid].max())) if is_valid.any() else (0.0, 0.0)


def flat_to_rgb(image: np.ndarray, background: Background = WHITE) -> np.ndarray:
    """Convert an image of `check_flat` to float32 (height, width, 3). Only uint8 is rescaled, by 1 / 255."""
    return floats_to_rgb(image.astype(np.float32) / 255 if image.dtype == np.uint8 else image, background)
