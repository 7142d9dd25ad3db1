"""Batches of the samples of concurrent requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

__all__ = ["Batcher", "BusyError"]


class BusyError(Exception):
    """More samples wait than a `Batcher` takes."""


@dataclass
class _Request:
    samples: Sequence[Any]
    result: asyncio.Future[Sequence[Any]]


class Batcher:
    """Predict the samples of concurrent requests together, in one thread.

    A request that finds the model idle is predicted at once. Requests that arrive meanwhile form the next batch, so
    no request waits for others to come. If a batch raises an error, its requests are predicted one by one. Only the
    request with the bad sample fails, with the row of the sample in that request.

    Parameters
    ----------
    predict : callable
        Called with a list of samples in a thread of its own. Returns one prediction per sample.
    max_batch : int, default=32
        Number of samples from which on no other request joins a batch.
    max_waiting : int, default=256
        Number of waiting samples from which on `predict` raises a `BusyError`.

    Attributes
    ----------
    n_waiting : int
        Number of samples that wait.
    batches : list of int
        Number of requests in each of the last 1000 batches.
    """

    def __init__(
        self, predict: Callable[[list[Any]], Sequence[Any]], *, max_batch: int = 32, max_waiting: int = 256
    ) -> None:
        self._predict, self.max_batch, self.max_waiting = predict, max_batch, max_waiting
        self._requests: asyncio.Queue[_Request] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._task: asyncio.Task[None] | None = None
        self.n_waiting = 0
        self.batches: list[int] = []

    @property
    def is_busy(self) -> bool:
        """Whether no more samples are taken."""
        return self.n_waiting >= self.max_waiting

    async def predict(self, samples: Sequence[Any]) -> Sequence[Any]:
        """Return the prediction of each sample.

        Parameters
        ----------
        samples : sequence
            Samples of one request.

        Raises
        ------
        BusyError
            If too many samples wait.
        """
        if self.is_busy:
            raise BusyError(f"{self.n_waiting} samples wait; try again later")
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        request = _Request(samples, asyncio.get_running_loop().create_future())
        self.n_waiting += len(samples)
        self._requests.put_nowait(request)
        return await request.result

    async def close(self) -> None:
        """Finish the requests that wait, and end the thread."""
        if self._task is not None:
            await self._requests.join()
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown()

    async def _run(self) -> None:
        while True:
            requests = [await self._requests.get()]
            while not self._requests.empty() and sum(len(one.samples) for one in requests) < self.max_batch:
                requests.append(self._requests.get_nowait())
            self.n_waiting -= sum(len(one.samples) for one in requests)
            self.batches = [*self.batches[-999:], len(requests)]
            await self._answer([one for one in requests if not one.result.cancelled()])  # without those of clients gone
            for _ in requests:
                self._requests.task_done()

    async def _answer(self, requests: list[_Request]) -> None:
        samples = [sample for one in requests for sample in one.samples]
        if not samples:
            return
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, samples)
        except Exception as error:
            if len(requests) > 1:
                for one in requests:
                    await self._answer([one])
            elif not requests[0].result.done():
                requests[0].result.set_exception(error)
            return
        start = 0
        for one in requests:
            if not one.result.done():
                one.result.set_result(results[start : start + len(one.samples)])
            start += len(one.samples)
