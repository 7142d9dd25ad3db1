"""What samples of all kinds have in common: rows of X that are counted, loaded, hashed and picked."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self

import numpy as np

from sktransfer.exceptions import InvalidSample, InvalidSampleError, short_path

__all__ = ["Rows", "Samples", "content_hash", "described", "noting"]


class Samples(Protocol):
    """Validated samples, as every estimator gets them."""

    def __len__(self) -> int: ...

    def load(self, row: int) -> Any:
        """Return one sample: an image (PIL in mode RGB, or float32 (height, width, 3)), or a text."""

    def key(self, row: int) -> bytes:
        """Return 20 bytes that tell the sample's content from any other."""

    def path(self, row: int) -> str | None:
        """Return the file that a sample is read from, where it is one."""

    def take(self, rows: Sequence[int] | np.ndarray) -> Samples:
        """Return some of the rows."""


class Rows:
    """Some rows of an X. Subclasses say how the sample of a row of the original X is loaded and hashed.

    Parameters
    ----------
    n : int
        How many rows X has.
    """

    def __init__(self, n: int) -> None:
        self._rows = np.arange(n)
        # A hash is kept from its first use on: were it taken anew after `load`, a file that changes in between would
        # leave the features of its old content under the key of the new one.
        self._keys: dict[int, bytes] = {}

    def _load(self, row: int) -> Any:
        raise NotImplementedError

    def _hash(self, row: int) -> bytes:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, row: int) -> Any:
        """Return one sample.

        Parameters
        ----------
        row : int
            Its place among these rows.

        Raises
        ------
        InvalidSampleError
            If it cannot be read; the row it names is that of the original X.
        """
        return self._load(int(self._rows[row]))

    def key(self, row: int) -> bytes:
        """Return 20 bytes that tell the sample's content from any other.

        Parameters
        ----------
        row : int
            Its place among these rows.

        Raises
        ------
        InvalidSampleError
            If it cannot be read; the row it names is that of the original X.
        """
        original = int(self._rows[row])
        if original not in self._keys:
            self._keys[original] = self._hash(original)
        return self._keys[original]

    def path(self, row: int) -> str | None:
        """Return the file that a sample is read from; None for samples that are no files.

        Parameters
        ----------
        row : int
            Its place among these rows.
        """
        return None

    def take(self, rows: Sequence[int] | np.ndarray) -> Self:
        """Return some of the rows; samples and hashes are shared, and errors go on naming rows of the original X.

        Parameters
        ----------
        rows : sequence of int
            Places among these rows, in any order, repeated or not.
        """
        view = copy.copy(self)
        view._rows = self._rows[np.asarray(list(rows), dtype=np.intp)]
        return view


def content_hash(kind: str, *parts: Any) -> bytes:
    """Return 20 bytes for the content of one sample.

    Parameters
    ----------
    kind : str
        Tells samples apart whose bytes agree but that are read in different ways.
    *parts : str, bytes or ndarray
        The content; of arrays the values, not dtype and shape.

    Examples
    --------
    >>> from sktransfer.samples.base import content_hash
    >>> content_hash("text", "a b") == content_hash("text", "a", "b")
    False
    """
    running = hashlib.blake2b(kind.encode(), digest_size=20)
    for part in parts:
        content = _as_bytes(part)
        running.update(b"|%d|" % len(content))
        running.update(content)
    return running.digest()


def _as_bytes(part: str | bytes | np.ndarray) -> Any:
    if isinstance(part, str):
        return part.encode("utf-8", "surrogatepass")  # a str, and a file name on Linux, can hold lone surrogates
    if isinstance(part, np.ndarray):
        return np.ascontiguousarray(part).reshape(-1).view(np.uint8)  # (n_bytes,)
    return part


@contextlib.contextmanager
def noting(invalid: dict[int, str] | None) -> Iterator[None]:
    """Write down the error of a sample that cannot be used; without anything to write it into, it is raised.

    Parameters
    ----------
    invalid : dict of int to str, or None
        Gets the message under the row.
    """
    try:
        yield
    except InvalidSampleError as error:
        if invalid is None:
            raise
        invalid[error.row] = error.message  # not the error, which would hold on to all that its frames hold


def described(error: InvalidSampleError, path: str | None) -> InvalidSample:
    """Return an error's row, path and reason, the path left out of the reason.

    Parameters
    ----------
    error : InvalidSampleError
        The error.
    path : str or None
        Of the sample, where it is a file.
    """
    reason = error.message if path is None else error.message.removeprefix(f"{short_path(path)} ")
    return InvalidSample(error.row, path, reason)
