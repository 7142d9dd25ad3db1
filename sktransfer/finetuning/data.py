"""What the trained part of a network is fed with: batches that begin at the cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.batching import Inputs, collate, in_batches
from sktransfer.engine.forward import Tap, forward
from sktransfer.engine.store import MemoryStore

__all__ = ["Batches", "CutDataset"]

Batch = tuple[dict[str, Tensor], tuple[Tensor, Tensor]]


class CutDataset(Dataset[Any]):
    """Samples as the first trained stage takes them, from the store or computed on the spot.

    Parameters
    ----------
    backbone : Backbone
        Its stages below the cut are frozen.
    inputs : Inputs
        The samples.
    cut, stop : int
        How many stages are frozen, and with how many the network ends.
    frozen_taps : sequence of Tap
        What the head sees of the frozen part.
    targets, sample_weight : Tensor
        One row a sample.
    store : MemoryStore or None
    device : torch.device
    batch_size : int
    """

    def __init__(
        self,
        backbone: Backbone,
        inputs: Inputs,
        cut: int,
        stop: int,
        frozen_taps: Sequence[Tap],
        *,
        targets: Tensor,
        sample_weight: Tensor,
        store: MemoryStore | None,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self.backbone, self.inputs = backbone, inputs
        self.n_fixed = len(frozen_taps)
        self.taps = [*frozen_taps, *([Tap(cut)] if cut < stop else [])]
        self.targets, self.sample_weight = targets, sample_weight
        self.store, self.device, self.batch_size = store, device, batch_size

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> Batch:
        return self.batch([row])

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return the network's arguments for some rows, and (targets, weights)."""
        found: dict[int, list[Tensor]] = {}
        for part, outputs in forward(
            self.backbone,
            self.inputs,
            self.taps,
            rows=rows,
            store=self.store,
            device=self.device,
            batch_size=self.batch_size,
        ):
            found.update(zip(part, map(list, zip(*outputs))))
        arguments: dict[str, Tensor] = {}
        if self.n_fixed:
            arguments["fixed"] = torch.stack([torch.cat(found[row][: self.n_fixed]) for row in rows])  # (n, n_fixed)
        if len(self.taps) > self.n_fixed:
            at_cut = [found[row][-1] for row in rows]
            pad = self.backbone.preprocess.pad_value if self.taps[-1].stop == 0 else 0
            values, mask = collate(at_cut, self.backbone.modality, pad)  # (n, ...), (n, tokens)
            arguments["values"] = values
            if mask is not None:
                arguments["mask"] = mask
        return arguments, (self.targets[list(rows)], self.sample_weight[list(rows)])


class Batches:
    """An iterator of batches, new on each pass: shuffled by its own generator, texts beside others of their length.

    Parameters
    ----------
    dataset : CutDataset
        Where batches come from.
    batch_size : int
        Samples a batch. A last batch of one is joined to the one before it, for one sample has no batch statistics.
    seed : int, default=None
        Draws the order; None keeps the order of the rows.
    """

    POOL = 32  # batches whose texts are sorted by length together: little padding, still a random mix

    def __init__(self, dataset: CutDataset, batch_size: int, seed: int | None = None) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self.generator = None if seed is None else np.random.default_rng(seed)

    def __iter__(self) -> Iterator[Batch]:
        for rows in self._order():
            yield self.dataset.batch(rows)

    def _order(self) -> list[list[int]]:
        n = len(self.dataset)
        if self.generator is None:
            return list(in_batches(range(n), self.batch_size))
        order = self.generator.permutation(n)
        if self.dataset.inputs.is_text:
            lengths = np.array(self.dataset.inputs.lengths(range(n)))
            size = self.POOL * self.batch_size
            pools = [order[start : start + size] for start in range(0, n, size)]
            order = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in pools])
        batches = list(in_batches(order.tolist(), self.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [batches[-2] + batches[-1]]
        self.generator.shuffle(batches)  # type: ignore[arg-type]
        return batches
