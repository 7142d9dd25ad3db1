"""Validation of images of every supported kind. Files are decoded on access."""

from __future__ import annotations

import copy
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, Self

import narwhals as nw
import numpy as np
from PIL import Image

from sktransfer.exceptions import InvalidSampleError, short_path
from sktransfer.samples.alpha import WHITE, Background
from sktransfer.samples.arrays import CHANNELS, array_to_rgb, channels_last, check_layout, check_pixels, tensor_to_array
from sktransfer.samples.base import Rows, collect_invalid, content_hash
from sktransfer.samples.columns import as_column, as_series, empty_error, is_missing, is_tensor, quoted
from sktransfer.samples.containers import as_list, column_of, image_of_cell
from sktransfer.samples.decoding import check_item, decode, decode_pil, file_status
from sktransfer.samples.flat import check_flat, check_image_shape, flat_to_rgb, is_flat

__all__ = ["ImageSamples", "check_images", "is_flat"]

_NONE: Mapping[int, str] = {}
_FIRST = 8  # rows that decide whether X holds texts instead of paths
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{2,5}$")


class ImageSamples(Rows):
    """Validated images of one kind.

    Parameters
    ----------
    items : sequence
        Paths, encoded bytes, PIL images or arrays.
    kind : {"path", "bytes", "PIL image", "array", "flat"}
        Kind of the items.
    invalid : mapping of int to str, default={}
        Rows that are known to be invalid, with the reasons. They raise an error when they are loaded or hashed.

    Attributes
    ----------
    background : (float, float, float) or None
        Background of transparent pixels, a colour in [0, 1]. None shows the colours that they hide. Initially white.
    """

    def __init__(self, items: Sequence[Any] | np.ndarray, kind: str, invalid: Mapping[int, str] = _NONE) -> None:
        super().__init__(len(items))
        self._items, self.kind, self._invalid = items, kind, invalid
        self.background = WHITE
        self._folders: dict[str, str] = {}  # real paths, resolved once per folder because that is slow

    def with_background(self, background: Background) -> Self:
        """Return the same images on another background.

        Parameters
        ----------
        background : (float, float, float) or None
            Background of transparent pixels, a colour in [0, 1]. None shows the colours that they hide.
        """
        view = copy.copy(self)
        view.background = background
        view._keys = {}  # those of PIL images depend on the background
        return view

    def path(self, row: int) -> str | None:
        """Return the path of a sample, or None if it is not a file."""
        item = self._items[int(self._rows[row])]
        return item if isinstance(item, str) else None

    def _load(self, row: int) -> Image.Image | np.ndarray:
        self._check(row)
        return _LOAD[self.kind](self._items[row], row, self.background)

    def _hash(self, row: int) -> bytes:
        self._check(row)
        if self.kind == "path":
            return self._hash_file(self._items[row], row)
        return _HASH[self.kind](self._items[row], row, self.background)

    def _check(self, row: int) -> None:
        if row in self._invalid:
            raise InvalidSampleError(row, self._invalid[row])

    def _hash_file(self, path: str, row: int) -> bytes:
        status = file_status(path, row, follow_links=False)
        folder, name = os.path.split(path)
        if stat.S_ISLNK(status.st_mode):
            status, (folder, name) = file_status(path, row), os.path.split(os.path.realpath(path))
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return content_hash("path", self._folders[folder], name, f"{status.st_size} {status.st_mtime_ns}")


def _hash_pil(image: Image.Image, row: int, background: Background) -> bytes:
    # The decoded image reflects mode, palette, orientation and alpha.
    return _hash_array(np.asarray(decode_pil(image, row, background)), "PIL image")


def _hash_array(array: np.ndarray, kind: str) -> bytes:
    return content_hash(kind, f"{array.dtype.str} {array.shape}", array)


_LOAD: dict[str, Callable[[Any, int, Background], Image.Image | np.ndarray]] = {
    "path": decode,
    "bytes": decode,
    "PIL image": decode_pil,
    "array": lambda item, row, background: array_to_rgb(item, background),
    "flat": lambda item, row, background: flat_to_rgb(item, background),
}
_HASH: dict[str, Callable[[Any, int, Background], bytes]] = {
    "bytes": lambda item, row, background: content_hash("bytes", item),
    "PIL image": _hash_pil,
    "array": lambda item, row, background: _hash_array(item, "array"),
    # Equal values of kind "array" can load differently.
    "flat": lambda item, row, background: _hash_array(item, "flat"),
}


