"""Objects that yield chunks, and the blocks of their rows in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.columns import is_frame, quoted
from sktransfer.streaming.engines import dask_client, dask_parts, is_dask, is_ray, is_spark, on_dask, on_ray, on_spark
from sktransfer.streaming.step import Block, Step, located
from sktransfer.streaming.tables import as_chunk, count_rows, cut, is_chunk

__all__ = ["Source", "open_source"]


@dataclass(frozen=True)
class Source:
    """Rows of an input, in order.

    Parameters
    ----------
    n_rows : int or None
        Number of rows, if it is known.
    blocks : callable
        Function of a `Step` and the number of rows that are written. It yields a block for each chunk. Of rows that
        are written, only the hashes are computed.
    """

    n_rows: int | None
    blocks: Callable[[Step, int], Iterable[Block]]


def open_source(chunks: Any, chunk_size: int) -> Source:
    """Return the source of what a user passes.

    Parameters
    ----------
    chunks : object
        Data of an engine, a table, a list or array of samples, or an iterable of chunks.
    chunk_size : int
        Largest number of rows of a chunk. Larger ones are cut.

    Raises
    ------
    InvalidParameterError
        If the object yields no chunks.
    """
    if is_ray(chunks):
        return Source(None, lambda step, n_written: on_ray(chunks, step, n_written, chunk_size))
    if is_spark(chunks):
        return Source(None, lambda step, n_written: on_spark(chunks, step, n_written, chunk_size))
    if is_dask(chunks):
        client = dask_client()
        if client is not None:
            return Source(None, lambda step, n_written: on_dask(client, chunks, step, n_written))
        chunks = (part.compute() for part in dask_parts(chunks))
    n_rows, iterable = _chunks_of(chunks, chunk_size)
    return Source(n_rows, lambda step, n_written: _local_blocks(iterable, step, n_written, chunk_size))


def _chunks_of(data: Any, size: int) -> tuple[int | None, Iterable[Any]]:
    """Return the number of rows if it is known, and an iterable of chunks."""
    kind = type(data).__name__
    if isinstance(data, (str, bytes)):
        raise InvalidParameterError(
            f"chunks={quoted(data, 80)} is one {kind}. For a file, pass pandas.read_csv(path, chunksize={size}) or "
            "pyarrow.dataset.dataset(path)"
        )
    found = _of_library(data, size)
    if found is not None:
        return found
    if isinstance(data, Mapping):
        data = as_chunk(data)
    if is_chunk(data) or hasattr(data, "shape"):
        return count_rows(data), [data]
    if isinstance(data, (list, tuple)) and not (data and _holds_rows(data[0])):
        return len(data), [list(data)]
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, (list, tuple)):
        return len(data), ([data[row] for row in range(i, min(i + size, len(data)))] for i in range(0, len(data), size))
    if hasattr(data, "__iter__"):
        return None, data
    raise InvalidParameterError(
        f"chunks is a {kind}, which yields no chunks. Pass a list, a table, a data set of Dask, Ray, Spark, Arrow, "
        "Polars or Hugging Face, or a generator of any of these"
    )


def _of_library(data: Any, size: int) -> tuple[int | None, Iterable[Any]] | None:
    """Return the same for data sets of Arrow, Hugging Face and polars, and None for other objects."""
    package = type(data).__module__.partition(".")[0]
    if package == "datasets" and hasattr(data, "iter"):
        return getattr(data, "num_rows", None), data.with_format("arrow").iter(batch_size=size)
    if package == "datasets" and isinstance(data, Mapping):
        name = next(iter(data), "train")
        raise InvalidParameterError(f"chunks is a {type(data).__name__} of several splits. Pass one, data[{name!r}]")
    if package == "polars" and hasattr(data, "collect_batches"):
        return None, data.collect_batches(chunk_size=size, maintain_order=True)
    if package == "pyarrow" and hasattr(data, "count_rows"):  # a scanner has its own size of batches
        return data.count_rows(), data.to_batches(**({} if type(data).__name__ == "Scanner" else {"batch_size": size}))
    if package == "pyarrow" and hasattr(data, "iter_batches"):  # a file of Parquet
        return data.metadata.num_rows, data.iter_batches(batch_size=size)
    if package == "pyarrow" and hasattr(data, "read_next_batch"):
        return None, data
    return None


def _holds_rows(value: Any) -> bool:
    """Return whether an element of a list is a chunk. Arrays and lists are samples, such as images."""
    return is_frame(value) or is_chunk(value) or (isinstance(value, Mapping) and not value.keys() <= {"bytes", "path"})


def _local_blocks(chunks: Iterable[Any], step: Step, n_written: int, size: int) -> Iterator[Block]:
    """Yield the blocks of chunks, which are computed in this process."""
    done = 0
    for number, given in enumerate(chunks):
        with located(number, done):
            chunk = as_chunk(given)
            n_rows = count_rows(chunk)
        # No piece crosses a multiple of the size, so that parts do not depend on how the rows come.
        ends = range(size - done % size, n_rows, size)
        for start, stop in zip(chain([0], ends), chain(ends, [n_rows])):
            if start == stop:
                continue
            with located(number, done + start):
                block = step(cut(chunk, start, stop), max(0, n_written - done - start))
            yield block
        done += n_rows
