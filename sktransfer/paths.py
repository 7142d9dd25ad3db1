"""Paths as users write them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["local_path"]


def local_path(given: str | os.PathLike[str]) -> Path:
    """Return a path, "~" and "~user" in front of it replaced by a home folder where there is such a user.

    Parameters
    ----------
    given : str or path
        As a user wrote it.

    Examples
    --------
    >>> from sktransfer.paths import local_path
    >>> str(local_path("~nobody of that name/model"))
    '~nobody of that name/model'
    """
    path = Path(given)
    with suppress(RuntimeError, ValueError):  # nobody of that name, or no name at all
        return path.expanduser()
    return path
