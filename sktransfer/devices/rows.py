"""Values of samples that stay on a GPU while a training lasts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from sktransfer.devices.memory import free_failed, free_memory
from sktransfer.devices.transfers import upload

__all__ = ["DeviceRows", "DeviceStore"]

Result = TypeVar("Result")
Padded = tuple[Tensor, Tensor | None]  # values (n, ...) and mask (n, n_tokens)


class DeviceStore:
    """Memory of a CUDA device for the values of samples, within a limit and half of the free memory.

    Parameters
    ----------
    device : torch.device
        CUDA device.
    limit : int
        Bytes that all values together may take.
    spare : int, default=0
        Bytes of the free memory that are not used, because a training will need them.
    """

    def __init__(self, device: torch.device, limit: int, spare: int = 0) -> None:
        self.device, self._left, self._spare = device, limit, spare
        self._tables: list[DeviceRows] = []

    def rows(self, n_rows: int, lengths: Sequence[int] | None, pads: Sequence[float]) -> DeviceRows:
        """Return the tables of a data set, which are empty at first.

        Parameters
        ----------
        n_rows, lengths, pads
            As `DeviceRows` takes them.
        """
        self._tables.append(DeviceRows(self, n_rows, lengths, pads))
        return self._tables[-1]

    def reserve(self, n_bytes: int) -> bool:
        """Return whether values of a size fit, and count them as kept.

        Parameters
        ----------
        n_bytes : int
            Bytes of the values.
        """
        fits = n_bytes <= min(self._left, (free_memory(self.device) - self._spare) // 2)
        self._left -= n_bytes if fits else 0
        return fits

    def clear(self) -> None:
        """Free all memory, and keep nothing from now on."""
        for table in self._tables:
            table.close()
        self._tables, self._left = [], 0

    def retry(self, work: Callable[[], Result], restart: Callable[[], Any] | None = None) -> Result:
        """Return the result of some work. After out-of-memory, all values are freed, and the work is repeated.

        Parameters
        ----------
        work : callable
            Work on the device.
        restart : callable, default=None
            Called before work is repeated that draws random numbers, which are then drawn again. None for work that
            draws none, in any thread.
        """
        if not any(table.is_open for table in self._tables):
            return work()
        states = None if restart is None else (torch.get_rng_state(), torch.cuda.get_rng_state(self.device))
        try:
            return work()
        except torch.OutOfMemoryError:
            self.clear()
        free_failed()
        if restart is not None and states is not None:
            restart()
            torch.set_rng_state(states[0])
            torch.cuda.set_rng_state(states[1], self.device)
        return work()

    def __reduce__(self) -> Any:
        return DeviceStore, (self.device, 0)  # a copy or a pickle holds no memory of the device


class _Table(NamedTuple):
    """Values of a layer: (n_rows, ...), or with a value per token (n_tokens + 1, ...), of which the last is padding."""

    values: Tensor
    is_of_tokens: bool


class DeviceRows:
    """Values of the rows of a data set on a device, without padding, in one table per layer.

    A row is copied to the device when it is first asked for. Batches are put together there, with the values, the
    padding and the mask that the CPU would give them.

    Parameters
    ----------
    store : DeviceStore
        Memory of the device.
    n_rows : int
        Number of rows.
    lengths : sequence of int or None
        Number of tokens of each row; None if samples have no length.
    pads : sequence of number
        Value that pads each layer.
    """

    def __init__(self, store: DeviceStore, n_rows: int, lengths: Sequence[int] | None, pads: Sequence[float]) -> None:
        self._store, self._n_rows, self._lengths, self._pads = store, n_rows, lengths, pads
        self._starts = list(accumulate(lengths or [], initial=0))  # of the tokens of each row, and their number
        self._tables: list[_Table] = []
        self._kept: set[int] = set()
        self.is_open = True

    def close(self) -> None:
        """Free the memory, and keep nothing from now on."""
        self.is_open, self._tables, self._kept = False, [], set()

    def batch(self, rows: Sequence[int], read: Callable[[list[int]], list[list[Tensor]]]) -> list[Padded] | None:
        """Return a padded batch of each layer; None if the values of all rows do not fit.

        Parameters
        ----------
        rows : sequence of int
            Rows of the data set.
        read : callable
            Called with rows that are not on the device. Returns per layer one tensor per row, on the CPU.
        """
        missing = [row for row in dict.fromkeys(rows) if row not in self._kept]
        if self.is_open and missing:
            self._add(missing, read(missing))
        tables = self._tables
        if not self.is_open or not tables:  # another thread may have closed them
            return None
        row, start, length = self._places(rows)  # (n,) each
        position = torch.arange(max(self._length(one) for one in rows), device=self._store.device)  # (n_tokens,)
        mask = position < length[:, None]  # (n, n_tokens)
        token = torch.where(mask, start[:, None] + position, self._starts[-1])  # (n, n_tokens)
        batches: list[Padded] = []
        for values, is_of_tokens in tables:
            if is_of_tokens:
                flat = values.index_select(0, token.flatten())  # (n * n_tokens, ...)
                padded = flat.view(*token.shape, *values.shape[1:])  # (n, n_tokens, ...)
                batches.append((padded, mask))
            else:  # (n, ...) and (n, 1)
                batches.append((values.index_select(0, row), None if self._lengths is None else mask[:, :1]))
        return batches

    def _length(self, row: int) -> int:
        return 1 if self._lengths is None else self._lengths[row]

    def _places(self, rows: Sequence[int]) -> Tensor:
        """Return row, first token and number of tokens of each row on the device, (3, n), in one copy."""
        starts = [0 if self._lengths is None else self._starts[row] for row in rows]
        return upload(torch.tensor([list(rows), starts, [self._length(row) for row in rows]]), self._store.device)

    def _add(self, rows: list[int], layers: list[list[Tensor]]) -> None:
        """Copy the values of some rows to the device, or close the tables if not all rows fit or shapes differ."""
        tables = self._tables or self._allocate([values[0] for values in layers])
        if not tables or not all(self._fits(*table, rows, values) for table, values in zip(tables, layers)):
            self.close()
            return
        spans = [] if self._lengths is None else [(self._starts[row], self._starts[row + 1]) for row in rows]
        tokens = [token for span in spans for token in range(*span)]
        for (table, is_of_tokens), values in zip(tables, layers, strict=True):
            index = upload(torch.tensor(tokens if is_of_tokens else rows), self._store.device)
            flat = torch.cat(values) if is_of_tokens else torch.stack(values)  # (n_tokens, ...) or (n, ...)
            table.index_copy_(0, index, upload(flat, self._store.device))
        self._tables = tables
        self._kept.update(rows)
        if not self.is_open:
            self.close()  # another thread has closed the tables before

    def _fits(self, table: Tensor, is_of_tokens: bool, rows: list[int], values: list[Tensor]) -> bool:
        """Return whether values have the shape of a table. Images of different sizes do not."""
        lengths = [[self._length(row)] if is_of_tokens else [] for row in rows]
        return all([*one.shape] == length + [*table.shape[1:]] for one, length in zip(values, lengths, strict=True))

    def _allocate(self, examples: list[Tensor]) -> list[_Table]:
        """Return empty tables for the values of all rows, given those of one row by layer; none if they do not fit."""
        shapes: list[tuple[tuple[int, ...], torch.dtype, bool]] = []
        for value in examples:
            is_of_tokens = self._lengths is not None and (value.ndim > 1 or not value.is_floating_point())
            shape = (self._starts[-1] + 1, *value.shape[1:]) if is_of_tokens else (self._n_rows, *value.shape)
            shapes.append((shape, value.dtype, is_of_tokens))
        if not self._store.reserve(sum(math.prod(shape) * dtype.itemsize for shape, dtype, _ in shapes)):
            return []
        try:
            tables = [
                _Table(torch.empty(shape, dtype=dtype, device=self._store.device), is_of_tokens)
                for shape, dtype, is_of_tokens in shapes
            ]
        except torch.OutOfMemoryError:  # the free memory is in pieces
            return []
        for table, pad in zip(tables, self._pads, strict=True):
            table.values[-1:].fill_(pad)  # overwritten by the last row unless the table is of tokens
        return tables

    def __reduce__(self) -> Any:
        return DeviceRows, (self._store, self._n_rows, self._lengths, self._pads)
