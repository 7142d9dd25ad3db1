"""Several batches at once, one a core: faster than all cores on one batch, for none has to wait for another."""

from __future__ import annotations

import functools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any, TypeVar

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["ahead", "in_parallel"]

MOST = 8  # more would wait for one another: Python's own part of a batch is done by one at a time

Job = TypeVar("Job")
Result = TypeVar("Result")
_END = object()

if hasattr(os, "register_at_fork"):
    # A forked process has none of OpenMP's threads, and waits for them for ever if it asks for more than one.
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def in_parallel(jobs: Iterator[Job], work: Callable[[Job], Result]) -> Iterator[Result]:
    """Yield the result of each job, in the order in which they are done.

    Threads are started for as many jobs as there are, at most one for each of torch's threads, among which those are
    divided; the caller's own settings stay as they are. Jobs are asked for when a thread is free, and results wait to
    be taken: neither piles up.

    Parameters
    ----------
    jobs : iterator
        Asked by one thread at a time.
    work : callable
        From a job to its result; what it raises is raised here.
    """
    n_threads = torch.get_num_threads()
    first = list(islice(jobs, min(n_threads, MOST)))
    jobs = chain(first, jobs)
    if len(first) < 2:
        yield from map(work, jobs)
        return
    crew = _Crew(jobs, work, len(first), max(1, n_threads // len(first)))
    try:
        yield from crew.results()
    finally:
        crew.stop()


def ahead(jobs: Iterator[Result]) -> Iterator[Result]:
    """Yield what an iterator gives, in its order, made by another thread while the caller is busy with what it got.

    Parameters
    ----------
    jobs : iterator
        What it raises is raised here, when its turn has come.
    """
    crew = _Crew(jobs, _same, 1, torch.get_num_threads())
    try:
        yield from crew.results()
    finally:
        crew.stop()


def _same(job: Job) -> Job:
    return job


class _Crew:
    """Threads that take jobs and hand in results."""

    def __init__(self, jobs: Iterator[Any], work: Callable[[Any], Any], n: int, n_threads: int) -> None:
        self._jobs, self._work, self._n_threads = jobs, work, n_threads
        self._jobs_lock = threading.Lock()
        self._done: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=2 * n)
        self._stopped = threading.Event()
        # Looked for anew, for some may have been loaded since. A limit of these holds for the thread that sets it.
        self._libraries = ThreadpoolController().select(user_api="openmp")
        self._threads = [threading.Thread(target=self._run, name=f"sktransfer-{i}", daemon=True) for i in range(n)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            torch.get_num_threads()  # now: at its first use in a thread, torch sets this to what the process has
            with self._libraries.limit(limits=self._n_threads):
                while not self._stopped.is_set():
                    with self._jobs_lock:
                        job = next(self._jobs, _END)
                    if job is _END:
                        break
                    self._hand_in(self._work(job), None)
        except BaseException as caught:  # the caller's thread is where it is told
            error = caught
        self._hand_in(_END, error)

    def _hand_in(self, result: Any, error: BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                self._done.put((result, error), timeout=0.1)
            except queue.Full:
                continue
            return

    def results(self) -> Iterator[Any]:
        """Yield results until all threads have come to the end of the jobs."""
        working = len(self._threads)
        while working:
            result, error = self._done.get()
            if error is not None:
                raise error
            if result is _END:
                working -= 1
            else:
                yield result

    def stop(self) -> None:
        """Wait for the jobs in hand; no other is begun."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
