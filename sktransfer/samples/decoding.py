"""From files, encoded bytes and PIL images of any mode to RGB."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError

from sktransfer.exceptions import InvalidSampleError, short_path
from sktransfer.samples.arrays import array_to_rgb, check_pixels
from sktransfer.samples.items import unreachable

__all__ = ["LENGTH", "decode", "decode_pil", "kind_of_file", "read_beginning"]

_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)
_TURNS: dict[Any, Image.Transpose] = {  # by the value of the EXIF orientation; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
    name = short_path(source) if isinstance(source, str) else f"an image in {len(source)} bytes"
    try:
        # An encoded image of a few kB can unpack to many GB; Pillow warns or raises from MAX_IMAGE_PIXELS on.
        with Image.open(source if isinstance(source, str) else io.BytesIO(source), formats=_formats()) as image:
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
        raise _no_image(source, row, name) from error
    except OSError as error:
        if error.errno is not None and isinstance(source, str):  # the file system's, not the decoder's
            raise unreachable(source, row, error) from error
        raise _damaged(row, name, error) from error
    except Exception as error:  # decoders of broken files raise SyntaxError, struct.error, EOFError: anything
        raise _damaged(row, name, error) from error


def _formats() -> list[str]:
    """Return all formats but PostScript: to draw it, Pillow starts another program that runs what the file says."""
    Image.init()
    return [name for name in Image.ID if name != "EPS"]


def _no_image(source: str | bytes, row: int, name: str) -> InvalidSampleError:
    try:
        return InvalidSampleError(
            row, f"{name} is not an image that Pillow can read, it {kind_of_file(read_beginning(source))}"
        )
    except OSError as error:  # gone since it was opened
        return unreachable(str(source), row, error)


def _damaged(row: int, name: str, error: Exception) -> InvalidSampleError:
    return InvalidSampleError(
        row, f"{name} is damaged or cut off ({error}). Get the file again, or drop this row from X and y"
    )


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
    is_jpeg, has_marker = image.format in ("JPEG", "MPO"), "adobe" in image.info
    image = _upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_to_rgb(np.asarray(image), row, f"{name} of mode {image.mode}")
    if image.mode == "CMYK" and is_jpeg and not has_marker:
        image = ImageChops.invert(image)  # Pillow takes values for inverted, which only those of Adobe's programs are
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow warns where several colours are transparent
    try:
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise InvalidSampleError(
            row, f"{name} of mode {image.mode} cannot become RGB ({error}): convert it to RGB first"
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    """Return a copy that is turned as the EXIF orientation says."""
    image.load()
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # the picture is whole, though what is told about it is not
        turn = None
    return image.copy() if turn is None else image.transpose(turn)


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


LENGTH = 64  # bytes that are looked at

_SAVE_AS = "save it as JPEG or PNG"
_STARTS = (  # of many kinds of file; the first that fits counts
    (b"%PDF", "a PDF", "save its pages or pictures as JPEG or PNG"),
    (b"PK\x03\x04", "a ZIP archive (as .docx and .pptx are, too)", "unpack it"),
    (b"PK\x05\x06", "an empty ZIP archive", "get the image again"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it"),
    (b"\x1f\x8b", "packed by gzip", "unpack it"),
    (b"%!PS", "PostScript, which is a program and no picture", _SAVE_AS),
    (b"\xc5\xd0\xd3\xc6", "PostScript, which is a program and no picture", _SAVE_AS),
    (b"version https://git-lfs", "the pointer to a file in Git LFS", "fetch the file itself: git lfs pull"),
    (b"{", "JSON", "if it is a server's answer, get the image again"),
    (b"\x1aE\xdf\xa3", "a video", "save its frames as JPEG or PNG"),
    (b"\x89HDF", "an HDF5 file", "read it, and pass arrays"),
    (b"\x93NUMPY", "a NumPy array", "read it, numpy.load, and pass arrays"),
)
_HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def read_beginning(source: str | bytes) -> bytes:
    """Return the first bytes of a file, or of its content."""
    if isinstance(source, bytes):
        return source[:LENGTH]
    with Path(source).open("rb") as file:
        return file.read(LENGTH)


def kind_of_file(start: bytes) -> str:
    """Say what a file is that is no image that can be read, and what to do.

    Parameters
    ----------
    start : bytes
        Its first bytes.

    Returns
    -------
    words : str
        To follow upon "it ".

    Examples
    --------
    >>> from sktransfer.samples.decoding import kind_of_file
    >>> kind_of_file(b"%PDF-1.7")
    'is a PDF: save its pages or pictures as JPEG or PNG'
    >>> kind_of_file(b"some text")
    "begins with b'some text': save it as JPEG or PNG"
    """
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if b"<svg" in text.lower():
        return f"is an SVG, a drawing that has no pixels: {_SAVE_AS}"
    if text[:1] == b"<":
        return f"is HTML or XML (it begins with {text[:24]!r}), a download that went wrong? Get the image again"
    for beginning, name, way_out in _STARTS:
        if text.startswith(beginning):
            return f"is {name}: {way_out}"
    if start[4:8] == b"ftyp":
        if start[8:12] in _HEIF:
            return f"is a HEIC or HEIF photo: {_SAVE_AS}, or let the package pillow-heif read it (register_heif_opener)"
        return "is a video: save its frames as JPEG or PNG"
    if not start.strip(b"\0"):
        return "begins with nothing but zeros, as a file does whose download or copy broke off: get the image again"
    return f"begins with {start[:24]!r}: {_SAVE_AS}"
