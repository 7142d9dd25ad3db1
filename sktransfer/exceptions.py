"""Exceptions and warnings of sktransfer.

SktransferError
├── BackboneNotFoundError (LookupError)   unknown name of a backbone, stage or provider
├── WeightsError (OSError)                weights are missing, cannot be downloaded or are not trusted
├── InvalidParameterError (ValueError)    a parameter has an invalid value
├── InvalidSampleError (ValueError)       a sample cannot be used; has its row
├── LoadError (OSError)                   a saved estimator cannot be loaded or is not trusted
├── NotFiniteError (FloatingPointError)   a loss, weight or output is infinite or NaN: a training diverged
├── PluginError (RuntimeError)            a plugin violates the plugin API
├── ResumeError (ValueError)              features are to be continued from other samples or by another featurizer
├── SaveError (ValueError)                an estimator cannot be saved
└── StoreError (OSError)                  a store on disk cannot be cleared or pruned

SktransferWarning (UserWarning)
├── CheckpointWarning                     a training checkpoint cannot be read or written; training continues
├── DarkImageWarning                      images use a small part of the range of their values
├── DeprecatedWarning (FutureWarning)     something is renamed or will be removed
├── DisagreementWarning                   scores and a probe rank backbones or layers differently
├── DroppedColumnWarning                  columns of a table are left out
├── EmulatedPrecisionWarning              the processor emulates a precision, which is slower than float32
├── FlatImageWarning                      flat rows are read as strips, or have values outside [0, 1]
├── FolderLayoutWarning                   folders that are read as classes look like parts of a data set or copies
├── FreezingWarning                       stages are frozen or unfrozen otherwise than a parameter suggests
├── InvalidCellWarning                    cells of a table are no numbers or dates and count as missing, or unknown
├── InvalidSampleWarning                  samples cannot be used and became rows of NaN; has rows and reasons
├── ReducedImageWarning                   photos are reduced to very few pixels
├── RuntimeFallbackWarning                a runtime cannot compute a backbone; torch computes it
├── StoreWarning                          a store on disk cannot be read or written; values are computed
├── TargetWarning                         targets have a form that often means something else
├── TruncatedTextWarning                  texts are longer than the model's limit
├── UnknownWordsWarning                   many words of the texts have no vector or are unknown to the model
├── UnreadPartWarning                     parts of a model's files have no counterpart here and are not read
└── ValidationWarning                     validation data are missing, or lack a class

Each error also derives from the built-in exception in brackets, so that scikit-learn and other callers can handle it
without knowing sktransfer.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from types import FrameType
from typing import Any, NamedTuple

__all__ = [
    "BackboneNotFoundError",
    "CheckpointWarning",
    "DarkImageWarning",
    "DeprecatedWarning",
    "DisagreementWarning",
    "DroppedColumnWarning",
    "EmulatedPrecisionWarning",
    "FlatImageWarning",
    "FolderLayoutWarning",
    "FreezingWarning",
    "InvalidCellWarning",
    "InvalidParameterError",
    "InvalidSample",
    "InvalidSampleError",
    "InvalidSampleWarning",
    "LoadError",
    "NewHeadWarning",
    "NotFiniteError",
    "PluginError",
    "ReducedImageWarning",
    "ResumeError",
    "RuntimeFallbackWarning",
    "SaveError",
    "ShortTextWarning",
    "SktransferError",
    "SktransferWarning",
    "StoreError",
    "StoreWarning",
    "TargetWarning",
    "TruncatedTextWarning",
    "UnknownWordsWarning",
    "UnreadPartWarning",
    "ValidationWarning",
    "WeightsError",
]

# Packages whose code may be between a user's call and this library. Warnings never point into them.
_LIBRARIES = {"dask", "distributed", "imblearn", "joblib", "numpy", "pandas", "scipy", "skactiveml", "sklearn", "skops"}
_LIBRARIES |= {"skorch", "torch", "tqdm"}


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
    label : object
        Label of the row in the index of X. None if X has no index, or the default one.
    """

    def __init__(self, row: int, message: str, label: Any = None) -> None:
        self.row = row
        self.message = message
        self.set_label(label)

    def set_label(self, label: Any) -> None:
        """Set the label of the row, which the message then names.

        Parameters
        ----------
        label : object
            Label of the row in the index of X.
        """
        self.label = label
        self.args = (f"{name_row(self.row, label)}: {self.message}",)

    def __reduce__(self) -> tuple[type[InvalidSampleError], tuple[int, str, Any]]:
        return type(self), (self.row, self.message, self.label)  # the arguments of __init__; `args` has only the text


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
    label : object, default=None
        Label of the row in the index of X. None if X has no index, or the default one.
    """

    row: int
    path: str | None
    reason: str
    label: Any = None

    def __str__(self) -> str:
        return (
            f"{name_row(self.row, self.label)}: {'' if self.path is None else short_path(self.path) + ' '}{self.reason}"
        )


class LoadError(SktransferError, OSError):
    """A saved estimator is missing, damaged, of another version, or contains types that are not trusted."""


class NotFiniteError(SktransferError, FloatingPointError):
    """A loss, a weight or an output is infinite or NaN, in most cases because a training diverged."""


class PluginError(SktransferError, RuntimeError):
    """A plugin violates the plugin API."""


class ResumeError(SktransferError, ValueError):
    """Features that were written cannot be continued: samples, featurizer or a setting differ."""


class SaveError(SktransferError, ValueError):
    """An estimator contains objects that cannot be saved without code, or the path is not writable."""


class StoreError(SktransferError, OSError):
    """A store on disk cannot be cleared or pruned."""


class SktransferWarning(UserWarning):
    """Base class of all warnings of sktransfer."""


class CheckpointWarning(SktransferWarning):
    """A training checkpoint cannot be read or written. Training continues without it."""


class DarkImageWarning(SktransferWarning):
    """Images use a small part of the range of their values, and are read as almost black.

    Parameters
    ----------
    n_samples : int
        Number of images.
    brightest : float
        Value of the brightest pixel of all images, as a share of the largest possible value.

    Examples
    --------
    >>> from sktransfer.exceptions import DarkImageWarning
    >>> print(DarkImageWarning(80, 0.062))  # doctest: +ELLIPSIS
    80 images are almost black: their brightest pixel has 6.2% of the largest value, 15.8 of 255 or 4063 of 65535. ...
    """

    def __init__(self, n_samples: int, brightest: float) -> None:
        self.n_samples, self.brightest = n_samples, brightest
        super().__init__(
            f"{n_samples} images are almost black: their brightest pixel has {brightest:.1%} of the largest value, "
            f"{255 * brightest:.1f} of 255 or {65535 * brightest:.0f} of 65535. Integers are divided by the largest "
            "value of their type, and floats are read as they are. Divide by the largest value that a pixel can have: "
            "x / 255 for 8 bits, x / 4095 for 12 bits. Read files into arrays first: np.asarray(Image.open(path)) / "
            "4095. For images that are dark indeed, filter DarkImageWarning"
        )

    def __reduce__(self) -> tuple[type[DarkImageWarning], tuple[int, float]]:
        return type(self), (self.n_samples, self.brightest)


class DeprecatedWarning(SktransferWarning, FutureWarning):
    """A name, a parameter or a value is deprecated. A later version removes it."""


class DisagreementWarning(SktransferWarning):
    """Scores and a probe rank backbones or layers differently."""


class DroppedColumnWarning(SktransferWarning):
    """Columns of a table are left out, because no step of a pipeline can use them."""


class EmulatedPrecisionWarning(SktransferWarning):
    """The processor emulates the precision, which is slower than float32."""


class FlatImageWarning(SktransferWarning):
    """Flat rows are read as strips, or have values outside [0, 1]."""


class FolderLayoutWarning(SktransferWarning):
    """Folders that `load_image_folder` reads as classes look like parts of a data set, a wrapper or a copy."""


class FreezingWarning(SktransferWarning):
    """Stages are frozen or unfrozen otherwise than a parameter suggests."""


class InvalidCellWarning(SktransferWarning):
    """Cells of a table are no numbers or dates and count as missing, or are all unknown categories."""


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
    1 of 100 images cannot be used, so its features are missing:
      row 3: 'cat.jpg' has 0 bytes
    """

    LISTED = 10

    def __init__(self, failures: Iterable[InvalidSample], n_samples: int) -> None:
        self.failures, self.n_samples = tuple(failures), n_samples
        n = len(self.failures)
        lines = [f"{n} of {n_samples} images cannot be used, so {'its' if n == 1 else 'their'} features are missing:"]
        lines += [f"  {failure}" for failure in self.failures[: self.LISTED]]
        if n > self.LISTED:
            lines.append(
                f"  and {n - self.LISTED} more. This warning's `failures` lists all, as does find_bad_images(X)"
            )
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[InvalidSampleWarning], tuple[tuple[InvalidSample, ...], int]]:
        return type(self), (self.failures, self.n_samples)


