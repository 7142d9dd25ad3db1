"""What the fuzzers share: a target is a function of bytes that may raise a few kinds of error and nothing else."""

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
    """Return what lets atheris see the branches of what is imported inside, where the caller is the program.

    Parameters
    ----------
    name : str
        The caller's `__name__`.
    *packages : str
        What is watched.
    """
    if name != "__main__":
        return nullcontext()
    import atheris

    watched: AbstractContextManager[object] = atheris.instrument_imports(include=list(packages))
    return watched


def fuzz(target: Callable[[bytes], str], seeds: Iterable[bytes]) -> None:
    """Run a target under atheris for the seconds that the command line names; print what came of the inputs.

    Parameters
    ----------
    target : callable
        Returns in a word what came of an input; what it raises, warnings too, ends the run as a finding.
    seeds : iterable of bytes
        PreprocessedSamples to begin with.
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
            os._exit(0)  # libFuzzer takes any other way out for a finding

    options = ["-timeout=20", "-rss_limit_mb=4096", "-verbosity=0"]
    atheris.Setup([sys.argv[0], str(corpus), f"-artifact_prefix={corpus}/", *options], one_input)
    atheris.Fuzz()
