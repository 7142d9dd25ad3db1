"""Samples that cannot be used, written down instead of raised."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sktransfer.exceptions import InvalidSample, InvalidSampleError, short_path

__all__ = ["described", "noting"]


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
