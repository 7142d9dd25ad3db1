"""What the trained part of a network is fed with: batches that begin at the cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from sktransfer.backbones.backbone import Backbone
from sktransfer.cache.types import Store
from sktransfer.engine.compute import Compute
from sktransfer.engine.forward import LayerOutput, forward
from sktransfer.engine.inputs import PreprocessedSamples, collate, concat_features, in_batches
from sktransfer.engine.workers import ahead
from sktransfer.training.augmentation import Augmentation

__all__ = ["Batches", "FrozenPrefixDataset", "gathered"]

Batch = tuple[dict[str, Tensor], tuple[Tensor, Tensor]]


def gathered(
    backbone: Backbone, inputs: PreprocessedSamples, taps: Sequence[LayerOutput], rows: Sequence[int], **options: Any
) -> list[list[Tensor]]:
    """Return what each tap gives for some rows, in their order.

    Parameters
    ----------
    backbone, inputs, taps, **options
        As `forward` takes them.
    rows : sequence of int
        Which samples.

    Returns
    -------
    outputs : list of list of Tensor
        For each tap one tensor a row.
    """
    outputs: list[dict[int, Tensor]] = [{} for _ in taps]
    for part, found in forward(backbone, inputs, taps, rows=rows, **options):
        for tap, values in zip(outputs, found):
            tap.update(zip(part, values))
    return [[tap[row] for row in rows] for tap in outputs]


class FrozenPrefixDataset(Dataset[Any]):
    """Samples as the first trained stage takes them, from the store or computed on the spot.

    Parameters
    ----------
    backbone : Backbone
        Its stages below the cut are frozen.
    inputs : PreprocessedSamples
        The samples.
    cut, stop : int
        How many stages are frozen, and with how many the network ends.
    frozen_taps : sequence of LayerOutput
        What the head sees of the frozen part.
    rows : sequence of int
        Which samples: those trained on, or those set aside.
    targets, sample_weight : Tensor
        One row for each of these.
    compute : Compute
        How the frozen stages run.
    store : Store or None
    augmentation : Augmentation, default=None
        Changes samples anew in each epoch, which all stages then see: nothing of that is stored.
    """

    def __init__(
        self,
        backbone: Backbone,
        inputs: PreprocessedSamples,
        cut: int,
        stop: int,
        frozen_taps: Sequence[LayerOutput],
        *,
        rows: Sequence[int],
        targets: Tensor,
        sample_weight: Tensor,
        compute: Compute,
        store: Store | None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.backbone, self.inputs, self.rows = backbone, inputs, list(rows)
        self.frozen_taps = list(frozen_taps)
        self.cut_tap = LayerOutput(cut) if cut < stop else None
        self.targets, self.sample_weight = targets, sample_weight
        self.compute, self.store = compute, store
        self.augmentation = augmentation
        self.epoch = 0  # on which the order and the views of samples depend
        # Vectors of all samples take no more room than the user's own table of features would: they are held.
        self.fixed = self._fixed() if self.frozen_taps and augmentation is None else None

    def _fixed(self) -> Tensor:
        return concat_features(self._gathered(self.frozen_taps, range(len(self))))  # (n_samples, n_fixed)

    def _gathered(self, taps: Sequence[LayerOutput], rows: Sequence[int]) -> list[list[Tensor]]:
        places = [self.rows[row] for row in rows]
        if self.augmentation is None:
            return gathered(self.backbone, self.inputs, taps, places, compute=self.compute, store=self.store)
        views = PreprocessedSamples(
            self.augmentation.views(self.inputs.samples, places, self.epoch), self.backbone.preprocess
        )
        return gathered(self.backbone, views, taps, range(len(places)), compute=self.compute)

    def identity(self) -> list[Any]:
        """Return all that a training on these samples depends on, and no other does."""
        taps = [*self.frozen_taps, *([] if self.cut_tap is None else [self.cut_tap])]
        columns = [tap.namespace(self.backbone, self.compute).digest for tap in taps]
        keys = [self.inputs.samples.key(row) for row in self.rows]
        change = None if self.augmentation is None else self.augmentation.identity()
        return [columns, keys, self.targets, self.sample_weight, change]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Batch:
        return self.batch([row])

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return the network's arguments for some rows, and (targets, weights)."""
        index = list(rows)
        arguments: dict[str, Tensor] = {}
        taps = [] if self.cut_tap is None else [self.cut_tap]
        if self.fixed is not None:
            arguments["fixed"] = self.fixed[index]  # (n, n_fixed)
        else:
            taps = [*self.frozen_taps, *taps]  # of the samples as they are changed in this epoch
        found = self._gathered(taps, index) if taps else []
        if self.fixed is None and self.frozen_taps:
            arguments["fixed"] = concat_features(found[: len(self.frozen_taps)])  # (n, n_fixed)
        if self.cut_tap is not None:
            at_cut = found[-1]
            pad = self.backbone.preprocess.pad_value if self.cut_tap.stop == 0 else 0
            values, mask = collate(at_cut, self.backbone.modality, pad)  # (n, ...), (n, tokens)
            arguments["values"] = values
            if mask is not None:
                arguments["mask"] = mask
        return arguments, (self.targets[index], self.sample_weight[index])


class Batches:
    """The batches of an epoch: shuffled by its own random numbers, texts beside others of their length.

    Parameters
    ----------
    dataset : FrozenPrefixDataset
        Where batches come from.
    batch_size : int
        Samples a batch. A last batch of one is joined to the one before it, for one sample has no batch statistics.
    seed : int, default=None
        Draws the order, with the number of the data set's epoch; None keeps the order of the rows.
    alone : bool, default=False
        Whether he who takes the batches draws random numbers of the CPU. Samples are then not changed in another
        thread meanwhile, for that draws from the same generator.
    """

    POOL = 32  # batches whose texts are sorted by length together: little padding, still a random mix

    def __init__(
        self, dataset: FrozenPrefixDataset, batch_size: int, seed: int | None = None, alone: bool = False
    ) -> None:
        self.dataset, self.batch_size, self.seed, self.alone = dataset, batch_size, seed, alone

    def __iter__(self) -> Iterator[Batch]:
        batches = map(self.dataset.batch, self._order())
        if self.dataset.compute.on_cpu or (self.alone and self.dataset.augmentation is not None):
            return batches
        return ahead(batches)  # while a GPU trains, the cores are free

    def _order(self) -> list[list[int]]:
        n = len(self.dataset)
        if self.seed is None:
            return list(in_batches(range(n), self.batch_size))
        generator = np.random.default_rng([self.seed, self.dataset.epoch])
        order = generator.permutation(n)
        if self.dataset.inputs.is_text:
            lengths = np.array(self.dataset.inputs.lengths(self.dataset.rows))
            size = self.POOL * self.batch_size
            pools = [order[start : start + size] for start in range(0, n, size)]
            order = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in pools])
        batches = list(in_batches(order.tolist(), self.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [batches[-2] + batches[-1]]
        generator.shuffle(batches)  # type: ignore[arg-type]
        return batches
