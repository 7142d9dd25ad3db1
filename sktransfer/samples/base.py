"""Samples: the interface of validated samples, its base class, and the hash of a sample's content."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, Self

import numpy as np

from sktransfer.exceptions import InvalidSample, InvalidSampleError, short_path
from sktransfer.samples.labels import add_label, label_of

__all__ = ["Rows", "Samples", "collect_invalid", "content_hash", "content_hashes", "to_invalid_sample"]


class Samples(Protocol):
    """Interface of validated samples."""

    def __len__(self) -> int: ...

    def load(self, row: int) -> Any:
        """Return one sample, an image (PIL in mode RGB, or float32 (height, width, 3)) or a text."""

    def key(self, row: int) -> bytes:
        """Return a hash of 20 bytes of the sample's content."""

    def keys(self, rows: Sequence[int]) -> list[bytes]:
        """Return the key of each of some rows, in less time than one by one."""

    def path(self, row: int) -> str | None:
        """Return the path of a sample that is read from a file, else None."""

    def label(self, row: int) -> Any:
        """Return the label of a row in the index of X, or None if X has no labels."""

    def take(self, rows: Sequence[int] | np.ndarray) -> Samples:
        """Return a subset of the rows."""


class Rows:
    """Rows of X, or a subset of them. Subclasses implement loading and hashing of a row of the original X.

    Parameters
    ----------
    n : int
        Number of rows of X.

    Attributes
    ----------
    labels : Index or None
        Result of `row_labels` for X, which errors name.
    absent : frozenset of int
        Rows of X without a sample, which is allowed. They raise an error when they are loaded or hashed.
    """

    absent: frozenset[int] = frozenset()

    def __init__(self, n: int) -> None:
        self._rows = np.arange(n)
        self.labels: Any = None
        # Hashes are kept after first use. If a file changed between `load` and a second hash, the features of its old
        # content would be cached under the key of the new content.
        self._keys: dict[int, bytes] = {}

    def _load(self, row: int) -> Any:
        raise NotImplementedError

    def _hash(self, row: int) -> bytes:
        raise NotImplementedError

    def _hashes(self, rows: list[int]) -> Iterable[bytes]:
        return map(self._hash, rows)

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, row: int) -> Any:
        """Return one sample.

        Parameters
        ----------
        row : int
            Position in this subset.

        Raises
        ------
        InvalidSampleError
            If the sample cannot be read. The error names the row of the original X.
        """
        try:
            return self._load(int(self._rows[row]))
        except InvalidSampleError as error:
            add_label(error, self.labels)
            raise

    def key(self, row: int) -> bytes:
        """Return a hash of 20 bytes of the sample's content.

        Parameters
        ----------
        row : int
            Position in this subset.

        Raises
        ------
        InvalidSampleError
            If the sample cannot be read. The error names the row of the original X.
        """
        return self.keys([row])[0]

    def keys(self, rows: Sequence[int]) -> list[bytes]:
        """Return the key of each of some rows, in less time than one by one.

        Parameters
        ----------
        rows : sequence of int
            Positions in this subset.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be read. The error names the row of the original X.
        """
        known, originals = self._keys, [self._rows.item(row) for row in rows]
        new = [row for row in dict.fromkeys(originals) if row not in known]
        try:
            known.update(zip(new, self._hashes(new)))
        except InvalidSampleError as error:
            add_label(error, self.labels)
            raise
        return [known[row] for row in originals]

    def path(self, row: int) -> str | None:
        """Return the path of a sample that is read from a file, and None for other samples.

        Parameters
        ----------
        row : int
            Position in this subset.
        """
        return None

    def label(self, row: int) -> Any:
        """Return the label of a row in the index of X, or None if X has no labels.

        Parameters
        ----------
        row : int
            Position in this subset.
        """
        return label_of(self.labels, int(self._rows[row]))

    def has(self, row: int) -> bool:
        """Return whether a row has a sample.

        Parameters
        ----------
        row : int
            Position in this subset.
        """
        return int(self._rows[row]) not in self.absent

    def present(self) -> np.ndarray:
        """Return whether each row has a sample, (n_rows,)."""
        return np.array([not self.absent or self.has(row) for row in range(len(self))], dtype=bool)

    def take(self, rows: Sequence[int] | np.ndarray) -> Self:
        """Return a subset of the rows. Samples and hashes are shared, and errors name rows of the original X.

        Parameters
        ----------
        rows : sequence of int
            Positions in this subset, in any order, with or without repetition.
        """
        view = copy.copy(self)
        view._rows = self._rows[np.asarray(list(rows), dtype=np.intp)]
        return view


def content_hash(kind: str, *parts: Any) -> bytes:
    """Return a hash of 20 bytes of the content of one sample.

    Parameters
    ----------
    kind : str
        Kind of sample. It separates samples that have equal bytes but are decoded differently.
    *parts : str, bytes or ndarray
        The content. Of arrays, the values are hashed, not dtype and shape.

    Examples
    --------
    >>> from sktransfer.samples.base import content_hash
    >>> content_hash("text", "a b") == content_hash("text", "a", "b")
    False
    """
    running = _begin(kind).copy()
    for part in parts:
        content = _as_bytes(part)
        if isinstance(content, bytes):
            running.update(b"|%d|%b" % (len(content), content))
            continue
        running.update(b"|%d|" % len(content))
        running.update(content)
    return running.digest()


def content_hashes(kind: str, texts: Iterable[str]) -> list[bytes]:
    """Return `content_hash` of each of many texts, in half of the time.

    Parameters
    ----------
    kind : str
        Kind of sample.
    texts : iterable of str
        Contents of one part.

    Examples
    --------
    >>> from sktransfer.samples.base import content_hash, content_hashes
    >>> content_hashes("text", ["a", "b"]) == [content_hash("text", "a"), content_hash("text", "b")]
    True
    """
    begin, found = _begin(kind).copy, []
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        running = begin()
        running.update(b"|%d|%b" % (len(content), content))
        found.append(running.digest())
    return found


@functools.cache
def _begin(kind: str) -> hashlib.blake2b:
    return hashlib.blake2b(kind.encode(), digest_size=20)


def _as_bytes(part: str | bytes | np.ndarray) -> Any:
    if isinstance(part, str):
        return part.encode("utf-8", "surrogatepass")  # a str, and a file name on Linux, may contain lone surrogates
    if isinstance(part, np.ndarray):
        return np.ascontiguousarray(part).reshape(-1).view(np.uint8)  # (n_bytes,)
    return part


@contextlib.contextmanager
def collect_invalid(invalid: dict[int, str] | None) -> Iterator[None]:
    """Store the message of an `InvalidSampleError` raised in this context, or let it propagate.

    Parameters
    ----------
    invalid : dict of int to str, or None
        Dict that receives the message under its row. None lets errors propagate.
    """
    try:
        yield
    except InvalidSampleError as error:
        if invalid is None:
            raise
        invalid[error.row] = error.message  # not the error itself, whose traceback would keep its frames alive


def to_invalid_sample(error: InvalidSampleError, path: str | None) -> InvalidSample:
    """Return an error's row, path and reason, without the path in the reason.

    Parameters
    ----------
    error : InvalidSampleError
        The error.
    path : str or None
        Path of the sample, if it is a file.
    """
    reason = error.message if path is None else error.message.removeprefix(f"{short_path(path)} ")
    return InvalidSample(error.row, path, reason, error.label)
