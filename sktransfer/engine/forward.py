"""Run the stages of a frozen backbone over samples; what the store holds is not computed again."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import pool
from sktransfer.backbones.stages import run_stages
from sktransfer.cache.types import Store
from sktransfer.engine.compute import Compute
from sktransfer.engine.inference import has_convolutions, prepare_for_inference
from sktransfer.engine.inputs import PreprocessedSamples, collate, in_batches
from sktransfer.engine.layers import LayerOutput
from sktransfer.engine.oom import retry_on_oom
from sktransfer.engine.records import Record, Records
from sktransfer.engine.workers import in_parallel

__all__ = ["Outputs", "LayerOutput", "forward"]

_LOOK_UP = 64  # samples at a time: what was found is handed on before the next are looked up
_SORTED = 1024  # texts at a time that are sorted by length: more of them would be held in memory for little

Outputs = tuple[list[int], list[list[Tensor]]]


def forward(
    backbone: Backbone,
    inputs: PreprocessedSamples,
    taps: Sequence[LayerOutput],
    *,
    compute: Compute,
    rows: Sequence[int] | None = None,
    store: Store | None = None,
    keep: int | None = None,
    prefetch: Sequence[LayerOutput] = (),
) -> Iterator[Outputs]:
    """Yield, for some rows at a time, what each tap gives.

    Equal samples are computed once. Where the store lacks a tap but holds values of a stage below it, the stages go on
    from there.

    Parameters
    ----------
    backbone : Backbone
        Whose stages run, frozen.
    inputs : PreprocessedSamples
        The samples.
    taps : sequence of LayerOutput
        What is wanted; all come from the same pass.
    compute : Compute
        Where and how the stages run.
    rows : sequence of int, default=None
        Which samples; None for all.
    store : Store, default=None
        Where results are looked up, and kept.
    keep : int, default=None
        Outputs of this many first stages are kept; None for all.
    prefetch : sequence of LayerOutput, default=()
        What else of the same pass is kept for later, where the store has room; the first are the dearest.

    Yields
    ------
    rows : list of int
        In any order, each row once, but for those that `inputs` leaves out: none at all, where it leaves out a batch.
    outputs : list of list of Tensor
        For each tap one tensor a row, on the CPU: vectors in float32, values as they are computed, token ids.
    """
    wanted = list(range(len(inputs))) if rows is None else list(rows)
    one_pass = _Pass(backbone, inputs, taps, compute, prefetch, len(wanted))
    if store is not None:
        n_kept = len(backbone.stages) if keep is None else keep
        one_pass.records = Records(store, backbone, compute, one_pass.computed, n_kept)
    jobs = one_pass.jobs(wanted)
    try:
        for job in jobs:
            if not one_pass.is_known(job[0]):
                yield from in_parallel(chain([job], jobs), one_pass.run)
            else:  # to hand on what was found needs no other thread
                yield one_pass.run(job)
    finally:
        if store is not None and one_pass.has_kept:
            store.flush()


class _Pass:
    """Samples on their way through a backbone; several threads work on it."""

    def __init__(
        self,
        backbone: Backbone,
        inputs: PreprocessedSamples,
        taps: Sequence[LayerOutput],
        compute: Compute,
        prefetch: Sequence[LayerOutput],
        n_samples: int,
    ) -> None:
        self.backbone, self.inputs, self.taps = backbone, inputs, list(taps)
        self.compute, self.n_samples = compute, n_samples
        self.records: Records | None = None
        # Token ids are at hand wherever they are asked for, and made faster than they are found.
        self.computed = [tap for tap in self.taps if tap.stop or not inputs.is_text]
        self._n_computed = len(set(self.computed))
        self.last = max((tap.stop for tap in self.computed), default=0)
        self._spares = [tap for tap in prefetch if tap not in self.taps and 0 < tap.stop <= self.last]
        self._chosen: list[LayerOutput] | None = None
        self.has_kept = False
        self._mean_length = 0.0
        self._stages: tuple[nn.ModuleList, bool] | None = None
        # A GPU takes one batch at a time, while others are decoded; each core has a batch of its own.
        self._device: AbstractContextManager[Any] = nullcontext() if compute.on_cpu else threading.Lock()

    def is_known(self, record: Record) -> bool:
        """Return whether nothing is left to compute of a sample."""
        return len(record.found) == self._n_computed

    def jobs(self, rows: Sequence[int]) -> Iterator[list[Record]]:
        """Yield samples that share a batch; those that are known already come together, as they are found."""
        text = self.backbone.modality == "text"
        size = _SORTED if text else max(_LOOK_UP, 8 * self.compute.n_images(self.backbone.preprocess))
        waiting: dict[bytes | int, Record] = {}
        for part in in_batches(rows, _LOOK_UP):
            fresh = self._records(part, waiting)
            known = []
            for name, record in fresh.items():
                if self.is_known(record):
                    known.append(record)
                else:
                    waiting[name] = record
            if known:
                yield known
            if len(waiting) >= size:
                yield from self._batches(list(waiting.values()))
                waiting = {}
        yield from self._batches(list(waiting.values()))

    def _records(self, rows: Sequence[int], waiting: dict[bytes | int, Record]) -> dict[bytes | int, Record]:
        """Return what samples stand in some rows, each once, but for those that wait already."""
        keyed = self.records is not None or self.inputs.is_text  # to hash images would cost, and serve nobody else
        fresh: dict[bytes | int, Record] = {}
        for row in rows:
            key = self.inputs.key(row) if keyed else b""
            if key is None:
                continue
            name = key or row
            twin = waiting.get(name) or fresh.get(name)
            if twin is None:
                fresh[name] = Record([row], key)
            else:
                twin.rows.append(row)
        if self.records is not None:
            self.records.look_up(list(fresh.values()))
        return fresh

    def _batches(self, records: list[Record]) -> Iterator[list[Record]]:
        for start in sorted({record.start for record in records}):
            group = [record for record in records if record.start == start]
            if self.backbone.modality == "image":
                yield from in_batches(group, self.compute.n_images(self.backbone.preprocess))
                continue
            if start == 0:
                for record, tokens in zip(group, self.inputs.tensors([record.rows[0] for record in group])):
                    record.values = tokens
            lengths = [len(record.values) for record in group if record.values is not None]
            self._mean_length = self._mean_length or sum(lengths) / len(lengths)
            for batch in self.compute.batches(lengths):
                yield [group[place] for place in batch]

    def run(self, batch: list[Record]) -> Outputs:
        """Return the outputs for the rows of a batch, computed where they are not known."""
        if not self.is_known(batch[0]):
            batch, tensors = self._read(batch)
            if not batch:
                return [], []
            retry_on_oom(lambda part: self._compute(batch[part], tensors[part]), [record.rows[0] for record in batch])
        rows = [row for record in batch for row in record.rows]
        outputs = []
        for tap in self.taps:
            if tap not in self.computed:
                outputs.append(self.inputs.tensors(rows))
                continue
            found = [record.found[tap] for record in batch for _ in record.rows]
            dtype = tap.dtype(self.compute)  # the store may keep a shorter one
            outputs.append(found if found[0].dtype == dtype else [_typed(value, dtype) for value in found])
        return rows, outputs

    def _read(self, batch: list[Record]) -> tuple[list[Record], list[Tensor]]:
        """Return the records that there are values to go on from for, and these values."""
        asked = [record for record in batch if record.values is None]
        read = self.inputs.readable([record.rows[0] for record in asked])
        for record in asked:
            record.values = read.get(record.rows[0])
        batch = [record for record in batch if record.values is not None]
        return batch, [record.values for record in batch if record.values is not None]

    def _compute(self, batch: list[Record], tensors: list[Tensor]) -> None:
        """Run the stages on one batch, write into its records what the taps give, and have it kept."""
        extra = self._spares if self._chosen is None else self._chosen
        taken = self._run(tensors, batch[0].start, [*self.computed, *extra])
        for tap in self.computed:
            for record, value in zip(batch, taken.get(tap, ())):
                record.found[tap] = value
        if self.records is not None:
            if self._chosen is None:
                self._choose(taken, tensors)
            for tap in (*self.computed, *(self._chosen or ())):
                if tap in taken and self.records.may_keep(tap):
                    self.records.keep_values(tap, batch, taken[tap])
                    self.has_kept = True

    def _run(self, tensors: list[Tensor], start: int, taps: Sequence[LayerOutput]) -> dict[LayerOutput, list[Tensor]]:
        values, mask = collate(tensors, self.backbone.modality, self.backbone.preprocess.pad_value)
        lengths = None if mask is None else mask.sum(1).tolist()
        stages, channels_last = self._placed()
        if self.compute.device.type == "cuda":  # from pinned memory, copies run beside the network
            values, mask = values.pin_memory(), None if mask is None else mask.pin_memory()
        taken: dict[LayerOutput, list[Tensor]] = {}
        with self._device, torch.inference_mode():
            mask = None if mask is None else mask.to(self.compute.device, non_blocking=True)
            values = values.to(self.compute.device, non_blocking=True)
            values = _typed(values, self.compute.dtype)
            if values.ndim == 4 and channels_last:
                values = values.to(memory_format=torch.channels_last)
            passed = chain([values], run_stages(stages[start : self.last], values, mask))
            # Taken before the next stage runs: one that begins with an in-place ReLU writes into what it is given.
            for stop, given in enumerate(passed, start=start):
                for tap in taps:
                    if tap.stop == stop and tap not in taken:
                        taken[tap] = self._take(tap, given, mask, lengths)
        return taken

    def _placed(self) -> tuple[nn.ModuleList, bool]:
        if self._stages is None:
            stages = prepare_for_inference(self.backbone, self.compute)
            self._stages = stages, has_convolutions(stages)
        return self._stages

    def _take(self, tap: LayerOutput, given: Tensor, mask: Tensor | None, lengths: list[int] | None) -> list[Tensor]:
        """Return one tensor a sample that owns its memory: a view would keep the whole batch alive."""
        if tap.pooling is not None:
            given = pool(given, mask, tap.pooling, prefix_tokens=self.backbone.prefix_tokens)  # (n, n_features)
        if tap.pooling is not None or (given.ndim == 2 and given.is_floating_point()):  # one vector a text
            lengths = None
        if self.records is not None:
            given = self.records.rounded(tap, given)
        given = given.cpu()
        with torch.inference_mode(False), torch.no_grad():  # what is taken may be trained on
            return [
                (one if lengths is None else one[: lengths[i]]).clone(memory_format=torch.contiguous_format)
                for i, one in enumerate(given)
            ]

    def _choose(self, taken: dict[LayerOutput, list[Tensor]], tensors: list[Tensor]) -> None:
        """Choose the prefetch that half of the store's room will hold, once, by what the first batch shows."""
        assert self.records is not None
        room = self.records.store.room()
        # The longest texts come first: what a text takes is found by its share of the tokens.
        share = self._mean_length * len(tensors) / max(1, sum(map(len, tensors))) if self._mean_length else 1.0

        def size(tap: LayerOutput) -> float:
            per_sample = sum(value.nbytes for value in taken.get(tap, ())) / len(tensors)
            return self.n_samples * per_sample * (1.0 if tap.pooling else share)

        left = float("inf") if room is None else (room - sum(map(size, self.computed))) / 2
        chosen = []
        for tap in self._spares:
            left -= size(tap)
            if left >= 0 and self.records.may_keep(tap):
                chosen.append(tap)
        self._chosen = chosen


def _typed(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype) if values.is_floating_point() else values
