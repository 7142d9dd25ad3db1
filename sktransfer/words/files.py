"""Files of vectors: which one it is, whether it is still the same, and the folder for what was made of large ones."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sktransfer._utils import local_path
from sktransfer.exceptions import WeightsError, did_you_mean

__all__ = ["Source", "cache_folder", "kept", "source_of"]


@dataclass(frozen=True)
class Source:
    """A file at one moment.

    Parameters
    ----------
    path : str
        Its absolute path.
    size : int
        Its size in bytes.
    modified : int
        When it was last written, in nanoseconds.
    """

    path: str
    size: int
    modified: int

    def key(self, version: int) -> str:
        """Return a name for what is made of this file by this version of the code."""
        parts = f"{version}|{self.path}|{self.size}|{self.modified}"
        return hashlib.blake2b(parts.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def digest(self) -> str:
        """Return the hash of the file's content.

        Raises
        ------
        WeightsError
            If the file is not what it was when it was read.
        """
        if source_of(self.path) != self:
            raise WeightsError(
                f"{self.path} has changed since its vectors were read: fit the estimator anew before it is pickled"
            )
        if self not in _digests:
            with Path(self.path).open("rb") as file:
                _digests[self] = hashlib.file_digest(file, "blake2b").hexdigest()
        return _digests[self]


_digests: dict[Source, str] = {}  # hashing gigabytes takes seconds: once a process and file


def source_of(path: str | os.PathLike[str]) -> Source:
    """Return what tells a file from any other, and from itself after a change.

    Raises
    ------
    WeightsError
        If there is no such file.
    """
    resolved = local_path(path).resolve()
    if not resolved.is_file():
        near = did_you_mean(str(path), ["fasttext", "word2vec"])
        raise WeightsError(
            f"{str(path)!r}: there is no such file ({resolved}).{near} Give the path of fastText's .bin or .ftz, or of "
            "word2vec's or GloVe's text or binary format, gzipped or not"
        )
    status = resolved.stat()
    return Source(str(resolved), status.st_size, status.st_mtime_ns)


def cache_folder() -> Path:
    """Return the folder of files that can be made again: $SKTRANSFER_CACHE, else `sktransfer` in the user's cache."""
    given = os.environ.get("SKTRANSFER_CACHE")
    if given:
        return local_path(given)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "sktransfer"


def kept(key: str, make: Callable[[Path], Any]) -> Path:
    """Return a folder in the cache, made first where it is not there yet.

    It gets its name when it is whole: a crash, or another process that makes it at the same time, leaves no half of
    one.

    Parameters
    ----------
    key : str
        The folder's name.
    make : callable
        Fills the empty folder that it is given.

    Raises
    ------
    WeightsError
        If the cache cannot be written.
    """
    folder = cache_folder() / "vectors"
    final = folder / key
    if final.is_dir():
        return final
    try:
        folder.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=folder))
    except OSError as error:
        raise WeightsError(
            f"{folder} cannot be written ({error}); large files of vectors are converted there once. Name another "
            "folder in the environment variable SKTRANSFER_CACHE"
        ) from error
    try:
        make(making)
        try:
            making.rename(final)
        except OSError:
            if not final.is_dir():  # else another process was first, and its folder is as good
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return final
