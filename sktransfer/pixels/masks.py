"""Masks as users pass them, one class per pixel, and their intersection over union."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from sktransfer.exceptions import TargetWarning, name_row, short_path, warn
from sktransfer.samples.arrays import tensor_to_array
from sktransfer.samples.columns import as_series, is_tensor
from sktransfer.samples.labels import label_of, row_labels

__all__ = ["UNKNOWN", "check_masks", "check_sizes", "mean_iou", "refuse_all_unknown", "warn_of_255"]

UNKNOWN = -1
_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")  # of files with one number per pixel
_FEW = 100  # classes: those of masks with fewer are numbered from 0, and grey values such as 127 are not
_ALLOWED = "one array (height, width) of ints or a path of a grey or palette image per image, with -1 for unknown"


def check_masks(masks: Any, name: str = "masks") -> list[np.ndarray]:
    """Return masks as a list of integer arrays (height, width).

    Parameters
    ----------
    masks : array-like of shape (n_samples, height, width), or list, Series or one-column DataFrame of n_samples
        Masks of ints or bools, as arrays, tensors, PIL images, or paths of images with one number per pixel. -1 is an
        unknown pixel. Sizes may differ.
    name : str, default="masks"
        Name of the argument, for messages.

    Raises
    ------
    ValueError
        If a mask is none. The message names the row.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.pixels.masks import check_masks
    >>> [mask.shape for mask in check_masks([np.zeros((2, 3), int), np.ones((4, 4), bool)])]
    [(2, 3), (4, 4)]
    """
    labels = row_labels(masks)
    if is_tensor(masks):
        masks = tensor_to_array(masks)
    elif (series := as_series(masks)) is not None:
        masks = series.to_list()
    shape = getattr(masks, "shape", None)
    if isinstance(masks, (str, bytes, os.PathLike, Image.Image)) or not isinstance(masks, Iterable):
        raise ValueError(f"{name} is a single {type(masks).__name__}; pass {_ALLOWED}")
    if shape is not None and len(shape) == 2 and np.asarray(masks).dtype.kind in "biuf":
        raise ValueError(
            f"{name} is an array of shape {shape}: pass {name}[None] for the mask of one image, else {_ALLOWED}"
        )
    listed = list(masks)
    return [_check(mask, name_row(row, label_of(labels, row), name)) for row, mask in enumerate(listed)]


def _check(mask: Any, where: str) -> np.ndarray:
    """Return one mask as an integer array (height, width)."""
    if isinstance(mask, (str, os.PathLike)):
        mask, where = _read(mask, where), f"{where}, {short_path(os.fspath(mask))},"
    elif isinstance(mask, Image.Image):
        mask = _of_image(mask, where)
    elif mask is None:
        raise ValueError(f"{where} is None; drop the image, or give a mask of -1, whose pixels are unknown")
    array = tensor_to_array(mask) if is_tensor(mask) else np.asarray(mask)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.ndim != 2:
        raise ValueError(f"{where} has shape {array.shape}; a mask is {_ALLOWED}{_of_channels(array)}")
    if array.dtype.kind not in "iu":
        raise ValueError(f"{where} is of {array.dtype}, and a mask holds ints; {_to_ints(array)}")
    if array.size and array.min() < UNKNOWN:
        raise ValueError(f"{where} holds {array.min()}; classes are ints from 0, and -1 is an unknown pixel")
    return array


def _of_channels(array: np.ndarray) -> str:
    """Return the way out for an array of three dimensions, for messages."""
    if array.ndim != 3:
        return ""
    if 1 in (array.shape[0], array.shape[2]):
        return f"; pass {'mask[..., 0]' if array.shape[2] == 1 else 'mask[0]'}"
    if array.dtype.kind in "biu" and (array.sum(2) == 1).all() and array.min() >= 0:
        return "; of one map of 0 and 1 per class, take mask.argmax(-1)"
    if array.shape[2] in (3, 4) and (array[..., :1] == array[..., :3]).all():
        return "; its colours are grey, so pass mask[..., 0]"
    return "; of a colour image, give each colour a number"


def _to_ints(array: np.ndarray) -> str:
    """Return the way from other values to ints, for messages."""
    if array.dtype.kind == "f" and np.isnan(array).any():
        return "if NaN is an unknown pixel, pass np.where(np.isnan(mask), -1, mask).astype(int)"
    if array.dtype.kind in "OUS":
        return "give each class a number from 0, and unknown pixels -1"
    return (
        "convert it by mask.astype(int) if its values are whole numbers, and leave the pixels between two classes "
        "unknown (-1) if it was resized"
    )


def _read(path: str | os.PathLike[str], where: str) -> np.ndarray:
    """Return the numbers of an image file (height, width)."""
    try:
        with Image.open(path) as image:
            return _of_image(image, f"{where}, {short_path(os.fspath(path))},")
    except (FileNotFoundError, IsADirectoryError, UnidentifiedImageError) as error:
        reason = "is not an image" if isinstance(error, UnidentifiedImageError) else "is not an existing file"
        raise ValueError(f"{where}, {short_path(os.fspath(path))}, {reason}; pass {_ALLOWED}") from error


def _of_image(image: Image.Image, where: str) -> np.ndarray:
    """Return the numbers of a grey or palette image (height, width)."""
    if image.mode not in _MODES:
        raise ValueError(
            f"{where} is an image of mode {image.mode}; masks are grey or palette images with one number per pixel, so "
            "give each colour a number"
        )
    if image.format == "JPEG":
        raise ValueError(
            f"{where} is a JPEG, which changes numbers near the borders of classes; save masks as PNG. If there is no "
            "other file, round np.asarray(Image.open(path)) to the numbers of the classes and pass the arrays"
        )
    return np.array(image)  # (height, width)


def check_sizes(
    masks: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], labels: Any = None, name: str = "masks"
) -> None:
    """Raise unless masks have the sizes of their images.

    Parameters
    ----------
    masks : sequence of ndarray of shape (height, width)
        Masks.
    sizes : sequence of (int, int)
        (height, width) of the images.
    labels : Index, default=None
        Index labels of the images, for messages.
    name : str, default="masks"
        Name of the argument, for messages.

    Raises
    ------
    ValueError
        If their number or a size differs.
    """
    if len(masks) != len(sizes):
        raise ValueError(f"there are {len(sizes)} images and {len(masks)} {name}; pass one mask per image")
    for row, (mask, size) in enumerate(zip(masks, sizes)):
        if mask.shape != tuple(size):
            way = (
                f"resize it with the nearest pixel, as Image.fromarray(mask).resize({tuple(size[::-1])}, "
                "Image.Resampling.NEAREST) does"
            )
            if mask.shape == tuple(size[::-1]):
                way = "if its rows are the columns of the image, pass mask.T"
            raise ValueError(
                f"{name_row(row, label_of(labels, row), name)} is of {_text(mask.shape)} pixels, and its image of "
                f"{_text(size)} (height x width); {way}"
            )


def refuse_all_unknown(masks: Sequence[np.ndarray]) -> None:
    """Raise if all pixels of all masks are unknown.

    Parameters
    ----------
    masks : sequence of ndarray of shape (height, width)
        Masks.

    Raises
    ------
    ValueError
        If there is nothing to learn.
    """
    if not any((mask != UNKNOWN).any() for mask in masks):
        raise ValueError(
            f"all pixels of the {len(masks)} masks are unknown (-1), so there is nothing to learn; give some pixels of "
            "each class a number from 0"
        )


def warn_of_255(masks: Sequence[np.ndarray]) -> None:
    """Warn if 255 seems to be the unknown pixels of masks, as in Pascal VOC, or -1 as uint8.

    Parameters
    ----------
    masks : sequence of ndarray of shape (height, width)
        Masks.

    Warns
    -----
    TargetWarning
        If masks hold 255, and at least two other classes with small numbers.
    """
    classes = set().union(*(np.unique(mask).tolist() for mask in masks)) - {UNKNOWN}
    others = classes - {255}
    if 255 in classes and len(others) > 1 and max(others) < _FEW:
        warn(
            f"masks hold 255 besides the classes {sorted(others)}, and it is learned as a class. In many data sets it "
            "marks unknown pixels, and -1 becomes 255 in uint8. If so, pass np.where(mask == 255, -1, mask) of masks "
            "that are ints",
            TargetWarning,
        )


def mean_iou(y_true: Sequence[np.ndarray], y_pred: Sequence[np.ndarray], weight: np.ndarray) -> float:
    """Return the mean intersection over union of the classes, over the known pixels of all images.

    A class that neither the masks nor the predictions have at known pixels is left out. The result is scikit-learn's
    `jaccard_score(..., average="macro")` of these pixels.

    Parameters
    ----------
    y_true : sequence of ndarray of shape (height, width)
        Masks, -1 for unknown.
    y_pred : sequence of ndarray of shape (height, width)
        Predicted masks.
    weight : ndarray of shape (n_samples,)
        Weight of each image.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.pixels.masks import mean_iou
    >>> mean_iou([np.array([[0, 0, 1, -1]])], [np.array([[0, 1, 1, 5]])], np.ones(1))
    0.5
    """
    known = [mask != UNKNOWN for mask in y_true]
    classes = np.unique(
        [value for pair in zip(y_true, y_pred, known) for one in pair[:2] for value in np.unique(one[pair[2]])]
    )  # (n_classes,)
    if not len(classes):
        raise ValueError("all pixels of the masks are unknown (-1), so there is nothing to score")
    n = len(classes)
    counts = np.zeros((n, n))  # (n_classes, n_classes): pixels by class and predicted class
    for true, predicted, where, one in zip(y_true, y_pred, known, weight):
        codes = np.searchsorted(classes, true[where]) * n + np.searchsorted(classes, predicted[where])  # (n_known,)
        counts += one * np.bincount(codes, minlength=n * n).reshape(n, n)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()  # (n_classes,)
    return float(np.mean(counts.diagonal()[union > 0] / union[union > 0]))


def _text(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]}"
