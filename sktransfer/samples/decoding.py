"""From files, encoded bytes and PIL images of any mode to RGB."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.arrays import array_to_rgb, check_pixels

__all__ = ["decode", "decode_pil"]

_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)


def decode(source: str | bytes, row: int) -> Image.Image | np.ndarray:
    """Read an encoded image, of an animation its first frame.

    Parameters
    ----------
    source : str or bytes
        The path of a file, or its content.
    row : int
        Of the sample, for messages.

    Returns
    -------
    image : PIL image in mode RGB, or float32 ndarray (height, width, 3)
        As `decode_pil` gives it.

    Raises
    ------
    InvalidSampleError
        If there is no file, or none that can be read as an image, or it is too large to be opened without danger.
    """
    name = repr(source) if isinstance(source, str) else f"an image in {len(source)} bytes"
    try:
        # An encoded image of a few kB can unpack to many GB; Pillow warns or raises from MAX_IMAGE_PIXELS on.
        with Image.open(source if isinstance(source, str) else io.BytesIO(source)) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombWarning(f"{image.width} x {image.height} pixels, the limit is {limit}")
            return _to_rgb(image, row, name)
    except (InvalidSampleError, MemoryError):
        raise
    except _BOMBS as error:
        raise InvalidSampleError(
            row,
            f"{name} is too large to be opened safely ({error}). Make it smaller, or set PIL.Image.MAX_IMAGE_PIXELS",
        ) from error
    except UnidentifiedImageError as error:
        raise InvalidSampleError(row, f"{name} is not an image that Pillow can read; {_beginning(source)}") from error
    except OSError as error:
        if error.errno is not None:  # the file system's, not the decoder's
            raise InvalidSampleError(row, f"{name} cannot be opened ({error.strerror}); check the path") from error
        raise _damaged(row, name, error) from error
    except Exception as error:  # decoders of broken files raise SyntaxError, struct.error, EOFError: anything
        raise _damaged(row, name, error) from error


def _damaged(row: int, name: str, error: Exception) -> InvalidSampleError:
    return InvalidSampleError(
        row, f"{name} is damaged or cut off ({error}). Get the file again, or drop this row from X and y"
    )


def _beginning(source: str | bytes) -> str:
    if isinstance(source, str):
        with Path(source).open("rb") as file:
            first = file.read(24)
    else:
        first = source[:24]
    if first.lstrip()[:1] == b"<":
        return f"it begins with {first!r}, so it is HTML, XML or SVG: a download that went wrong? Get the image again"
    return f"it begins with {first!r}. Save it as JPEG or PNG, or drop this row from X and y"


def decode_pil(image: Image.Image, row: int) -> Image.Image | np.ndarray:
    """Turn an image upright and make it RGB.

    The EXIF orientation is applied. Alpha is dropped, as `Image.convert("RGB")` does: the colours below it count, not a
    background. Modes of more than 8 bits become floats, so that nothing is rounded: 16-bit grey (I;16, and I with
    values from 0 to 65535) is divided by 65535, F is taken as it is and must lie in [0, 1].

    Parameters
    ----------
    image : PIL image
        Of any mode. It is not changed.
    row : int
        Of the sample, for messages.

    Returns
    -------
    image : PIL image in mode RGB, or float32 ndarray (height, width, 3)

    Raises
    ------
    InvalidSampleError
        If values of a deep mode are not in the range above, or the image cannot be decoded.
    """
    try:
        return _to_rgb(image, row, "the PIL image")
    except (InvalidSampleError, MemoryError):
        raise
    except Exception as error:  # PIL images are lazy: the file may be closed by now, or cut off
        raise InvalidSampleError(
            row, f"the PIL image cannot be decoded ({error}). Call its load() while the file is open, or pass the path"
        ) from error


def _to_rgb(image: Image.Image, row: int, name: str) -> Image.Image | np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_to_rgb(np.asarray(image), row, f"{name} of mode {image.mode}")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow warns where several colours are transparent
    try:
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise InvalidSampleError(
            row, f"{name} of mode {image.mode} cannot become RGB ({error}): convert it to RGB first"
        ) from error


def _deep_to_rgb(values: np.ndarray, row: int, name: str) -> Image.Image | np.ndarray:
    if values.dtype.kind == "f":
        check_pixels(values, row, name)
        return array_to_rgb(values)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise InvalidSampleError(
            row,
            f"{name} has values from {low} to {high}; they must lie in 0 to 65535. Read it yourself and pass an array "
            "of floats scaled to [0, 1]",
        )
    return array_to_rgb(values.astype(np.uint16))
