"""Everything sktransfer raises or warns of by its own name.

SktransferError
├── BackboneNotFoundError (LookupError)   no backbone, stage or provider of that name
├── WeightsError (OSError)                weights cannot be found, fetched or trusted
├── InvalidParameterError (ValueError)    an argument that is not allowed
├── InvalidSampleError (ValueError)       a sample that cannot be used; knows its row
├── LoadError (OSError)                   a saved estimator cannot be loaded, or is not to be trusted
├── PluginError (RuntimeError)            a plugin that breaks the contract
├── SaveError (ValueError)                an estimator cannot be saved
└── StoreError (OSError)                  a folder's store cannot be cleared or pruned

SktransferWarning (UserWarning)
├── CheckpointWarning                     a training's state cannot be read or written; it goes on
├── DisagreementWarning                   scores rank otherwise than a probe does
├── FlatImageWarning                      flat rows read as images in a way worth knowing
├── InvalidSampleWarning                  samples that cannot be used became rows of NaN; knows which, and why
├── StoreWarning                          a folder's store cannot be read or written; computing goes on
├── TruncatedTextWarning                  texts longer than the model takes
└── UnknownWordsWarning                   many words of the texts have no vector

Each error is also the built-in kind in brackets, so that scikit-learn and callers who have never heard of sktransfer
handle it rightly.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple

__all__ = [
    "BackboneNotFoundError",
    "CheckpointWarning",
    "DisagreementWarning",
    "FlatImageWarning",
    "InvalidParameterError",
    "InvalidSample",
    "InvalidSampleError",
    "InvalidSampleWarning",
    "LoadError",
    "PluginError",
    "SaveError",
    "SktransferError",
    "SktransferWarning",
    "StoreError",
    "StoreWarning",
    "TruncatedTextWarning",
    "UnknownWordsWarning",
    "WeightsError",
]


class SktransferError(Exception):
    """What all errors of sktransfer have in common."""


class BackboneNotFoundError(SktransferError, LookupError):
    """No backbone goes by that name."""


class WeightsError(SktransferError, OSError):
    """Weights cannot be found, fetched, or trusted."""


class InvalidParameterError(SktransferError, ValueError):
    """A parameter has a value that is not allowed."""


class InvalidSampleError(SktransferError, ValueError):
    """A sample cannot be used.

    Attributes
    ----------
    row : int
        Its place in X, counted from 0.
    """

    def __init__(self, row: int, message: str) -> None:
        super().__init__(f"row {row}: {message}")
        self.row = row
        self.message = message

    def __reduce__(self) -> tuple[type[InvalidSampleError], tuple[int, str]]:
        return type(self), (self.row, self.message)  # what __init__ takes; `args` holds the one string made of both


class InvalidSample(NamedTuple):
    """A sample that cannot be used, as a warning or a table lists it.

    Parameters
    ----------
    row : int
        Its place in X, counted from 0.
    path : str or None
        The file, where it comes from one.
    reason : str
        What is the matter, and what to do.
    """

    row: int
    path: str | None
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}: {'' if self.path is None else short_path(self.path) + ' '}{self.reason}"


class LoadError(SktransferError, OSError):
    """A saved estimator cannot be loaded: it is missing, damaged, of another version, or holds what is not trusted."""


class PluginError(SktransferError, RuntimeError):
    """A plugin breaks the contract."""


class SaveError(SktransferError, ValueError):
    """An estimator cannot be saved: it holds what no file without code can, or the place cannot be written to."""


class StoreError(SktransferError, OSError):
    """A folder's store cannot be cleared or pruned."""


class SktransferWarning(UserWarning):
    """What all warnings of sktransfer have in common."""


class CheckpointWarning(SktransferWarning):
    """The state of a training cannot be read or written; it goes on without."""


class DisagreementWarning(SktransferWarning):
    """Scores rank backbones and layers otherwise than a probe does."""


class FlatImageWarning(SktransferWarning):
    """Flat rows are read as images in a way that the caller should know of."""


class InvalidSampleWarning(SktransferWarning):
    """Samples cannot be used, and their rows of features are NaN.

    Parameters
    ----------
    failures : sequence of InvalidSample
        Which, and why.
    n_samples : int
        How many samples there were.

    Attributes
    ----------
    failures : tuple of InvalidSample
    n_samples : int

    Examples
    --------
    >>> from sktransfer.exceptions import InvalidSample, InvalidSampleWarning
    >>> print(InvalidSampleWarning([InvalidSample(3, "cat.jpg", "has 0 bytes")], 100))
    1 of 100 images cannot be used; its row is NaN:
      row 3: 'cat.jpg' has 0 bytes
    """

    LISTED = 10

    def __init__(self, failures: Iterable[InvalidSample], n_samples: int) -> None:
        self.failures, self.n_samples = tuple(failures), n_samples
        n = len(self.failures)
        lines = [f"{n} of {n_samples} images cannot be used; {'its row is' if n == 1 else 'their rows are'} NaN:"]
        lines += [f"  {failure}" for failure in self.failures[: self.LISTED]]
        if n > self.LISTED:
            lines.append(
                f"  and {n - self.LISTED} more: this warning's `failures` has all, and so has find_bad_images(X)"
            )
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[InvalidSampleWarning], tuple[tuple[InvalidSample, ...], int]]:
        return type(self), (self.failures, self.n_samples)


class StoreWarning(SktransferWarning):
    """A folder's store cannot be read or written; what it would have given is computed."""


class TruncatedTextWarning(SktransferWarning):
    """Texts are longer than the model takes, and were cut."""


class UnknownWordsWarning(SktransferWarning):
    """Many words of the texts have no vector."""


def did_you_mean(given: str, allowed: Iterable[str], n: int = 3) -> str:
    """Return ` Did you mean 'a' or 'b'?`, or nothing where no allowed name is near the one given."""
    near = get_close_matches(given, list(allowed), n=n, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def short_path(path: str, length: int = 200) -> str:
    """Return a path in quotes and in one line; of a very long one the beginning and the end, where the file's name is.

    Examples
    --------
    >>> from sktransfer.exceptions import short_path
    >>> short_path("a" * 300 + "/cat.jpg", 40)
    "'aaaaaaaaa...aaaaaaaaaaaaaaaaaa/cat.jpg'"
    """
    quoted = repr(path)
    if len(quoted) <= length:
        return quoted
    return f"{quoted[: length // 4]}...{quoted[len(quoted) - 3 * length // 4 + 3 :]}"
