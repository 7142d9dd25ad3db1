"""Image folders: paths and labels of images in one sub-folder per class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sktransfer.exceptions import FolderLayoutWarning, InvalidSampleError, short_path, warn
from sktransfer.samples.folder_layout import describe_layout

__all__ = ["IMAGE_SUFFIXES", "has_image_suffix", "load_image_folder", "refuse_names_of_images"]

IMAGE_SUFFIXES = ("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp", "avif", "tif", "tiff", "ppm", "pgm")
_LOOKED_FOR = 20  # paths whose files are looked for
_UNREADABLE = ("heic", "heif", "svg", "dng", "cr2", "nef", "arw")  # images as well, reported in the warning
_NO_CLASS = ("__MACOSX", "@eaDir")  # created by macOS archives and by storage servers


def load_image_folder(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """List the images of a folder that has one sub-folder per class.

    The folder of a class may have sub-folders. Hidden files and folders, those that macOS and storage servers create
    (`__MACOSX`, `@eaDir`), and files without the suffix of an image are ignored. Images are not opened.
    `find_bad_images(paths)` finds those that cannot be used.

    Parameters
    ----------
    path : str or path
        Folder that contains one sub-folder per class. If the data set is split into parts such as train and test,
        the folder of one part.

    Returns
    -------
    paths : ndarray of shape (n_images,), object
        Paths as `str`, sorted by class, then by path. They are the X of an image estimator.
    labels : ndarray of shape (n_images,), str
        Name of the class folder of each image. They are the y.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    NotADirectoryError
        If `path` is a file.
    PermissionError
        If a folder inside it cannot be read.
    ValueError
        If there are no class folders, or no images in them.

    Warns
    -----
    SktransferWarning
        If files or folders are left out that may have been intended as data: class folders without images, images
        outside of class folders, broken links, and images of types that cannot be read (HEIC, SVG, raw photos).
    FolderLayoutWarning
        If `path` is probably one level too high: its folders are parts of a data set (train and test, folds, styles)
        that share the names of their folders, a single wrapper of other folders, or a copy. The warning gives the
        calls that list the parts.

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
        raise NotADirectoryError(f"path={str(path)!r} is a file; give the folder that contains one folder per class")
    entries = sorted(entry for entry in root.iterdir() if not _is_ignored(entry.name))
    unreadable: list[str] = []
    images = {entry.name: _images_below(entry, unreadable) for entry in entries if entry.is_dir()}
    if not images:
        raise ValueError(
            f"path={str(path)!r} contains no folders; put the images of each class in a folder of its own, as in "
            f"{root / 'cat' / '1.jpg'}"
        )
    if not any(images.values()):
        raise ValueError(
            f"path={str(path)!r}: none of the class folders {list(images)} contains an image; files count as images by "
            f"their suffix: {', '.join(IMAGE_SUFFIXES)}"
        )
    parents = {name: {os.path.dirname(file) for file in files} for name, files in images.items()}  # noqa: PTH120 - fast
    layout = describe_layout(root, {name: map(Path, folders) for name, folders in parents.items()})
    if layout:
        remedy = "If the classes are as read, filter FolderLayoutWarning"
        warn(f"{root}: {layout}. {remedy}", FolderLayoutWarning)
    stray = [str(entry) for entry in entries if _is_image(entry)]
    _warn_of_left_out(root, [name for name in images if not images[name]], stray, unreadable)
    paths = [file for files in images.values() for file in files]
    return np.array(paths, dtype=object), np.array([name for name, files in images.items() for _ in files])


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name in _NO_CLASS


def _suffix(name: str | Path) -> str:
    return Path(name).suffix.lower().removeprefix(".")


def _is_image(file: Path) -> bool:
    return _suffix(file) in IMAGE_SUFFIXES and file.is_file()


def _images_below(folder: Path, unreadable: list[str]) -> list[str]:
    """Return the paths of all images inside a folder, following links and reading each folder once.

    Images that cannot be read are added to `unreadable`.
    """
    images, seen = [], set()
    for here, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        if (real := os.path.realpath(here)) in seen:  # a link to a parent folder would never end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_ignored(name))
        for name in sorted(files):
            file = Path(here, name)
            if _is_ignored(name):
                continue
            if _is_image(file):
                images.append(str(file))
            elif _suffix(name) in _UNREADABLE or (_suffix(name) in IMAGE_SUFFIXES and file.is_symlink()):
                unreadable.append(str(file))
    return sorted(images)


def _raise(error: OSError) -> None:
    raise error


def _warn_of_left_out(root: Path, empty: list[str], stray: list[str], unreadable: list[str]) -> None:
    problems = []
    if empty:
        problems.append(f"the class folders {empty} contain no images (by suffix: {', '.join(IMAGE_SUFFIXES)})")
    if stray:
        problems.append(f"{len(stray)} images are outside of class folders (the first is {short_path(stray[0])})")
    if unreadable:
        problems.append(
            f"{len(unreadable)} images cannot be read, because they are broken links or of a type that Pillow does not "
            f"support (the first is {short_path(unreadable[0])})"
        )
    if problems:
        warn(f"{root}: {', and '.join(problems)}; they are ignored")


def has_image_suffix(text: str) -> bool:
    """Return whether a text ends with the suffix of an image, as a path or an address does.

    Parameters
    ----------
    text : str
        A text of any length.

    Examples
    --------
    >>> from sktransfer.samples.folders import has_image_suffix
    >>> [has_image_suffix(text) for text in ("cat.JPG", "https://example.org/cat.png?size=2", "a cat")]
    [True, True, False]
    """
    text = text.strip()
    path = text.partition("?")[0] if "://" in text[:12] else text
    stem, dot, suffix = path.rpartition(".")
    return bool(dot) and bool(stem) and "\n" not in stem and suffix.lower() in IMAGE_SUFFIXES


def refuse_names_of_images(texts: Sequence[str]) -> None:
    """Raise an error if texts are the addresses of images, or the paths of image files that exist.

    Parameters
    ----------
    texts : sequence of str
        Texts, of which a column of names has no other.

    Raises
    ------
    InvalidSampleError
        If all of them name images.

    Examples
    --------
    >>> from sktransfer.samples.folders import refuse_names_of_images
    >>> refuse_names_of_images(["see cat.jpg", "a cat"])
    >>> refuse_names_of_images(["https://example.org/1.jpg"])
    Traceback (most recent call last):
        ...
    sktransfer.exceptions.InvalidSampleError: row 0: 'https://example.org/1.jpg' is the address of an image, which is \
not fetched and is no text: download the files, and give their paths
    """
    if not texts or not all(map(has_image_suffix, texts)):
        return
    if all("://" in text[:12] for text in texts):
        reason = "is the address of an image, which is not fetched and is no text: download the files, and give their"
        raise InvalidSampleError(0, f"{short_path(texts[0])} {reason} paths")
    if all(map(os.path.isfile, texts[:_LOOKED_FOR])):
        raise InvalidSampleError(
            0,
            f"{short_path(texts[0])} is the path of an image, not a text, and names of files often tell the label. Use "
            "an estimator of images, such as ImageFeaturizer",
        )
