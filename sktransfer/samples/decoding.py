"""Single images: validation, decoding of files, bytes and PIL images to RGB, and errors for other files."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError

from sktransfer.exceptions import InvalidSampleError, short_path
from sktransfer.samples.alpha import WHITE, Background, blend, flatten_pil
from sktransfer.samples.arrays import array_to_rgb, channels_last, check_pixels, tensor_to_array
from sktransfer.samples.columns import is_missing, is_tensor, quoted
from sktransfer.samples.containers import item_hint
from sktransfer.samples.file_types import RAW_PHOTO, describe_file_type, read_signature

__all__ = ["check_item", "decode", "decode_pil", "file_status"]

_LONGEST_PATH = 4096  # bytes
_SPECIAL = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_SUBFILE = 254  # tag of TIFF: its first bit marks a preview of another picture of the file
_PROCESS_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # not specific to one file
_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)
_TRANSPOSES: dict[Any, Image.Transpose] = {  # by EXIF orientation; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def check_item(item: Any, row: int, column: str = "X") -> tuple[str, Any]:
    """Return the kind of an image, and the image in the form that is stored.

    Parameters
    ----------
    item : any
        Element of X.
    row : int
        Row of the element, for messages.
    column : str, default="X"
        Expression for the column of the elements, for messages.

    Returns
    -------
    kind : {"path", "bytes", "PIL image", "array", "tensor"}
    sample : str, bytes, PIL image or ndarray
        Tensors are returned as arrays with their channels last.

    Raises
    ------
    InvalidSampleError
        If the element is not an image.
    """
    if isinstance(item, (str, os.PathLike)):
        return "path", _check_path(os.fspath(item), row)
    if isinstance(item, (bytes, bytearray, memoryview)):
        if not item:
            raise InvalidSampleError(row, "the image has 0 bytes; read it again, or drop this row from X and y")
        return "bytes", bytes(item)
    if isinstance(item, Image.Image):
        if 0 in item.size:
            raise InvalidSampleError(row, f"the PIL image has size {item.size}, no pixel; drop this row from X and y")
        return "PIL image", item
    if is_missing(item):
        raise InvalidSampleError(row, f"the image is missing ({item!r}); drop this row from X and y")
    if is_tensor(item):
        array = tensor_to_array(item)
        array = channels_last(array, 0) if array.ndim == 3 else array  # (height, width, channels)
        check_pixels(array, row, f"the tensor of shape {tuple(item.shape)}")
        return "tensor", array
    if hasattr(item, "__array__") and not isinstance(item, np.generic):
        array = np.asarray(item)
        check_pixels(array, row)
        return "array", array
    remedy = item_hint(item, "image", column) or "convert it"
    raise InvalidSampleError(
        row,
        f"{quoted(item, 80)} is a {type(item).__name__}; an image is a path, bytes, a PIL image, an array or a tensor: "
        f"{remedy}, or drop this row from X and y",
    )


def _check_path(path: str | bytes, row: int) -> str:
    path = os.fsdecode(path)
    status = file_status(path, row)
    if stat.S_ISDIR(status.st_mode):
        raise InvalidSampleError(
            row,
            f"{short_path(path)} is a folder; pass the images in it. If it is the folder of a class, list those of "
            f"all classes: X, y = load_image_folder({short_path(str(Path(path).parent))})",
        )
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may block or never end
        kind = next((name for test, name in _SPECIAL if test(status.st_mode)), "a special file")
        raise InvalidSampleError(row, f"{short_path(path)} is {kind}, not a file; drop this row from X and y")
    if status.st_size == 0:
        raise InvalidSampleError(
            row, f"{short_path(path)} has 0 bytes; get the file again, or drop this row from X and y"
        )
    return path


def file_status(path: str, row: int, *, follow_links: bool = True) -> os.stat_result:
    """Return the status of a file, or of a link itself unless `follow_links`.

    Raises
    ------
    InvalidSampleError
        If the file does not exist or is not accessible.
    OSError
        If this process cannot open any file, for example because too many are open.
    """
    try:
        return os.stat(path, follow_symlinks=follow_links)  # noqa: PTH116 - Path("") is the current folder
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise access_error(path, row, error) from error


def access_error(path: str, row: int, error: OSError | ValueError) -> InvalidSampleError:
    """Return the error for a file that cannot be opened.

    Raises
    ------
    OSError
        The given error, if it is not specific to this file and would occur for any other.
    """
    number = getattr(error, "errno", None)
    if number in _PROCESS_ERRORS:
        raise error
    if not path.strip():
        reason = "is an empty path; give the path of an image, or drop this row from X and y"
    elif number == errno.ENOENT and os.path.islink(path):  # noqa: PTH114
        reason = f"is a link to {short_path(os.readlink(path))}, which does not exist; repair the link"  # noqa: PTH115
    elif "://" in path:
        reason = "cannot be opened, it looks like a URL: download the image first, or pass its bytes"
    elif number == errno.ENOENT:
        folder = short_path(str(Path(path).absolute().parent))
        reason = f"cannot be opened, there is no such file (looked in {folder}); check the path"
    elif number in (errno.EACCES, errno.EPERM):
        reason = "cannot be opened, you have no permission to read it; change the permissions of the file or its folder"
    elif number == errno.ELOOP:
        reason = "cannot be opened, it is a link that leads back to itself; repair the link"
    else:
        reason = f"cannot be opened ({getattr(error, 'strerror', None) or error}); check the path"
    return InvalidSampleError(row, f"{short_path(path)} {reason}")


def decode(source: str | bytes, row: int, background: Background = WHITE) -> Image.Image | np.ndarray:
    """Decode an encoded image, or the first frame of an animation.

    Parameters
    ----------
    source : str or bytes
        Path of a file, or its content.
    row : int
        Row of the sample, for messages.
    background : (float, float, float) or None, default=(1.0, 1.0, 1.0)
        Background of transparent pixels, a colour in [0, 1]. None keeps the colours that they hide.

    Returns
    -------
    image : PIL image in mode RGB, or float32 ndarray (height, width, 3)
        Result of `decode_pil`.

    Raises
    ------
    InvalidSampleError
        If the file does not exist, is not a readable image, or is too large to be decoded safely.
    """
    name = short_path(source) if isinstance(source, str) else f"an image in {len(source)} bytes"
    try:
        # A file of a few kB can decode to many GB. Pillow warns or raises above MAX_IMAGE_PIXELS.
        with Image.open(source if isinstance(source, str) else io.BytesIO(source), formats=_formats()) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombWarning(f"{image.width} x {image.height} pixels, the limit is {limit}")
            if image.format == "TIFF" and _is_preview(image, source):
                raise InvalidSampleError(row, f"{name} {RAW_PHOTO}")
            return _to_rgb(image, row, name, background)
    except (InvalidSampleError, MemoryError):
        raise
    except _BOMBS as error:
        raise InvalidSampleError(
            row,
            f"{name} is too large to be opened safely ({error}). Make it smaller, or set PIL.Image.MAX_IMAGE_PIXELS",
        ) from error
    except UnidentifiedImageError as error:
        raise _not_an_image(source, row, name) from error
    except OSError as error:
        if error.errno is not None and isinstance(source, str):  # raised by the file system, not by the decoder
            raise access_error(source, row, error) from error
        raise _damaged(row, name, error) from error
    except Exception as error:  # decoders of damaged files raise SyntaxError, struct.error, EOFError and others
        raise _damaged(row, name, error) from error


def _is_preview(image: Any, source: str | bytes) -> bool:
    """Return whether the first picture of a TIFF file is the small preview of a raw photo."""
    return bool(image.tag_v2.get(_SUBFILE, 0) & 1) or describe_file_type(read_signature(source)) == RAW_PHOTO


def _formats() -> list[str]:
    """Return all formats except PostScript, for which Pillow starts Ghostscript, which executes code from the file."""
    Image.init()
    return [name for name in Image.ID if name != "EPS"]


def _is_path(content: bytes) -> bool:
    return len(content) <= _LONGEST_PATH and b"\0" not in content and os.path.exists(content)  # noqa: PTH110


def _not_an_image(source: str | bytes, row: int, name: str) -> InvalidSampleError:
    if isinstance(source, bytes) and _is_path(source):
        return InvalidSampleError(row, f"{source!r} is the path of a file in bytes: pass [os.fsdecode(x) for x in X]")
    try:
        return InvalidSampleError(
            row, f"{name} is not an image that Pillow can read, it {describe_file_type(read_signature(source))}"
        )
    except OSError as error:  # deleted after it was opened
        return access_error(str(source), row, error)


def _damaged(row: int, name: str, error: Exception) -> InvalidSampleError:
    return InvalidSampleError(
        row, f"{name} is damaged or cut off ({error}). Get the file again, or drop this row from X and y"
    )


def decode_pil(image: Image.Image, row: int, background: Background = WHITE) -> Image.Image | np.ndarray:
    """Convert a PIL image to RGB in its EXIF orientation.

    Modes of more than 8 bits become floats to avoid rounding. 16-bit grey (I;16, and I with values from 0 to 65535) is
    divided by 65535. F is not rescaled and must be in [0, 1].

    Parameters
    ----------
    image : PIL image
        Image of any mode. It is not changed.
    row : int
        Row of the sample, for messages.
    background : (float, float, float) or None, default=(1.0, 1.0, 1.0)
        Background of transparent pixels, a colour in [0, 1]. None keeps the colours that they hide.

    Returns
    -------
    image : PIL image in mode RGB, or float32 ndarray (height, width, 3)

    Raises
    ------
    InvalidSampleError
        If values of a mode of more than 8 bits are out of range, or the image cannot be decoded.
    """
    try:
        return _to_rgb(image, row, "the PIL image", background)
    except (InvalidSampleError, MemoryError):
        raise
    except Exception as error:  # PIL images load lazily, and the file may be closed or truncated
        raise InvalidSampleError(
            row, f"the PIL image cannot be decoded ({error}). Call its load() while the file is open, or pass the path"
        ) from error


def _to_rgb(image: Image.Image, row: int, name: str, background: Background) -> Image.Image | np.ndarray:
    is_jpeg, has_marker = image.format in ("JPEG", "MPO"), "adobe" in image.info
    image = _upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_to_rgb(image, row, f"{name} of mode {image.mode}", background)
    if image.mode == "CMYK" and is_jpeg and not has_marker:
        image = ImageChops.invert(image)  # Pillow assumes inverted values, which only files of Adobe's programs have
    try:
        return flatten_pil(image, background)
    except ValueError as error:
        raise InvalidSampleError(
            row, f"{name} of mode {image.mode} cannot become RGB ({error}): convert it to RGB first"
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    """Return a copy with the EXIF orientation applied."""
    image.load()
    try:
        transpose = _TRANSPOSES.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged metadata of an intact image
        transpose = None
    return image.copy() if transpose is None else image.transpose(transpose)


def _deep_to_rgb(image: Image.Image, row: int, name: str, background: Background) -> Image.Image | np.ndarray:
    values = np.asarray(image)  # (height, width)
    if values.dtype.kind == "f":
        check_pixels(values, row, name)
        return array_to_rgb(values)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise InvalidSampleError(
            row,
            f"{name} has values from {low} to {high}; they must be from 0 to 65535. Read it yourself and pass an array "
            "of floats scaled to [0, 1]",
        )
    colours = array_to_rgb(values.astype(np.uint16))
    named = image.info.get("transparency")  # the grey that is transparent in a PNG file
    if background is None or named is None or isinstance(colours, Image.Image):
        return colours
    return blend(colours, (values != named).astype(np.float32)[:, :, None], background)
