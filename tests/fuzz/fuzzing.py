"""Common parts of the fuzzers. A target is a function of bytes that may raise only a few kinds of error."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path


def instrumented(name: str, *packages: str) -> AbstractContextManager[object]:
    """Return a context in which atheris instruments imports, if the caller is the main program.

    Parameters
    ----------
    name : str
        The caller's `__name__`.
    *packages : str
        Packages to instrument.
    """
    if name != "__main__":
        return nullcontext()
    import atheris

    context: AbstractContextManager[object] = atheris.instrument_imports(include=list(packages))
    return context


def fuzz(target: Callable[[bytes], str], seeds: Iterable[bytes]) -> None:
    """Run a target under atheris for the seconds of the command line, and print counts of the outcomes.

    Parameters
    ----------
    target : callable
        Returns the outcome of an input as a word. An exception or a warning ends the run as a finding.
    seeds : iterable of bytes
        Initial inputs.
    """
    import atheris

    warnings.simplefilter("error")
    corpus = Path(tempfile.mkdtemp(prefix="sktransfer-fuzz-"))
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    counts: Counter[str] = Counter()

    end = time.monotonic() + float(sys.argv[1])

    def one_input(data: bytes) -> None:
        counts["tried"] += 1
        counts[target(data)] += 1
        if time.monotonic() > end:
            print(dict(counts), flush=True)
            os._exit(0)  # libFuzzer reports any other exit as a finding

    options = ["-timeout=20", "-rss_limit_mb=4096", "-verbosity=0"]
    atheris.Setup([sys.argv[0], str(corpus), f"-artifact_prefix={corpus}/", *options], one_input)
    atheris.Fuzz()