def check_images(
    X: Any, *, image_shape: Sequence[int] | None = None, defer: bool = False, missing: str = "on_error"
) -> ImageSamples:
    """Validate X as images.

    Kinds, shapes, dtypes, values of arrays and the existence of files are checked immediately. `load` decodes files.

    Parameters
    ----------
    X : list or other sequence, Series, one-column DataFrame, or array
        One of these kinds throughout. The channels of arrays and tensors are read as RGB, or RGBA. OpenCV gives BGR:
        pass `x[..., ::-1]`.

        - paths (`str` or `Path`), encoded images (`bytes`), or PIL images, of any mode and size;
        - cells {"bytes", "path"} of Hugging Face's datasets, which hold an encoded image or a path;
        - arrays (height, width) or (height, width, channels) with 1, 3 or 4 channels, of uint8, uint16, bool, or float
          in [0, 1]; their sizes may differ;
        - torch tensors, with channels first if the first axis has length 1, 3 or 4, and otherwise with the shapes of
          arrays;
        - one array (n, height, width) or (n, height, width, channels); as a torch tensor also
          (n, channels, height, width), if the second axis has length 1, 3 or 4;
        - flat rows, a table of numbers (n, n_pixels) for which `is_flat` is True.
    image_shape : tuple of int, default=None
        Shape (height, width) or (height, width, channels) of flat rows, in the order rows, columns, channels. None
        reads n * n values as a grey square, 3 * n * n as a colour square, and any other number as a grey strip one
        pixel high. Other kinds of images ignore it.
    defer : bool, default=False
        Whether samples that cannot be used raise an error when they are loaded or hashed, not immediately.
    missing : {"on_error", "nan"}, default="on_error"
        Treatment of a missing image, None or NaN in a list or column. "on_error" treats it as one that cannot be used,
        "nan" as a row of `samples.absent`.

    Returns
    -------
    samples : ImageSamples of length n
        `load` gives a PIL image in mode RGB for files, bytes, PIL images, uint8 and bool; float32 (height, width, 3)
        for more than 8 bits: float and uint16 arrays, 16-bit files, flat rows. Grey is repeated for the three colours.
        Transparent pixels show a white background (`with_background` sets another). The EXIF orientation is applied.

    Raises
    ------
    InvalidSampleError
        If a sample cannot be used, unless `defer`. The error names the row and the path.
    InvalidParameterError
        If `image_shape` is not a shape or is inconsistent with X.
    ValueError
        If X is empty, a single sample, or has several columns.

    Warns
    -----
    FlatImageWarning
        Once, if flat rows are read as strips or are outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.samples.images import check_images
    >>> samples = check_images(np.zeros((10, 8, 6, 3), dtype=np.uint8))
    >>> len(samples), samples.load(0).size
    (10, (6, 8))
    >>> check_images(np.zeros((10, 48)), image_shape=(8, 6)).load(0).shape
    (8, 6, 3)
    """
    X, image_shape = as_list(X, "image"), check_image_shape(image_shape)
    if isinstance(X, (str, os.PathLike)):
        _refuse_path(os.fsdecode(X))
    invalid: dict[int, str] | None = {} if defer else None
    items: Any
    absent: set[int] = set()
    if is_flat(X):
        items, kind = check_flat(X, image_shape, invalid), "flat"
    elif (stack := _as_stack(X)) is not None:
        items, kind = _check_stack(stack, invalid), "array"
    else:
        column = as_column(X, "image")
        absent = {row for row, item in enumerate(column) if is_missing(item)} if missing == "nan" else set()
        if not defer:
            _refuse_texts(column[:_FIRST])
        items, kind = _check_list(column, invalid, column_of(X), absent)
    samples = ImageSamples(items, kind, {**(invalid or _NONE), **dict.fromkeys(absent, "the image is missing")})
    samples.absent = frozenset(absent)
    return samples


