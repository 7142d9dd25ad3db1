"""One image sample of X: of which kind it is, and whether it can be one."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.arrays import channels_last, check_pixels, tensor_to_array
from sktransfer.samples.columns import is_missing, is_tensor, quoted

__all__ = ["check_item", "file_status"]


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
            row, f"{quoted(path)} is a folder; pass the images in it (load_image_folder lists those of class folders)"
        )
    if status.st_size == 0:
        raise InvalidSampleError(row, f"{quoted(path)} has 0 bytes; get the file again, or drop this row from X and y")
    return path


def file_status(path: str, row: int) -> os.stat_result:
    """Return what the file system says of a file.

    Raises
    ------
    InvalidSampleError
        If it is not there, or not to be reached.
    """
    try:
        return os.stat(path)  # noqa: PTH116 - to a Path, "" is the current folder
    except (OSError, ValueError) as error:  # ValueError: a path that holds a null byte
        if "://" in path:
            way_out = "it looks like an address: download the image first, or pass its bytes"
        elif isinstance(error, FileNotFoundError):
            way_out = f"there is no such file (looked in {Path(path).absolute().parent}); check the path"
        else:
            way_out = f"it cannot be opened ({getattr(error, 'strerror', None) or error}); check the path"
        raise InvalidSampleError(row, f"{quoted(path)}: {way_out}") from error
