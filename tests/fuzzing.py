"""What the fuzzers share: a target is a function of bytes that may raise a few kinds of error and nothing else."""

from __future__ import annotations

import atexit
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from hypothesis import strategies


def mutants(seeds: list[bytes]) -> strategies.SearchStrategy[bytes]:
    """Return what draws seeds with a few bytes changed, cut, repeated or put in, and bytes of no kind."""

    @strategies.composite
    def draw_one(draw) -> bytes:
        data = bytearray(draw(strategies.sampled_from(seeds)))
        for _ in range(draw(strategies.integers(0, 4))):
            at = draw(strategies.integers(0, max(0, len(data) - 1)))
            how = draw(strategies.sampled_from(["set", "cut", "put in", "repeat", "drop"]))
            some = draw(strategies.binary(min_size=1, max_size=8))
            if how == "cut":
                del data[at:]
            elif how == "drop":
                del data[at : at + len(some)]
            elif how == "repeat":
                data[at:at] = data[at : at + 64]
            else:
                data[at : at + len(some) * (how == "set")] = some
        return bytes(data)

    return strategies.one_of(draw_one(), strategies.binary(max_size=200))


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
    """Run a target under atheris, with libFuzzer's options from the command line; print what came of the inputs.

    Parameters
    ----------
    target : callable
        Returns in a word what came of an input; what it raises is a finding.
    seeds : iterable of bytes
        Written into the corpus, which is the first argument.
    """
    import atheris

    warnings.simplefilter("error")
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    outcomes: Counter[str] = Counter()

    def one_input(data: bytes) -> None:
        outcomes[target(data)] += 1

    atexit.register(lambda: print("outcomes:", dict(outcomes), file=sys.stderr, flush=True))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
