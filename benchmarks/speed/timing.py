"""Comparison of speeds: alternating programs in one process, and the peak rates of the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

Programs = Mapping[str, Callable[[], Any]]


def device() -> torch.device:
    """Return the device of all programs, a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Set the number of torch threads per call, also for new threads, and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def finished() -> None:
    """Wait until a GPU has finished."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(program: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that a program takes."""
    finished()
    started = clock()
    program()
    finished()
    return clock() - started


def in_turn(
    programs: Programs,
    rounds: int,
    before: Callable[[], Any] | None = None,
    each_round: Callable[[], Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Run programs in turn, in reverse order every second round, and return the seconds of each.

    Parameters
    ----------
    programs : mapping of str to callable
        The programs to compare.
    rounds : int
        Number of rounds.
    before : callable, default=None
        Runs before each program, outside its time.
    each_round : callable, default=None
        Runs before each round. The rates of the machine are measured there, because clock rates vary.
    clock : callable, default=time.perf_counter
        Returns the time in seconds. `time.process_time` counts that of the processor.
    """
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds):
        if each_round is not None:
            each_round()
        for name in list(programs)[:: 1 if number % 2 == 0 else -1]:
            if before is not None:
                before()
            taken[name].append(seconds(programs[name], clock))
    return taken


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Return the ratio of each round."""
    return [one / other for one, other in zip(over, under, strict=True)]


def fastest(programs: Mapping[Any, Callable[[], Any]]) -> Any:
    """Run each program once and return the name of the fastest."""
    taken = {name: seconds(program) for name, program in programs.items()}
    return min(taken, key=taken.__getitem__)


def product_rate(dtype: torch.dtype, shape: tuple[int, int, int] = (1024, 384, 1536), least: float = 0.5) -> float:
    """Return operations per second of a matrix product (m, k) @ (k, n) with all threads, the best of five runs.

    Parameters
    ----------
    dtype : torch.dtype
        Type of both factors.
    shape : (int, int, int)
        m, k and n.
    least : float, default=0.5
        Total seconds of all runs.
    """
    m, k, n = shape
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(*size, generator=generator).to(device(), dtype) for size in ((m, k), (k, n)))
    best = 0.0
    with torch.no_grad():
        torch.mm(left, right)
        for _ in range(5):
            finished()
            started, done = time.perf_counter(), 0
            while time.perf_counter() - started < least / 5:
                torch.mm(left, right)  # (m, n)
                finished()
                done += 1
            best = max(best, 2 * m * k * n * done / (time.perf_counter() - started))
    return best


def filled_rate(work: Callable[[], int], least: float = 1.0) -> float:
    """Return units per second if each core repeats the work independently, with one thread.

    Parameters
    ----------
    work : callable
        Does some units of work and returns their number.
    least : float, default=1.0
        Seconds per core.
    """
    cores = n_cores()

    def repeat(_: int) -> float:
        torch.set_num_threads(1)  # set per thread, in addition to the setting of `threads`
        work()
        started, done = time.perf_counter(), 0
        while time.perf_counter() - started < least:
            done += work()
        return done / (time.perf_counter() - started)

    with threads(1), ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(repeat, range(cores)))
