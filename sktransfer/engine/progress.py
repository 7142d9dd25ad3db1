"""A progress bar of samples, for those who ask for one."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

__all__ = ["progress"]


def progress(n: int, what: str, unit: str, verbose: int) -> Any:
    """Return a bar to be used as a context, whose `update` shows nothing where `verbose` is 0.

    Parameters
    ----------
    n : int
        How many samples there are.
    what : str
        Stands in front of the bar.
    unit : str
        What is counted.
    verbose : int
        As an estimator's.
    """
    return tqdm(total=n, desc=what, unit=unit, file=sys.stderr, disable=not verbose)
