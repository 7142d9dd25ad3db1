"""Blocks of data that Dask, Ray and Spark hold, computed on their workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sktransfer.streaming.step import Block, Step, located
from sktransfer.streaming.tables import require_pyarrow

__all__ = ["dask_client", "dask_parts", "is_dask", "is_ray", "is_spark", "on_dask", "on_ray", "on_spark"]

_AHEAD = 2  # chunks per worker that are computed before their turn comes, which bounds memory


def is_dask(data: Any) -> bool:
    """Return whether data are a DataFrame, Series, Bag or array of Dask."""
    return _package(data) == "dask" and hasattr(data, "to_delayed")


def is_ray(data: Any) -> bool:
    """Return whether data are a data set of Ray."""
    return _package(data) == "ray" and hasattr(data, "iter_batches")


def is_spark(data: Any) -> bool:
    """Return whether data are a DataFrame of Spark."""
    return _package(data) == "pyspark" and hasattr(data, "mapInArrow")


def _package(data: Any) -> str:
    return type(data).__module__.partition(".")[0]


def _in_order(
    jobs: Iterable[Any], submit: Callable[[Any, int], Any], result: Callable[[Any], Block], n_written: int, ahead: int
) -> Iterator[Block]:
    """Yield the blocks of jobs in order, of which at most `ahead` are submitted before their turn.

    One job at a time runs on rows that are written, because it is not known where they end.
    """
    pending: deque[Any] = deque()
    done = number = 0

    def take() -> Block:
        with located(number, done):
            return result(pending.popleft())

    for job in jobs:
        while len(pending) >= (ahead if done >= n_written else 1):
            block = take()
            yield block
            done, number = done + len(block), number + 1
        pending.append(submit(job, max(0, n_written - done)))
    while pending:
        block = take()
        yield block
        done, number = done + len(block), number + 1


def _run(step: Step, chunk: Any, skip: int) -> Block:
    return step(chunk, skip)


def dask_parts(data: Any) -> list[Any]:
    """Return the partitions of Dask as delayed objects, in order."""
    if hasattr(data, "rechunk"):  # an array, whose rows must be whole
        data = data.rechunk(dict.fromkeys(range(1, data.ndim), -1))
        return list(data.to_delayed().ravel())
    return list(data.to_delayed())


def dask_client() -> Any:
    """Return the client of a cluster of Dask, or None."""
    try:
        from dask.distributed import get_client

        return get_client()
    except (ImportError, ValueError):  # no package, or no cluster
        return None


def on_dask(client: Any, data: Any, step: Step, n_written: int) -> Iterator[Block]:
    """Yield the blocks of the partitions, computed on the workers of a cluster.

    Parameters
    ----------
    client : Client
        Client of the cluster.
    data : object
        Collection of Dask.
    step : Step
        Function from a chunk to a block.
    n_written : int
        Number of rows at the start that are only hashed.
    """
    held = client.scatter(step, broadcast=True, hash=False)

    def submit(part: Any, skip: int) -> Any:
        return client.submit(_run, held, client.compute(part), skip, pure=False)

    ahead = _AHEAD * max(1, sum(client.nthreads().values()))
    yield from _in_order(dask_parts(data), submit, lambda future: future.result(), n_written, ahead)


def on_ray(data: Any, step: Step, n_written: int, size: int) -> Iterator[Block]:
    """Yield the blocks of a data set, computed by tasks of Ray.

    Parameters
    ----------
    data : Dataset
        Data set of Ray.
    step : Step
        Function from a chunk to a block.
    n_written : int
        Number of rows at the start that are only hashed.
    size : int
        Number of rows of a chunk.
    """
    import ray

    with _ordered(data):
        batches = data.iter_batches(batch_size=size, batch_format="pyarrow")
        run, held = ray.remote(_run), ray.put(step)
        ahead = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]

        def result(reference: Any) -> Block:
            try:
                block: Block = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            return block

        yield from _in_order(batches, lambda one, skip: run.remote(held, one, skip), result, n_written, ahead)


@contextmanager
def _ordered(data: Any) -> Iterator[None]:
    """Let a data set of Ray yield its rows in order, which it does not by default."""
    options = data.context.execution_options
    before = options.preserve_order
    options.preserve_order = True
    try:
        yield
    finally:
        options.preserve_order = before


def on_spark(data: Any, step: Step, n_written: int, size: int) -> Iterator[Block]:
    """Yield the blocks of a DataFrame of Spark, computed by `mapInArrow`, partition by partition.

    Parameters
    ----------
    data : DataFrame
        DataFrame of Spark.
    step : Step
        Function from a chunk to a block.
    n_written : int
        Number of rows at the start that are only hashed.
    size : int
        Largest number of rows of a chunk.
    """
    first = start = done = 0
    if n_written:
        for partition, block in _spark_blocks(data, step, size, 0, 0, only_hashes=True):
            if partition != first:
                first, start = partition, 0
            block.digests = block.digests[: n_written - done]  # (n, 16)
            done, start = done + len(block), start + len(block)
            yield block
            if done == n_written:
                break
    for _, block in _spark_blocks(data, step, size, first, start, only_hashes=False):
        yield block


def _spark_blocks(
    data: Any, step: Step, size: int, first: int, start: int, *, only_hashes: bool
) -> Iterator[tuple[int, Block]]:
    """Yield the partition and the block of each chunk, from row `start` of the partition `first`."""

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None  # this runs in a task
        partition = context.partitionId()
        left = start if partition == first else 0
        for batch in batches if partition >= first else ():
            rest = batch.slice(min(left, batch.num_rows))
            left -= batch.num_rows - rest.num_rows
            for row in range(0, rest.num_rows, size):
                chunk = rest.slice(row, size)
                block = step(chunk, chunk.num_rows if only_hashes else 0)
                columns = {"partition": [partition], "block": [block.to_bytes()]}
                yield pyarrow.RecordBatch.from_pydict(columns, pyarrow.schema(schema))

    pyarrow = require_pyarrow("a DataFrame of Spark")
    schema = [("partition", pyarrow.int32()), ("block", pyarrow.binary())]
    for row in data.mapInArrow(run, "partition int, block binary").toLocalIterator():
        yield row["partition"], Block.from_bytes(bytes(row["block"]))
