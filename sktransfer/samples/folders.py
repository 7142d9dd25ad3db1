"""Images kept in one folder a class: their paths and their labels."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np

from sktransfer.exceptions import SktransferWarning

__all__ = ["IMAGE_SUFFIXES", "load_image_folder"]

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm")


def load_image_folder(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """List the images of a folder that has one sub-folder a class.

    Images may lie in further folders inside that of their class. Hidden files and folders, and files that do not have
    the suffix of an image, are passed over. No image is opened.

    Parameters
    ----------
    path : str or path
        The folder that holds the folders of the classes.

    Returns
    -------
    paths : ndarray of shape (n_images,), object
        Paths as `str`, sorted by class, then by path: the X of an image estimator.
    labels : ndarray of shape (n_images,), str
        The name of the class folder of each: the y.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    NotADirectoryError
        If it is a file.
    ValueError
        If it holds no class folders, or these hold no images.

    Warns
    -----
    SktransferWarning
        Of class folders without images, and of images that lie in no class folder; neither are in the result.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sktransfer import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
    ...         file = Path(folder, name)
    ...         file.parent.mkdir(exist_ok=True)
    ...         Image.new("RGB", (8, 8)).save(file)
    ...     paths, labels = load_image_folder(folder)
    >>> [Path(path).name for path in paths]
    ['1.png', '2.png', '1.png']
    >>> labels.tolist()
    ['cat', 'cat', 'dog']
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"path={str(path)!r}: there is no such folder (looked for {root.absolute()})")
    if not root.is_dir():
        raise NotADirectoryError(f"path={str(path)!r} is a file; give the folder that holds one folder a class")
    entries = sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
    found = {entry.name: _images_below(entry) for entry in entries if entry.is_dir()}
    if not found:
        raise ValueError(
            f"path={str(path)!r} holds no folders; put the images of each class in a folder of its own, as in "
            f"{root / 'cat' / '1.jpg'}"
        )
    if not any(found.values()):
        raise ValueError(
            f"path={str(path)!r}: none of the class folders {list(found)} holds an image; files count as images by "
            f"their suffix: {', '.join(IMAGE_SUFFIXES)}"
        )
    _warn_of_left_out(root, [name for name in found if not found[name]], sum(_is_image(entry) for entry in entries))
    paths = [file for files in found.values() for file in files]
    return np.array(paths, dtype=object), np.array([name for name, files in found.items() for _ in files])


def _is_image(file: Path) -> bool:
    return file.suffix.lower().removeprefix(".") in IMAGE_SUFFIXES and file.is_file()


def _images_below(folder: Path) -> list[str]:
    """Return the paths of all images inside a folder, links to folders followed, each folder read once."""
    images, seen = [], set()
    for here, folders, files in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(here)) in seen:  # a link to a folder above would be followed for ever
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images += [str(Path(here, name)) for name in files if not name.startswith(".") and _is_image(Path(here, name))]
    return sorted(images)


def _warn_of_left_out(root: Path, empty: list[str], stray: int) -> None:
    parts = []
    if empty:
        parts.append(f"the class folders {empty} hold no images (by suffix: {', '.join(IMAGE_SUFFIXES)})")
    if stray:
        parts.append(f"{stray} images lie in no class folder")
    if parts:
        warnings.warn(f"{root}: {', and '.join(parts)}; they are left out", SktransferWarning, stacklevel=3)
