"""Exceptions and warnings of sktransfer.

SktransferError
├── BackboneNotFoundError (LookupError)   unknown name of a backbone, stage or provider
├── WeightsError (OSError)                weights are missing, cannot be downloaded or are not trusted
├── InvalidParameterError (ValueError)    a parameter has an invalid value
├── InvalidSampleError (ValueError)       a sample cannot be used; has its row
├── LoadError (OSError)                   a saved estimator cannot be loaded or is not trusted
├── PluginError (RuntimeError)            a plugin violates the plugin API
├── SaveError (ValueError)                an estimator cannot be saved
└── StoreError (OSError)                  a store on disk cannot be cleared or pruned

SktransferWarning (UserWarning)
├── CheckpointWarning                     a training checkpoint cannot be read or written; training continues
├── DisagreementWarning                   scores and a probe rank backbones or layers differently
├── FlatImageWarning                      flat rows are read as strips, or have values outside [0, 1]
├── InvalidSampleWarning                  samples cannot be used and became rows of NaN; has rows and reasons
├── StoreWarning                          a store on disk cannot be read or written; values are computed
├── TruncatedTextWarning                  texts are longer than the model's limit
├── UnreadPartWarning                     parts of a model's files have no counterpart here and are not read
└── UnknownWordsWarning                   many words of the texts have no vector or are unknown to the model

Each error also derives from the built-in exception in brackets, so that scikit-learn and other callers can handle it
without knowing sktransfer.
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
    "UnreadPartWarning",
    "WeightsError",
]


class SktransferError(Exception):
    """Base class of all errors of sktransfer."""


class BackboneNotFoundError(SktransferError, LookupError):
    """A name of a backbone, stage or provider is unknown."""


class WeightsError(SktransferError, OSError):
    """Weights are missing, cannot be downloaded, or are not trusted."""


class InvalidParameterError(SktransferError, ValueError):
    """A parameter has an invalid value."""


class InvalidSampleError(SktransferError, ValueError):
    """A sample cannot be used.

    Attributes
    ----------
    row : int
        Row in X, counted from 0.
    """

    def __init__(self, row: int, message: str) -> None:
        super().__init__(f"row {row}: {message}")
        self.row = row
        self.message = message

    def __reduce__(self) -> tuple[type[InvalidSampleError], tuple[int, str]]:
        return type(self), (self.row, self.message)  # the arguments of __init__; `args` has only the joined message


class InvalidSample(NamedTuple):
    """Row, path and reason of a sample that cannot be used, as listed in warnings and tables.

    Parameters
    ----------
    row : int
        Row in X, counted from 0.
    path : str or None
        Path of the sample, if it is a file.
    reason : str
        The problem and a remedy.
    """

    row: int
    path: str | None
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}: {'' if self.path is None else short_path(self.path) + ' '}{self.reason}"


class LoadError(SktransferError, OSError):
    """A saved estimator is missing, damaged, of another version, or contains types that are not trusted."""


class PluginError(SktransferError, RuntimeError):
    """A plugin violates the plugin API."""


class SaveError(SktransferError, ValueError):
    """An estimator contains objects that cannot be saved without code, or the path is not writable."""


class StoreError(SktransferError, OSError):
    """A store on disk cannot be cleared or pruned."""


class SktransferWarning(UserWarning):
    """Base class of all warnings of sktransfer."""


class CheckpointWarning(SktransferWarning):
    """A training checkpoint cannot be read or written. Training continues without it."""


class DisagreementWarning(SktransferWarning):
    """Scores and a probe rank backbones or layers differently."""


class FlatImageWarning(SktransferWarning):
    """Flat rows are read as strips, or have values outside [0, 1]."""


class InvalidSampleWarning(SktransferWarning):
    """Samples cannot be used, and their rows of features are NaN.

    Parameters
    ----------
    failures : sequence of InvalidSample
        Rows, paths and reasons.
    n_samples : int
        Number of all samples.

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
                f"  and {n - self.LISTED} more. This warning's `failures` lists all, as does find_bad_images(X)"
            )
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[InvalidSampleWarning], tuple[tuple[InvalidSample, ...], int]]:
        return type(self), (self.failures, self.n_samples)


class StoreWarning(SktransferWarning):
    """A store on disk cannot be read or written. Values are computed without it."""


class TruncatedTextWarning(SktransferWarning):
    """Texts are longer than the model's limit and were truncated."""


class UnknownWordsWarning(SktransferWarning):
    """Many words of the texts have no vector, or texts consist mostly of tokens unknown to the model."""


class UnreadPartWarning(SktransferWarning):
    """Parts of a model's files have no counterpart in sktransfer and are not read, so that its values differ."""


def did_you_mean(given: str, allowed: Iterable[str], n: int = 3) -> str:
    """Return ` Did you mean 'a' or 'b'?`, or an empty string if no allowed name is similar."""
    near = get_close_matches(given, list(allowed), n=n, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def short_path(path: str, length: int = 200) -> str:
    """Return a path in quotes and in one line, with the middle of a long path omitted.

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
