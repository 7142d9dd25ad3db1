"""Forward passes over the stages of a frozen backbone, with lookups in the cache."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sktransfer._cluster import stop_if_cancelled
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import pool
from sktransfer.backbones.stages import of_tower, run_stages
from sktransfer.cache.policy import select_prefetch
from sktransfer.cache.types import Store
from sktransfer.devices.memory import measured_peak
from sktransfer.devices.transfers import begin_download, finish_downloads, upload
from sktransfer.engine.compute import Compute
from sktransfer.engine.inference import StagesOfPass, in_working_runtime
from sktransfer.engine.inputs import PreprocessedSamples, in_batches
from sktransfer.engine.layers import LayerOutput
from sktransfer.engine.lookup import CacheLookup, PendingSample
from sktransfer.engine.workers import in_parallel, retry_on_oom
from sktransfer.kernels.attention import PaddingInvariantAttention
from sktransfer.samples.images import check_images
from sktransfer.samples.texts import check_texts

__all__ = ["LayerOutput", "Outputs", "blank_widths", "forward", "in_rows"]

_LOOKUP = 64  # samples per lookup: cached outputs are yielded before the next lookup
_VECTORS = 256  # samples per lookup of vectors, which take less memory
_POLL = 0.02  # seconds between two looks at samples that another pass computes
_PATIENCE = 10.0  # seconds without such a sample, after which they are computed here; more if own batches are slow
_SORTED = 1024  # ragged samples that are sorted by length together: more would need memory and save little padding

_BLANK = (224, 224, 3)  # shape of the image that shows widths

# Rows, and per layer one tensor per row, or one tensor (n_rows, n_features) of vectors from the cache.
Outputs = tuple[list[int], Sequence[Sequence[Tensor] | Tensor]]


def forward(
    backbone: Backbone,
    inputs: Any,
    layers: Sequence[LayerOutput],
    *,
    compute: Compute,
    rows: Sequence[int] | None = None,
    store: Store | None = None,
    cacheable_stages: Any = None,
    prefetch: Sequence[LayerOutput] = (),
) -> Iterator[Outputs]:
    """Yield the outputs of some layers, for some rows at a time.

    Equal samples are computed once. If the store lacks an output but holds values of a lower stage, the pass resumes
    there. Passes that run at the same time and share the store divide the samples among them. The layers of a joined
    backbone are pooled. A row without a sample in the column of a tower has zeros there.

    Parameters
    ----------
    backbone : Backbone
        Backbone whose stages run, frozen.
    inputs : PreprocessedSamples or JoinedInputs
        Samples.
    layers : sequence of LayerOutput
        Layer outputs to return, all from the same pass.
    compute : Compute
        Device, precision and batch size.
    rows : sequence of int, default=None
        Rows of the samples; None for all.
    store : Store, default=None
        Cache of the outputs; None for no cache.
    cacheable_stages : int or dict of str to int, default=None
        Number of first stages whose outputs may be cached, of a joined backbone by tower; None for all.
    prefetch : sequence of LayerOutput, default=()
        Outputs of the same pass to cache for later if the store has room, most valuable first. Ignored without a store.

    Yields
    ------
    rows : list of int
        In any order, each row once, without those that `inputs` leaves out. Empty if it leaves out a whole batch, and
        while other passes compute the rest of the rows.
    outputs : list of sequence of Tensor
        Per layer one tensor per row, on the CPU: vectors in float32, values in the compute precision, token ids. Of
        cached rows they may be the rows of one tensor.
    """
    selected = list(range(len(inputs))) if rows is None else list(rows)
    options = {"compute": compute, "store": store, "cacheable_stages": cacheable_stages, "prefetch": prefetch}
    if None in backbone.towers:
        for network, part in inputs.divided(backbone, selected):
            yield from _forward(network, inputs, layers, part, **options)
        return
    for part in in_batches(selected, _SORTED):
        yield part, _of_towers(backbone, inputs, layers, part, **options)


def _of_towers(
    backbone: Backbone,
    inputs: Any,
    layers: Sequence[LayerOutput],
    rows: list[int],
    *,
    cacheable_stages: Any,
    prefetch: Sequence[LayerOutput],
    **options: Any,
) -> list[list[Tensor]]:
    """Return the outputs of layers of several towers for some rows."""
    found: dict[LayerOutput, dict[int, Tensor]] = {layer: {} for layer in layers}
    for name, tower in backbone.towers.items():
        own = [layer for layer in found if layer.tower == name]
        if not own:
            continue
        of_column = inputs.towers[name]
        options["cacheable_stages"] = of_tower(cacheable_stages, name)
        options["prefetch"] = [layer.alone() for layer in prefetch if layer.tower == name]
        alone = [layer.alone() for layer in own]
        with inputs.samples.named(name):
            for part, outputs in _forward(tower, of_column, alone, of_column.present(rows), **options):
                for layer, values in zip(own, outputs, strict=True):
                    found[layer].update(zip(part, values, strict=True))
    return in_rows(backbone, found, layers, rows)


def in_rows(
    backbone: Backbone,
    found: Mapping[LayerOutput, Mapping[int, Tensor]],
    layers: Sequence[LayerOutput],
    rows: Sequence[int],
) -> list[list[Tensor]]:
    """Return the outputs of layers in the order of some rows, with zeros where a tower has no sample.

    Parameters
    ----------
    backbone : Backbone
        Backbone of the layers.
    found : mapping of LayerOutput to mapping of int to Tensor
        Outputs by row.
    layers : sequence of LayerOutput
        Layers.
    rows : sequence of int
        Rows.
    """
    outputs = []
    for layer in layers:
        by_row, zeros = found[layer], torch.zeros(0)
        if any(row not in by_row for row in rows):
            some = next(iter(by_row.values()), None)
            width = blank_widths(backbone.towers[layer.tower], [layer])[layer] if some is None else len(some)
            zeros = torch.zeros(width)
        outputs.append([by_row.get(row, zeros) for row in rows])
    return outputs


def blank_widths(tower: Backbone, layers: Sequence[LayerOutput]) -> dict[LayerOutput, int]:
    """Return the width of some layers of a backbone that is not joined, as a blank sample shows it.

    Parameters
    ----------
    tower : Backbone
        Backbone.
    layers : sequence of LayerOutput
        Pooled layers.
    """
    blank = check_texts(["a"]) if tower.modality == "text" else check_images(np.zeros((1, *_BLANK), np.uint8))
    inputs = PreprocessedSamples(blank, tower.preprocess)
    compute = Compute(torch.device("cpu"))
    ((_, outputs),) = forward(tower, inputs, [layer.alone() for layer in layers], compute=compute)
    return {layer: len(values[0]) for layer, values in zip(layers, outputs, strict=True)}


def _forward(
    backbone: Backbone,
    inputs: PreprocessedSamples,
    layers: Sequence[LayerOutput],
    selected: list[int],
    *,
    compute: Compute,
    store: Store | None,
    cacheable_stages: int | None,
    prefetch: Sequence[LayerOutput],
) -> Iterator[Outputs]:
    """Yield the outputs of layers of a backbone that is not joined."""
    compute = in_working_runtime(backbone, compute).tuned_for(backbone)
    n_stages = len(backbone.stages) if cacheable_stages is None else cacheable_stages
    one_pass = _Pass(backbone, inputs, layers, compute, len(selected), n_stages)
    if store is not None:
        one_pass.use(CacheLookup(store, backbone, inputs, compute, one_pass.computed, n_stages), prefetch)
    batches = one_pass.batches(selected)
    try:
        for batch in batches:
            if isinstance(batch, tuple) or not batch or one_pass.is_complete(batch[0]):
                yield one_pass.run(batch)  # cached outputs need no other thread
                continue
            one_pass.prepare(batch)
            if one_pass.is_measuring:
                yield one_pass.run(batch)  # the first batch tells the size of the others
            else:
                for outputs in in_parallel(chain([batch], batches), one_pass.run, most=compute.workers):
                    stop_if_cancelled()
                    yield outputs
    finally:
        one_pass.close()


class _Pass:
    """One forward pass over samples, shared by several threads."""

    def __init__(
        self,
        backbone: Backbone,
        inputs: PreprocessedSamples,
        layers: Sequence[LayerOutput],
        compute: Compute,
        n_samples: int,
        n_frozen: int,
    ) -> None:
        self.backbone, self.inputs, self.layers = backbone, inputs, list(layers)
        self.compute, self.n_samples, self._n_frozen = compute, n_samples, n_frozen
        # A cheap input, such as token ids, is read again for the output of stage 0, not looked up or held.
        self.computed = [layer for layer in self.layers if layer.stop or not inputs.batching.is_cheap]
        self._n_computed = len(set(self.computed))
        self._last = max((layer.stop for layer in self.computed), default=0)
        self._cache: CacheLookup | None = None
        self._prefetch: list[LayerOutput] = []
        self._is_chosen = True  # whether `_prefetch` is final
        self._is_claiming = False
        self._claimed: dict[bytes, PendingSample] = {}
        self._postponed: list[PendingSample] = []  # other passes compute them
        self._slowest = 0.0  # seconds of a batch
        self._mean_length = 0.0
        # The memory that the first batch takes decides the size of further ones, if there are any.
        self.is_measuring = compute.fills_memory and n_samples > _LOOKUP
        # A GPU takes one batch at a time, while others are decoded. On the CPU, each core has a batch of its own.
        self._device: AbstractContextManager[Any] = nullcontext() if compute.on_cpu else threading.Lock()

    def use(self, cache: CacheLookup, prefetch: Sequence[LayerOutput]) -> None:
        """Look up and cache outputs, and prefetch others of the same pass."""
        self._cache = cache
        self._prefetch = [
            layer
            for layer in prefetch
            if layer not in self.layers and 0 < layer.stop <= self._last and cache.may_cache(layer)
        ]
        self._is_chosen = not self._prefetch
        self._is_claiming = any(map(cache.may_cache, (*self.computed, *self._prefetch)))

    def prepare(self, batch: list[PendingSample]) -> None:
        """Prepare the stages, in the thread of the caller, to whom warnings about them point."""
        stops = {layer.stop for layer in (*self.computed, *self._prefetch)}
        self._stages = StagesOfPass(self.backbone, self.compute, self._n_frozen, stops)
        self._stages.at(batch[0].start)

    def close(self) -> None:
        """Write what is buffered, and release the claims of batches that were not run."""
        self._release(list(self._claimed.values()))
        if self._cache is not None:
            self._cache.store.flush()  # entries that were only read may be written to another level

    def is_complete(self, sample: PendingSample) -> bool:
        """Return whether all outputs of a sample are known."""
        return len(sample.outputs) == self._n_computed

    def batches(self, rows: Sequence[int]) -> Iterator[list[PendingSample] | Outputs]:
        """Yield batches of samples, or the outputs of rows. Cached outputs come at once."""
        waiting: dict[bytes | int, PendingSample] = {}
        of_vectors = all(layer.pooling for layer in self.computed)
        for part in in_batches(rows, _VECTORS if of_vectors else _LOOKUP):
            names = self._names(part)
            new = [name for name in dict.fromkeys(names) if name is not None and name not in waiting]
            found = {} if self._cache is None else self._cache.find(new)
            known = None if waiting else self._known(part, names, new, found)
            if known is not None:
                yield known
                continue
            samples = self._samples(part, names, waiting)
            if self._cache is not None:
                self._cache.look_up(list(samples.values()), found)
            complete = []
            for name, sample in samples.items():
                if self.is_complete(sample):
                    complete.append(sample)
                else:
                    waiting[name] = sample
            if complete:
                yield complete
            if len(waiting) >= self._n_waiting:
                yield from self._form_batches(list(waiting.values()))
                waiting = {}
        yield from self._form_batches(list(waiting.values()))
        if self._cache is not None:
            yield from self._finish(self._cache)

    @property
    def _n_waiting(self) -> int:
        """Number of samples that are divided into batches together."""
        if self.inputs.is_ragged:
            return _SORTED * self.compute.growth
        (cost,) = self.inputs.batching.batch_costs(self.inputs.preprocess, [None])
        return max(_LOOKUP, 8 * self.compute.samples_per_batch(cost, self.inputs.batching.cost_unit))

    def _names(self, rows: Sequence[int]) -> list[Any]:
        """Return what equal samples have in common: keys, or else rows. None for samples that are left out."""
        if self._cache is None and (not self.inputs.batching.is_cheap or self.n_samples == 1):
            return list(rows)
        return list(self.inputs.keys(rows))

    def _known(
        self, rows: list[int], names: list[Any], distinct: list[Any], found: Mapping[LayerOutput, Any]
    ) -> Outputs | None:
        """Return the outputs of some rows if the cache has each layer as one tensor, else None."""
        blocks: list[Any] = [found.get(layer) for layer in self.layers]
        if not all(isinstance(block, Tensor) for block in blocks) or None in names:
            return None
        if len(distinct) < len(rows):
            place = {name: position for position, name in enumerate(distinct)}
            places = torch.tensor([place[name] for name in names])  # (n_rows,)
            blocks = [block[places] for block in blocks]  # each (n_rows, n_features)
        return rows, [_as_dtype(block, layer.dtype(self.compute)) for layer, block in zip(self.layers, blocks)]

    def _samples(
        self, rows: Sequence[int], names: Sequence[Any], waiting: Mapping[Any, PendingSample]
    ) -> dict[Any, PendingSample]:
        """Return the distinct samples of some rows, without those that wait already."""
        new: dict[Any, PendingSample] = {}
        for row, name in zip(rows, names, strict=True):
            if name is None:
                continue
            equal = waiting.get(name) or new.get(name)
            if equal is None:
                new[name] = PendingSample([row], name if isinstance(name, bytes) else b"", self._last)
            else:
                equal.rows.append(row)
        return new

    def _form_batches(self, samples: list[PendingSample]) -> Iterator[list[PendingSample]]:
        batching = self.inputs.batching
        for span in sorted({sample.span for sample in samples}):
            group = [sample for sample in samples if sample.span == span]
            if batching.is_ragged:
                if span[0] == 0:
                    for sample, tensor in zip(group, self.inputs.tensors([sample.rows[0] for sample in group])):
                        sample.values = tensor
                lengths = batching.lengths([sample.values for sample in group if sample.values is not None])
                self._mean_length = self._mean_length or sum(lengths) / len(lengths)
            while group:
                costs = batching.batch_costs(self.inputs.preprocess, [sample.values for sample in group])
                batches = self.compute.batches(costs, batching.cost_unit)
                batches = batches[:1] if self.is_measuring else batches
                for batch in batches:
                    yield from self._claim([group[index] for index in batch])
                done = set(chain.from_iterable(batches))
                group = [sample for index, sample in enumerate(group) if index not in done]

    def _claim(self, batch: list[PendingSample]) -> Iterator[list[PendingSample]]:
        """Yield the samples of a batch that no other pass computes, in groups of one state."""
        if self._cache is None or not self._is_claiming:
            yield batch
            return
        free = self._cache.claim(batch)
        self._postponed += [sample for sample, is_free in zip(batch, free) if not is_free]
        batch = [sample for sample, is_free in zip(batch, free) if is_free]
        self._claimed |= {sample.key: sample for sample in batch}
        self._cache.look_up(batch)  # others may have computed them since the first lookup
        complete = [sample for sample in batch if self.is_complete(sample)]
        if complete:
            yield complete
        batch = [sample for sample in batch if not self.is_complete(sample)]
        for span in sorted({sample.span for sample in batch}):
            yield [sample for sample in batch if sample.span == span]

    def _release(self, batch: Sequence[PendingSample]) -> None:
        claimed = [sample for sample in batch if self._claimed.pop(sample.key, None) is not None]
        if claimed and self._cache is not None:
            self._cache.release(claimed)

    def _finish(self, cache: CacheLookup) -> Iterator[list[PendingSample]]:
        """Yield the samples that other passes have computed meanwhile, or have not.

        An empty batch is yielded at each look, so that the caller can stop.
        """
        since = time.monotonic()
        while self._postponed:
            start, waiting, self._postponed = time.monotonic(), self._postponed, []
            cache.store.flush()  # others may wait for the samples of this pass
            cache.look_up(waiting)
            complete = [sample for sample in waiting if self.is_complete(sample)]
            missing = [sample for sample in waiting if not self.is_complete(sample)]
            if start - since > max(_PATIENCE, 4 * self._slowest):
                self._is_claiming = False  # a pass that is not advanced holds its claims
            yield complete
            yield from self._form_batches(missing)
            if len(self._postponed) < len(waiting):
                since = time.monotonic()
            else:
                time.sleep(max(_POLL, 4 * (time.monotonic() - start)))  # most of the time is for those who compute

    def run(self, batch: list[PendingSample] | Outputs) -> Outputs:
        """Return the outputs for the rows of a batch, and compute those that are not known."""
        if isinstance(batch, tuple):
            return batch
        if not batch:
            return [], [[] for _ in self.layers]
        start = time.monotonic()
        try:
            return self._run_batch(batch)
        finally:
            self._release(batch)
            self._slowest = max(self._slowest, time.monotonic() - start)

    def _run_batch(self, batch: list[PendingSample]) -> Outputs:
        if not self.is_complete(batch[0]):
            batch, tensors = self._read(batch)
            if not batch:
                return [], [[] for _ in self.layers]
            first_rows = [sample.rows[0] for sample in batch]
            with self.inputs.labelled_rows(), self._measured():
                retry_on_oom(lambda part: self._compute(batch[part], tensors[part]), first_rows)
        rows = [row for sample in batch for row in sample.rows]
        outputs = []
        for layer in self.layers:
            if layer not in self.computed:
                outputs.append(self.inputs.tensors(rows))
                continue
            values = [sample.outputs[layer] for sample in batch for _ in sample.rows]
            dtype = layer.dtype(self.compute)  # the store may keep a smaller type
            outputs.append(values if values[0].dtype == dtype else [_as_dtype(value, dtype) for value in values])
        return rows, outputs

    @contextmanager
    def _measured(self) -> Iterator[None]:
        """Decide the size of further batches by the memory that the first one takes."""
        if not self.is_measuring:
            yield
            return
        with measured_peak(self.compute.device) as peak:
            yield
        self.compute, self.is_measuring = self.compute.grown(peak, self.inputs.batching.cost_unit), False

    def _read(self, batch: list[PendingSample]) -> tuple[list[PendingSample], list[Tensor]]:
        """Return the samples that can be read, and their tensors."""
        unread = [sample for sample in batch if sample.values is None]
        if unread:
            tensors = self.inputs.readable([sample.rows[0] for sample in unread])
            for sample in unread:
                sample.values = tensors.get(sample.rows[0])
        batch = [sample for sample in batch if sample.values is not None]
        return batch, [sample.values for sample in batch if sample.values is not None]

    def _compute(self, batch: list[PendingSample], tensors: list[Tensor]) -> None:
        """Run the stages on one batch, and add the outputs to its samples and to the cache."""
        start, stop = batch[0].span
        prefetch = [layer for layer in self._prefetch if layer.stop <= stop]  # another thread may choose meanwhile
        taken = self._run(tensors, start, stop, [*self.computed, *prefetch])
        for layer in self.computed:
            for sample, value in zip(batch, taken.get(layer, ())):
                sample.outputs[layer] = value
        if self._cache is None:
            return
        if not self._is_chosen and stop == self._last:  # a shorter pass does not show the sizes of all outputs
            self._choose_prefetch(self._cache, taken, tensors)
        for layer in (*self.computed, *(self._prefetch if self._is_chosen else [])):
            if layer in taken and self._cache.may_cache(layer):
                self._cache.write(layer, batch, taken[layer], self._stages.at(start).runtime)

    def _run(
        self, tensors: list[Tensor], start: int, last: int, layers: Sequence[LayerOutput]
    ) -> dict[LayerOutput, Any]:
        """Return the outputs of layers between two stages for a batch."""
        values, mask = self.inputs.batching.collate(tensors, self.backbone.preprocess.pad_value)  # (n, ...)
        lengths = None if mask is None else self.inputs.batching.lengths(tensors)
        stages, device = self._stages.at(start), self.compute.device
        taken: dict[LayerOutput, Any] = {}  # one tensor per sample, or one of all
        copied: dict[LayerOutput, Tensor] = {}  # from a GPU, which is waited for once
        needs_context = mask is not None and self.compute.on_cpu and not self.compute.compiled
        context = PaddingInvariantAttention if needs_context and not stages.pads_attention else nullcontext
        wanted: dict[int, dict[LayerOutput, None]] = {}
        for layer in layers:
            wanted.setdefault(layer.stop, {})[layer] = None
        with self._device, torch.inference_mode():
            mask = None if mask is None else upload(mask, device)
            values = _as_dtype(upload(values, device), self.compute.dtype)
            if values.ndim == 4 and stages.channels_last:
                values = values.to(memory_format=torch.channels_last)
            explain = self.backbone.explainer(start)
            passed = run_stages([*stages][start:last], values, mask, explain)
            for stop in range(start, last + 1):
                if stop > start:
                    with context():
                        values = next(passed)
                # Outputs are taken before the next stage runs: an in-place ReLU at its start would overwrite them.
                for layer in wanted.get(stop, ()):
                    host = begin_download(self._pooled(layer, values, mask))
                    if self.compute.on_cpu:
                        taken[layer] = self._split(layer, host, lengths)
                    else:
                        copied[layer] = host
            finish_downloads(device)
        for layer, host in copied.items():
            taken[layer] = self._split(layer, host, lengths)
        return taken

    def _pooled(self, layer: LayerOutput, output: Tensor, mask: Tensor | None) -> Tensor:
        """Return the output of a layer for a batch (n, ...), pooled, and in the type that the store keeps."""
        if layer.pooling is not None:
            output = pool(output, mask, layer.pooling, prefix_tokens=self.backbone.prefix_tokens)  # (n, n_features)
        return output if self._cache is None else self._cache.rounded(layer, output)

    def _split(self, layer: LayerOutput, output: Tensor, lengths: list[int] | None) -> Sequence[Tensor] | Tensor:
        """Return one tensor per sample, without padding, or one tensor of all vectors.

        Larger values own their memory if there is a store, because a view would keep the whole batch alive.
        """
        if layer.pooling is not None or (output.ndim == 2 and output.is_floating_point()):  # one vector per text
            lengths = None
        with torch.inference_mode(False), torch.no_grad():  # normal tensors, which training can use
            if lengths is None and (self._cache is None or output.ndim == 2):
                return output.clone(memory_format=torch.contiguous_format)  # (n, ...)
            return [
                (one if lengths is None else one[: lengths[i]]).clone(memory_format=torch.contiguous_format)
                for i, one in enumerate(output)
            ]

    def _choose_prefetch(self, cache: CacheLookup, taken: dict[LayerOutput, Any], tensors: list[Tensor]) -> None:
        """Choose the outputs to prefetch, once, by the sizes that the first batch shows."""
        # The longest texts come first, so that the size of the other texts follows from their share of the tokens.
        n_tokens = sum(self.inputs.batching.lengths(tensors))
        share = self._mean_length * len(tensors) / max(1, n_tokens) if self._mean_length else 1.0

        def size(layer: LayerOutput) -> float:
            per_sample: float = sum(value.nbytes for value in taken.get(layer, ())) / len(tensors)
            return self.n_samples * per_sample * (1.0 if layer.pooling else share)

        sizes = {layer: size(layer) for layer in self._prefetch}
        self._prefetch = select_prefetch(self._prefetch, sizes, sum(map(size, self.computed)), cache.store.room())
        self._is_chosen = True


def _as_dtype(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype) if values.is_floating_point() else values
