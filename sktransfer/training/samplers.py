"""Batch samplers: rows in a ratio of tasks or sources, and class-balanced pairs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sktransfer._cluster import stop_if_cancelled
from sktransfer.devices.transfers import upload
from sktransfer.engine.inputs import in_batches
from sktransfer.engine.workers import ahead
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.weighting import counts_of, shares_of
from sktransfer.training.data import Batch, FrozenPrefixDataset

__all__ = ["Batches", "CopyBatches", "DeviceBatch", "PairBatches", "part_of"]


class DeviceBatch(tuple[dict[str, Any], dict[str, tuple[Tensor, Tensor]]]):
    """Batch on a device, with the sum of the weights of each task, which the CPU knows without waiting."""

    sums: dict[str, float]

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> DeviceBatch:
        """Return a copy of a batch on a device.

        Parameters
        ----------
        batch : Batch
            Batch on the CPU.
        device : torch.device
            Device to copy to.
        """
        made = cls(_each(batch, lambda values: upload(values, device)))
        made.sums = {name: float(weight.sum()) for name, (_, weight) in batch[1].items()}
        return made


def part_of(batch: Any, start: int, stop: int) -> Any:
    """Return some rows of a batch, with the padding of the whole batch.

    Parameters
    ----------
    batch : Batch
        Batch.
    start, stop : int
        First row, and the one after the last.
    """
    return _each(batch, lambda values: values[start:stop])


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return nested mappings and sequences with changed tensors."""
    if isinstance(value, Mapping):
        return {name: _each(one, change) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        changed = [_each(one, change) for one in value]
        return changed if isinstance(value, list) else tuple(changed)
    return change(value)


class Batches:
    """Batches of an epoch: shuffled, and texts grouped with others of their length.

    An epoch has as many draws as there are rows. With "proportional" sampling, each row is drawn once. Otherwise a
    draw belongs to a source, which is by default the rows whose target of one task is known. It takes the next row of
    an endless sequence of permutations of these rows, which the next epoch continues. All known targets of a drawn row
    are learned.

    Parameters
    ----------
    dataset : FrozenPrefixDataset
        Data set to draw from.
    batch_size : int
        Samples per batch. A last batch of one sample joins the batch before it, because one sample has no batch
        statistics.
    seed : int, default=None
        Seed of the order, together with the epoch of the data set. None keeps the order of the rows.
    no_prefetch : bool, default=False
        Whether the consumer draws from the CPU's random generator. Augmentation draws from it as well, so samples are
        then not augmented in another thread.
    sampling : {"proportional", "uniform", "sqrt", "joint"} or mapping of str to float, default="proportional"
        Share of the draws of each source: as many as it has rows, equal, as the root of its rows, or given. "joint"
        puts the same number of rows of every source into each batch.
    """

    POOL = 32  # batches whose texts are sorted by length together: little padding, and still a random mix

    def __init__(
        self,
        dataset: FrozenPrefixDataset,
        batch_size: int,
        seed: int | None = None,
        no_prefetch: bool = False,
        sampling: str | Mapping[str, float] = "proportional",
    ) -> None:
        self.dataset, self.batch_size, self.seed, self.no_prefetch = dataset, batch_size, seed, no_prefetch
        self.sampling = sampling

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        if self.seed is None:
            return -(-len(self._in_order) // self.batch_size)
        n_rows, n_sources = len(self._rows), len(self._shares)
        if self._is_joint:
            return -(-n_rows // (n_sources * self._per_source))
        n_full = -(-n_rows // self.batch_size)
        return n_full - int(n_full > 1 and n_rows == (n_full - 1) * self.batch_size + 1)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._read():
            stop_if_cancelled()
            yield batch

    def _read(self) -> Iterator[Batch]:
        if self.dataset.compute.on_cpu:
            return map(self.dataset.batch, self._order())
        moved = map(self._moved, self._order())
        if self.no_prefetch and self.dataset.augmentation is not None:
            return moved
        return ahead(moved)  # the cores are idle while a GPU trains

    def _moved(self, rows: list[int]) -> Batch:
        """Return a batch on the device."""
        store, device = self.dataset.on_device, self.dataset.compute.device

        def work() -> Batch:
            return DeviceBatch.of(self.dataset.batch(rows), device)

        return work() if store is None else store.retry(work)

    def _order(self) -> list[list[int]]:
        if self.seed is None:
            return list(in_batches(self._in_order, self.batch_size))
        generator = np.random.default_rng([self.seed, self.dataset.epoch])
        if self._is_joint:
            drawn = self._drawn(dict.fromkeys(self._shares, len(self) * self._per_source))
            parts = [self._grouped(generator.permutation(rows), self._per_source) for rows in drawn]
            batches = [[row for part in batch for row in part] for batch in zip(*parts, strict=True)]
        else:
            batches = self._grouped(self._draws(generator), self.batch_size)
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [batches[-2] + batches[-1]]
        generator.shuffle(batches)  # type: ignore[arg-type]
        return batches

    def _draws(self, generator: np.random.Generator) -> np.ndarray:
        """Return the rows of an epoch (n_draws,) in random order."""
        rows = self._rows
        if self.sampling != "proportional" and len(self._shares) > 1:
            rows = np.concatenate(self._drawn(counts_of(self._shares, len(rows))))  # (n_draws,)
        return rows[generator.permutation(len(rows))]

    def _drawn(self, counts: Mapping[str, int]) -> list[np.ndarray]:
        """Return the rows that an epoch draws from each source, (n_draws,) each."""
        sources = self.dataset.sources
        return [
            _continued(sources[name], n, [self.seed, index, len(counts)], self.dataset.epoch)
            for index, (name, n) in enumerate(counts.items())
        ]

    def _grouped(self, order: np.ndarray, size: int) -> list[list[int]]:
        """Return rows in groups of a size, in their order, but texts near others of their length."""
        if self.dataset.inputs.is_ragged:
            lengths = np.array(self.dataset.inputs.lengths(self.dataset.rows))
            pool = self.POOL * size
            pools = [order[start : start + pool] for start in range(0, len(order), pool)]
            order = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in pools])
        return list(in_batches(order.tolist(), size))

    @property
    def _in_order(self) -> Sequence[int]:
        """Rows that are read without a seed."""
        return range(len(self.dataset))

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        """Rows that are drawn from, in ascending order."""
        return np.unique(np.concatenate([self.dataset.sources[name] for name in self._shares]))

    @functools.cached_property
    def _shares(self) -> dict[str, float]:
        """Share of the draws by source, without sources that are not drawn from."""
        shares = shares_of(self.sampling, {name: len(rows) for name, rows in self.dataset.sources.items()})
        if not shares:
            raise InvalidParameterError(
                f"task_sampling={self.sampling!r} draws no row: the tasks with a positive share have no known target "
                "among the samples to train on; give other tasks a share, or more samples"
            )
        return shares

    @property
    def _is_joint(self) -> bool:
        return self.sampling == "joint" and len(self._shares) > 1

    @property
    def _per_source(self) -> int:
        return max(1, self.batch_size // len(self._shares))


class PairBatches(Batches):
    """Batches with pairs of one class and of different classes, at any ratio of the classes.

    If all samples fit into one batch, they are one. Otherwise classes take turns, and each gives two samples. Small
    classes repeat their samples more often.
    """

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self.dataset) // self.batch_size)

    def _order(self) -> list[list[int]]:
        n = len(self.dataset)
        if n <= self.batch_size:
            return [list(range(n))]
        rng = np.random.default_rng([self.seed or 0, self.dataset.epoch])
        (targets,) = self.dataset.targets.values()
        classes = targets.numpy()  # (n_samples,)
        members = [_endless(rng, np.flatnonzero(classes == target)) for target in np.unique(classes)]
        turns = _endless(rng, np.arange(len(members)))
        return [
            [next(members[turn]) for turn in (next(turns) for _ in range(self.batch_size // 2)) for _ in range(2)]
            for _ in range(len(self))
        ]


class CopyBatches(Batches):
    """Batches of fixed noisy copies of samples, of which each epoch reads the next ones.

    The data set has the copies of all its samples as rows. `copies` of its inputs has the number of each row among
    those of its sample, and `objective` tells how many copies of a sample a step reads. A batch has the first of them
    of each sample, then the second.
    """

    def _order(self) -> list[list[int]]:
        first, *_ = self._shown
        batches = [np.searchsorted(first, batch) for batch in super()._order()]
        return [np.concatenate([rows[batch] for rows in self._shown]).tolist() for batch in batches]

    @property
    def _in_order(self) -> Sequence[int]:
        return self._shown[0].tolist()  # type: ignore[no-any-return]

    @property
    def _rows(self) -> np.ndarray:  # type: ignore[override]
        return self._shown[0]

    @functools.cached_property
    def _shown(self) -> list[np.ndarray]:
        """Rows of the copies of this epoch, (n_samples,) each, in the order of the samples."""
        inputs: Any = self.dataset.inputs
        copies, n_shown = inputs.copies[self.dataset.rows], inputs.objective.copies_per_step
        first = self.dataset.epoch * n_shown
        n_copies = copies.max() + 1
        return [np.flatnonzero(copies == (first + index) % n_copies) for index in range(n_shown)]


def _endless(rng: np.random.Generator, items: np.ndarray) -> Iterator[int]:
    """Yield items in random order, again and again, each time in another order."""
    while True:
        yield from rng.permutation(items).tolist()


def _continued(rows: np.ndarray, n_draws: int, seed: Any, epoch: int) -> np.ndarray:
    """Return the draws of one epoch (n_draws,) of an endless sequence of permutations of rows.

    Earlier epochs are drawn again, so that the result depends on seed and epoch alone. An epoch that begins a new
    permutation first takes the rows that it has drawn least often. It therefore repeats no row before it has drawn all.
    """
    rng = np.random.default_rng(seed)
    drawn, rest = [], np.arange(0)
    for _ in range(epoch + 1):
        drawn, times, missing = [rest[:0]], np.zeros(len(rows), int), n_draws
        while missing:
            if not len(rest):
                rest = rng.permutation(len(rows))
                rest = rest[np.argsort(times[rest], kind="stable")]
            part, rest = rest[:missing], rest[missing:]
            times[part] += 1
            missing -= len(part)
            drawn.append(part)
    return rows[np.concatenate(drawn)]
