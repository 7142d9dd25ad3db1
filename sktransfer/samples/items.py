"""One image sample of X: of which kind it is, and whether it can be one."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sktransfer.exceptions import InvalidSampleError, short_path
from sktransfer.samples.arrays import channels_last, check_pixels, tensor_to_array
from sktransfer.samples.columns import is_missing, is_tensor, quoted

__all__ = ["check_item", "file_status", "unreachable"]

_SPECIAL = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_OF_ALL_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def check_item(item: Any, row: int) -> tuple[str, Any]:
    """Return the kind of a sample, and the sample as it is kept.

    Parameters
    ----------
    item : any
        What stands in a row of X.
    row : int
        Which row, for messages.

    Returns
    -------
    kind : {"path", "bytes", "PIL image", "array", "tensor"}
    sample : str, bytes, PIL image or ndarray
        Tensors are arrays with their channels last from here on.

    Raises
    ------
    InvalidSampleError
        If it is no image.
    """
    if isinstance(item, (str, os.PathLike)):
        return "path", _check_path(os.fspath(item), row)
    if isinstance(item, (bytes, bytearray)):
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
    way_out = "np.asarray(x, dtype=np.uint8) makes it an array" if isinstance(item, (list, tuple)) else "convert it"
    raise InvalidSampleError(
        row,
        f"{quoted(item, 80)} is a {type(item).__name__}; an image is a path, bytes, a PIL image, an array or a tensor: "
        f"{way_out}, or drop this row from X and y",
    )


def _check_path(path: str | bytes, row: int) -> str:
    path = os.fsdecode(path)
    status = file_status(path, row)
    if stat.S_ISDIR(status.st_mode):
        raise InvalidSampleError(
            row,
            f"{short_path(path)} is a folder; pass the images in it (load_image_folder lists those of class folders)",
        )
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device might wait, or go on, for ever
        kind = next((name for test, name in _SPECIAL if test(status.st_mode)), "a special file")
        raise InvalidSampleError(row, f"{short_path(path)} is {kind}, not a file; drop this row from X and y")
    if status.st_size == 0:
        raise InvalidSampleError(
            row, f"{short_path(path)} has 0 bytes; get the file again, or drop this row from X and y"
        )
    return path


def file_status(path: str, row: int) -> os.stat_result:
    """Return what the file system says of a file.

    Raises
    ------
    InvalidSampleError
        If it is not there, or not to be reached.
    OSError
        If this process cannot open any file: too many are open, say.
    """
    try:
        return os.stat(path)  # noqa: PTH116 - to a Path, "" is the current folder
    except (OSError, ValueError) as error:  # ValueError: a path that holds a null byte
        raise unreachable(path, row, error) from error


def unreachable(path: str, row: int, error: OSError | ValueError) -> InvalidSampleError:
    """Return the error for a file that the system does not let be reached, in plain words.

    Raises
    ------
    OSError
        The error itself, where it is not this file's: it would meet any other one, too.
    """
    number = getattr(error, "errno", None)
    if number in _OF_ALL_FILES:
        raise error
    if number == errno.ENOENT and os.path.islink(path):  # noqa: PTH114
        reason = f"is a link to {short_path(os.readlink(path))}, where there is no file; mend the link"  # noqa: PTH115
    elif "://" in path:
        reason = "cannot be opened, it looks like an address: download the image first, or pass its bytes"
    elif number == errno.ENOENT:
        folder = short_path(str(Path(path).absolute().parent))
        reason = f"cannot be opened, there is no such file (looked in {folder}); check the path"
    elif number in (errno.EACCES, errno.EPERM):
        reason = "cannot be opened, you have no permission to read it; change the rights of the file or of its folder"
    elif number == errno.ELOOP:
        reason = "cannot be opened, it is a link that leads back to itself; mend the link"
    else:
        reason = f"cannot be opened ({getattr(error, 'strerror', None) or error}); check the path"
    return InvalidSampleError(row, f"{short_path(path)} {reason}")
