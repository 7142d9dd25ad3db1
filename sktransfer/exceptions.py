"""Everything sktransfer raises or warns of by its own name.

SktransferError
├── BackboneNotFoundError (LookupError)   no backbone, stage or provider of that name
├── WeightsError (OSError)                weights cannot be found, fetched or trusted
├── InvalidParameterError (ValueError)    an argument that is not allowed
├── InvalidSampleError (ValueError)       a sample that cannot be used; knows its row
├── PluginError (RuntimeError)            a plugin that breaks the contract
└── StoreError (OSError)                  a folder's store cannot be cleared or pruned

SktransferWarning (UserWarning)
├── DisagreementWarning                   scores rank otherwise than a probe does
├── FlatImageWarning                      flat rows read as images in a way worth knowing
├── StoreWarning                          a folder's store cannot be read or written; computing goes on
├── TruncatedTextWarning                  texts longer than the model takes
└── UnknownWordsWarning                   many words of the texts have no vector

Each error is also the built-in kind in brackets, so that scikit-learn and callers who have never heard of sktransfer
handle it rightly.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "BackboneNotFoundError",
    "DisagreementWarning",
    "FlatImageWarning",
    "InvalidParameterError",
    "InvalidSampleError",
    "PluginError",
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


class PluginError(SktransferError, RuntimeError):
    """A plugin breaks the contract."""


class StoreError(SktransferError, OSError):
    """A folder's store cannot be cleared or pruned."""


class SktransferWarning(UserWarning):
    """What all warnings of sktransfer have in common."""


class DisagreementWarning(SktransferWarning):
    """Scores rank backbones and layers otherwise than a probe does."""


class FlatImageWarning(SktransferWarning):
    """Flat rows are read as images in a way that the caller should know of."""


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
