"""Images kept in one folder a class: their paths and their labels."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np

from sktransfer.exceptions import SktransferWarning, short_path

__all__ = ["IMAGE_SUFFIXES", "load_image_folder"]

IMAGE_SUFFIXES = ("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp", "avif", "tif", "tiff", "ppm", "pgm")
_UNREADABLE = ("heic", "heif", "svg", "dng", "cr2", "nef", "arw")  # pictures, too, that would be missed
_NO_CLASS = ("__MACOSX", "@eaDir")  # made by macOS when it packs, and by storage servers


def load_image_folder(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """List the images of a folder that has one sub-folder a class.

    Images may lie in further folders inside that of their class. Passed over are hidden files and folders, those that
    macOS and storage servers leave (`__MACOSX`, `@eaDir`), and files that do not have the suffix of an image. No image
    is opened: `find_bad_images(paths)` tells which of them cannot be used.

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
    PermissionError
        If a folder in it cannot be read.
    ValueError
        If it holds no class folders, or these hold no images.

    Warns
    -----
    SktransferWarning
        Of what is left out that may have been meant: class folders without images, images that lie in no class folder,
        links that lead nowhere, and pictures of kinds that cannot be read (HEIC, SVG, raw photos).

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
    entries = sorted(entry for entry in root.iterdir() if not _is_passed_over(entry.name))
    missed: list[str] = []
    found = {entry.name: _images_below(entry, missed) for entry in entries if entry.is_dir()}
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
    stray = [str(entry) for entry in entries if _is_image(entry)]
    _warn_of_left_out(root, [name for name in found if not found[name]], stray, missed)
    paths = [file for files in found.values() for file in files]
    return np.array(paths, dtype=object), np.array([name for name, files in found.items() for _ in files])


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name in _NO_CLASS


def _suffix(name: str | Path) -> str:
    return Path(name).suffix.lower().removeprefix(".")


def _is_image(file: Path) -> bool:
    return _suffix(file) in IMAGE_SUFFIXES and file.is_file()


def _images_below(folder: Path, missed: list[str]) -> list[str]:
    """Return the paths of all images inside a folder, links to folders followed, each folder read once.

    Pictures that nothing can be made of are added to `missed`.
    """
    images, seen = [], set()
    for here, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        if (place := os.path.realpath(here)) in seen:  # a link to a folder above would be followed for ever
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not _is_passed_over(name))
        for name in sorted(files):
            file = Path(here, name)
            if _is_passed_over(name):
                continue
            if _is_image(file):
                images.append(str(file))
            elif _suffix(name) in _UNREADABLE or (_suffix(name) in IMAGE_SUFFIXES and file.is_symlink()):
                missed.append(str(file))
    return sorted(images)


def _raise(error: OSError) -> None:
    raise error


def _warn_of_left_out(root: Path, empty: list[str], stray: list[str], missed: list[str]) -> None:
    parts = []
    if empty:
        parts.append(f"the class folders {empty} hold no images (by suffix: {', '.join(IMAGE_SUFFIXES)})")
    if stray:
        parts.append(f"{len(stray)} images lie in no class folder (the first is {short_path(stray[0])})")
    if missed:
        parts.append(
            f"{len(missed)} pictures cannot be read, being links that lead nowhere, or of a kind that Pillow does not "
            f"know (the first is {short_path(missed[0])})"
        )
    if parts:
        warnings.warn(f"{root}: {', and '.join(parts)}; they are left out", SktransferWarning, stacklevel=3)