def _refuse_path(path: str) -> None:
    """Raise an error if a single path is a folder or a pattern, for which a list with one path is no remedy."""
    if os.path.isdir(path):  # noqa: PTH112 - of a Path, a name that is too long raises an error
        raise ValueError(
            f"X is a folder, {short_path(path)}, not a list of images. If it has one folder per class, list them: "
            f"X, y = load_image_folder({short_path(path)}); else list(Path({short_path(path)}).iterdir())"
        )
    if not os.path.isfile(path) and any(sign in path for sign in "*?["):  # noqa: PTH113
        raise ValueError(f"X is a pattern, {short_path(path)}, not a list of images: list them, sorted(glob.glob(X))")


def _refuse_texts(first: Sequence[Any]) -> None:
    """Raise an error if the first samples are strings of several words and none is a file."""
    if not all(isinstance(item, str) for item in first) or sum(map(_is_text, first)) * 2 <= len(first):
        return
    if any(map(os.path.lexists, first)):
        return
    text = next(filter(_is_text, first))
    raise ValueError(
        f"X holds texts, such as {quoted(str(text), 60)}, and images are expected. For texts use backbones of texts, "
        "such as 'tiny/bert', and estimators of texts, such as TextFeaturizer. If X holds paths, check them: of "
        f"its first rows ({len(first)}) none is an existing file"
    )


def _is_text(item: str) -> bool:
    """Return whether a string is no URL, and has blanks and no suffix in its last part, as few paths do."""
    name = os.path.basename(item).strip()  # noqa: PTH119 - a Path drops parts of a text
    is_path = os.path.isabs(item) or "://" in item or _SUFFIX.search(name)  # noqa: PTH117
    return not is_path and any(sign.isspace() for sign in name)


def _as_stack(X: Any) -> np.ndarray | None:
    """Return X as an array of images along the first axis, or None if X is not such an array."""
    if is_tensor(X):
        if X.ndim == 3 and X.shape[0] in (3, 4):
            raise ValueError(
                f"X is a tensor of shape {tuple(X.shape)}: one colour image with its channels first, or as many grey "
                "images? Pass X[None] for the one image, X[:, None] for the grey ones"
            )
        array = tensor_to_array(X)
        return channels_last(array, 1) if array.ndim == 4 else array  # (n, height, width, channels)
    if isinstance(X, (str, bytes, bytearray, os.PathLike, list, tuple, Image.Image)):
        return None
    if (series := as_series(X)) is not None:
        return series.to_numpy() if series.dtype == nw.Array else None  # polars' fixed-size arrays
    array = np.asarray(X) if hasattr(X, "__array__") else np.empty(0)
    return array if array.ndim > 2 else None


def _check_stack(stack: np.ndarray, invalid: dict[int, str] | None) -> np.ndarray:
    if len(stack) == 0:
        raise empty_error(stack.shape)
    if stack.ndim == 3 and stack.shape[2] in CHANNELS:
        raise ValueError(
            f"X is an array of shape {stack.shape}: one image with its channels last, or {len(stack)} grey images "
            f"{stack.shape[2]} wide? Pass X[None] for the one image, X[..., None] for the grey ones"
        )
    name = f"one image of the array of shape {stack.shape}"
    check_layout(stack[0], 0, name, stack)
    if stack.dtype.kind == "f" and not (stack.min() >= 0 and stack.max() <= 1):  # True for NaN
        for row, image in enumerate(stack):
            with collect_invalid(invalid):
                check_pixels(image, row, name)
    return stack


def _check_list(
    items: Iterable[Any], invalid: dict[int, str] | None, column: str, absent: Set[int]
) -> tuple[list[Any], str]:
    samples: list[Any] = []
    first: tuple[str, int] | None = None
    for row, item in enumerate(map(image_of_cell, items)):
        if row in absent:
            samples.append(None)
            continue
        try:  # not `collect_invalid`, which takes as long as the check
            kind, sample = check_item(item, row, column)
            first = first or (kind, row)
            if kind != first[0]:
                name = short_path(sample) if kind == "path" else "the sample"
                raise InvalidSampleError(
                    row, f"{name} is of kind {kind}, row {first[1]} of kind {first[0]}; pass images of one kind"
                )
        except InvalidSampleError as error:
            if invalid is None:
                raise
            invalid[row], sample = error.message, _path_of(item)
        samples.append(sample)
    kind = "path" if first is None else first[0]
    return samples, "array" if kind == "tensor" else kind


def _path_of(item: Any) -> str | None:
    return os.fsdecode(item) if isinstance(item, (str, os.PathLike)) else None
