"""Batch samplers: shuffled, class-balanced pairs, and several sources per batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sktransfer.engine.inputs import in_batches
from sktransfer.engine.workers import ahead
from sktransfer.training.data import Batch, FrozenPrefixDataset

__all__ = ["Batches", "PairBatches", "SourceBatches"]


class Batches:
    """Batches of an epoch: shuffled, and texts grouped with others of their length.

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
    """

    POOL = 32  # batches whose texts are sorted by length together: little padding, and still a random mix

    def __init__(
        self, dataset: FrozenPrefixDataset, batch_size: int, seed: int | None = None, no_prefetch: bool = False
    ) -> None:
        self.dataset, self.batch_size, self.seed, self.no_prefetch = dataset, batch_size, seed, no_prefetch

    def __iter__(self) -> Iterator[Batch]:
        batches = map(self.dataset.batch, self._order())
        if self.dataset.compute.on_cpu or (self.no_prefetch and self.dataset.augmentation is not None):
            return batches
        return ahead(batches)  # the cores are idle while a GPU trains

    def _order(self) -> list[list[int]]:
        n = len(self.dataset)
        if self.seed is None:
            return list(in_batches(range(n), self.batch_size))
        generator = np.random.default_rng([self.seed, self.dataset.epoch])
        order = generator.permutation(n)
        if self.dataset.inputs.is_ragged:
            lengths = np.array(self.dataset.inputs.lengths(self.dataset.rows))
            size = self.POOL * self.batch_size
            pools = [order[start : start + size] for start in range(0, n, size)]
            order = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in pools])
        batches = list(in_batches(order.tolist(), self.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [batches[-2] + batches[-1]]
        generator.shuffle(batches)  # type: ignore[arg-type]
        return batches


class PairBatches(Batches):
    """Batches with pairs of one class and of different classes, whatever the class ratio.

    If all samples fit into one batch, they are one. Otherwise classes take turns, and each gives two samples. Small
    classes repeat their samples more often.
    """

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
            for _ in range(-(-n // self.batch_size))
        ]


class SourceBatches(Batches):
    """Batches with samples of every source, the same number of each.

    An epoch ends when the largest source has been read once. Smaller sources repeat their samples, in a new order each
    time. Without a seed the order of the rows is kept, and sources are not mixed.
    """

    def _order(self) -> list[list[int]]:
        sources = self.dataset.sources
        if self.seed is None or sources is None:
            return super()._order()
        rng = np.random.default_rng([self.seed, self.dataset.epoch])
        members = [np.flatnonzero(sources == source) for source in np.unique(sources)]
        per_source = max(1, self.batch_size // len(members))
        streams = [_endless(rng, rows) for rows in members]
        n_batches = -(-max(map(len, members)) // per_source)
        return [[next(stream) for stream in streams for _ in range(per_source)] for _ in range(n_batches)]


def _endless(rng: np.random.Generator, items: np.ndarray) -> Iterator[int]:
    """Yield items in random order, again and again, each time in another order."""
    while True:
        yield from rng.permutation(items).tolist()