class NewHeadWarning(SktransferWarning):
    """The weights of a backbone have no language-model head, so one is drawn at random."""


class ReducedImageWarning(SktransferWarning):
    """Photos are reduced to very few pixels, because the backbone reads small images.

    Parameters
    ----------
    size : str
        Size at which images are read.

    Examples
    --------
    >>> from sktransfer.exceptions import ReducedImageWarning
    >>> print(ReducedImageWarning("32 x 32 pixels"))  # doctest: +ELLIPSIS
    Images are read at 32 x 32 pixels, and most of them have more than 4 times this size, so details are lost. For ...
    """

    def __init__(self, size: str) -> None:
        self.size = size
        super().__init__(
            f"Images are read at {size}, and most of them have more than 4 times this size, so details are lost. For "
            "photos, choose a backbone that reads larger images, such as backbone='torchvision/mobilenet_v2' "
            "(224 x 224 pixels); list_backbones('image') lists all. If small images suffice, filter ReducedImageWarning"
        )

    def __reduce__(self) -> tuple[type[ReducedImageWarning], tuple[str]]:
        return type(self), (self.size,)


class RuntimeFallbackWarning(SktransferWarning):
    """A runtime cannot compute a backbone, or is missing. Torch computes it instead."""


class ShortTextWarning(SktransferWarning):
    """Texts have too few tokens to learn from. They are left out of a self-supervised training."""


