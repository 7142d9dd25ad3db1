"""Shape of an image folder: whether the folders that are read as classes are parts of a data set, or copies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from sktransfer.exceptions import short_path

__all__ = ["describe_layout"]

_SHARED = 2  # class names that two folders must share to be taken for parts of one data set
_MOST = 20  # parts: with more folders of the same names, a folder in each class is more likely
_SHOWN = 4  # names and paths listed in a message
_PARTS = r"(train|test|val|valid|eval|dev|pred|fold|split|part|holdout)(ing|idation|uation|iction)?"
_PART = re.compile(rf"(\w*[\W_])?{_PARTS}([\W_]*(set|data|images|\d+))*", re.IGNORECASE)


@dataclass
class _Folder:
    """A folder that holds images, directly or below."""

    path: Path
    has_images: bool = False  # directly
    folders: dict[str, _Folder] = field(default_factory=dict)

    def unwrapped(self) -> _Folder:
        """Return the first folder below that is not a mere wrapper of a single other folder."""
        folder = self
        while not folder.has_images and len(folder.folders) == 1:
            (folder,) = folder.folders.values()
        return folder

    def below(self) -> Iterable[_Folder]:
        """Yield this folder and all below it."""
        yield self
        for folder in self.folders.values():
            yield from folder.below()


def describe_layout(root: Path, classes: Mapping[str, Iterable[Path]]) -> str | None:
    """Describe why the class folders of a root are probably no classes, and what to list instead.

    The shape of the tree decides. A class folder may hold any folders, unless
    other class folders have the same ones.

    Parameters
    ----------
    root : Path
        Folder with one folder per class.
    classes : mapping of str to iterable of Path
        Folders that directly hold images, by class folder.

    Returns
    -------
    description : str or None
        One or more sentences. None if nothing speaks against the classes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from sktransfer.samples.folder_layout import describe_layout
    >>> root = Path("pets")
    >>> print(describe_layout(root, {name: [root / name / "cat", root / name / "dog"] for name in ("a", "b")}))
    the folders ['a', 'b'] are read as classes, but hold no images of their own and the same folders, ['cat', 'dog']. \
If these are the classes, list each part: load_image_folder('pets/a'), load_image_folder('pets/b')
    """
    folders = {name: _tree(root / name, paths) for name, paths in classes.items()}
    folders = {name: folder for name, folder in folders.items() if folder.has_images or folder.folders}
    problems = [_wrapper(folders), _parts(folders), _copies(folders)]
    return ". Moreover, ".join(problem for problem in problems if problem) or None


def _tree(path: Path, with_images: Iterable[Path]) -> _Folder:
    tree = _Folder(path)
    for folder in with_images:
        node = tree
        for name in folder.relative_to(path).parts:
            node = node.folders.setdefault(name, _Folder(node.path / name))
        node.has_images = True
    return tree


def _wrapper(folders: Mapping[str, _Folder]) -> str | None:
    """Describe a single class folder that holds class folders, as an archive has it."""
    if len(folders) != 1:
        return None
    ((name, folder),) = folders.items()
    inner = folder.unwrapped()
    if inner.has_images:
        return None
    parts = _group(inner.folders)
    paths = [inner.folders[part].unwrapped().path for part in parts] or [inner.path]
    return (
        f"the only folder with images, {name!r}, is read as one class, but holds the folders "
        f"{_listed(inner.folders)}. If these are the classes, or parts of the data, list them: {_calls(paths)}"
    )


def _parts(folders: Mapping[str, _Folder]) -> str | None:
    """Describe parts of a data set, such as train and test, that are read as classes."""
    group = _group(folders)
    if group:
        inner = [folders[name].unwrapped() for name in group]
        shared = sorted(set.intersection(*(set(folder.folders) for folder in inner)))
        same = f"the same folders, {_listed(shared)}" if shared else "folders of the same names"
        return (
            f"the folders {_listed(group)} are read as classes, but hold no images of their own and {same}. If these "
            f"are the classes, list each part: {_calls([folder.path for folder in inner])}"
        )
    named = [name for name in folders if _PART.fullmatch(name)]
    if len(named) < 2 or 2 * len(named) < len(folders):
        return None
    inner = [folders[name].unwrapped() for name in named]
    paths = [folder.path for folder in inner if not folder.has_images]
    remedy = f"list each part: {_calls(paths)}" if paths else "sort the images of each part into one folder per class"
    return f"the folders {_listed(named)} are read as classes, but have the names of parts of a data set: {remedy}"


def _group(folders: Mapping[str, _Folder]) -> list[str]:
    """Return the folders without images of their own that share most of their folders, if they are not exceptions."""
    inner = {name: folder.unwrapped() for name, folder in folders.items()}
    if len(folders) > 2 * _MOST:
        return []
    names = {name: set(folder.folders) for name, folder in inner.items() if not folder.has_images}
    group: set[str] = set()
    for (one, of_one), (other, of_other) in combinations(names.items(), 2):
        shared = [name for name in of_one & of_other if not _PART.fullmatch(name)]  # parts inside of classes are right
        if len(shared) >= _SHARED and 2 * len(shared) > min(len(of_one), len(of_other)):
            group |= {one, other}
    return sorted(group) if len(folders) <= 2 * len(group) <= 2 * _MOST else []


def _copies(folders: Mapping[str, _Folder]) -> str | None:
    """Describe a class folder that holds the other class folders once more."""
    copies = []
    for folder in folders.values():
        for inside in folder.below():
            n_shared = sum(name in folders for name in inside.folders)
            if n_shared >= _SHARED and 2 * n_shared > len(folders) - 1:
                copies.append(inside.path)
                break
    if not copies:
        return None
    paths = ", ".join(short_path(str(path)) for path in copies[:_SHOWN])
    return f"{paths} holds folders of the same names as {_listed(folders)}, as a copy does: move it to another place"


def _listed(names: Iterable[str]) -> str:
    given = list(names)
    more = f", and {len(given) - _SHOWN} more" if len(given) > _SHOWN else ""
    return f"{given[:_SHOWN]}{more}"


def _calls(paths: list[Path]) -> str:
    more = f", and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(f"load_image_folder({short_path(str(path))})" for path in paths[:_SHOWN]) + more