class StoreWarning(SktransferWarning):
    """A store on disk cannot be read or written. Values are computed without it."""


class TargetWarning(SktransferWarning):
    """Targets have a form that often means something else: one class as indicators, or numbers as classes."""


class TruncatedTextWarning(SktransferWarning):
    """Texts are longer than the model's limit and were truncated.

    The message counts rows of X, equal texts included. Texts whose outputs are cached are not reported again.
    """


class UnknownWordsWarning(SktransferWarning):
    """Many words of the texts have no vector, or texts consist mostly of tokens unknown to the model.

    The message about a model counts rows of X, equal texts included. Texts whose outputs are cached are not reported
    again.
    """


class UnreadPartWarning(SktransferWarning):
    """Parts of a model's files have no counterpart in sktransfer and are not read, so that its values differ."""


class ValidationWarning(SktransferWarning):
    """Validation data are missing, or lack a class."""


def did_you_mean(given: str, allowed: Iterable[str], n: int = 3) -> str:
    """Return ` Did you mean 'a' or 'b'?`, or an empty string if no allowed name is similar."""
    names = list(allowed)
    near = [name for name in names if name.lower() == given.lower()]
    near = near or get_close_matches(given, names, n=n, cutoff=0.6 if len(given) > 3 else 0.7)  # "cpu" is not "gpu"
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def name_row(row: int, label: Any = None, name: str = "") -> str:
    """Return the position of a row, and its index label if there is one, for messages.

    Parameters
    ----------
    row : int
        Position of the row, counted from 0.
    label : object, default=None
        Label of the row in a pandas index; None if there is none.
    name : str, default=""
        Name of the argument; empty for X.

    Examples
    --------
    >>> from sktransfer.exceptions import name_row
    >>> name_row(30), name_row(30, 50)
    ('row 30', 'row 30 (index label 50)')
    >>> name_row(30, name="y"), name_row(30, 50, "y")
    ('y[30]', 'y.iloc[30] (index label 50)')
    """
    if label is None:
        return f"{name}[{row}]" if name else f"row {row}"
    return f"{f'{name}.iloc[{row}]' if name else f'row {row}'} (index label {label!r})"


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


def warn(message: str | Warning, category: type[Warning] = SktransferWarning) -> None:
    """Issue a warning that points to the line of the user's code from which this library was called.

    That is the innermost frame outside of this library, its plugins, the standard library, and the libraries that call
    estimators. A worker process has no such frame, and the warning then points to the caller of this function.

    Parameters
    ----------
    message : str or Warning
        Text, or a warning whose class is its category.
    category : type of warning, default=SktransferWarning
        Category of a text.

    Examples
    --------
    >>> import warnings
    >>> from sktransfer.exceptions import TruncatedTextWarning, warn
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn("2 of 10 texts are truncated", TruncatedTextWarning)
    >>> print(caught[0].category.__name__, caught[0].message)
    TruncatedTextWarning 2 of 10 texts are truncated
    """
    here = sys._getframe(1)
    frame: FrameType | None = here
    while frame is not None and _is_library(frame):
        frame = frame.f_back
    frame = frame or here
    warnings.warn_explicit(
        message,
        type(message) if isinstance(message, Warning) else category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__", "<unknown>"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _is_library(frame: FrameType) -> bool:
    spec = frame.f_globals.get("__spec__")  # of `python -m module`, whose __name__ is "__main__"
    root = (spec.name if spec is not None else frame.f_globals.get("__name__", "")).partition(".")[0]
    return root in _LIBRARIES or root in sys.stdlib_module_names or root.partition("_")[0] == "sktransfer"
