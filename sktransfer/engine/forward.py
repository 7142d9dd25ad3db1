"""Run the stages of a frozen backbone over samples; what the store holds is not computed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import pool
from sktransfer.engine.batching import Inputs, collate, in_batches
from sktransfer.engine.store import Key, MemoryStore

__all__ = ["Tap", "forward"]


@dataclass(frozen=True)
class Tap:
    """Something wanted of a backbone: the values behind `stages[:stop]`, or one vector pooled from them.

    Parameters
    ----------
    stop : int
        How many stages have run.
    pooling : str, default=None
        "auto" resolved; None for the values themselves, texts without their padding.
    """

    stop: int
    pooling: str | None = None

    def of(self, backbone: Backbone) -> str:
        """Return what tells this tap of this backbone from all others, in the store."""
        return f"{backbone.fingerprint(self.stop)} {backbone.preprocess.key} {self.pooling} {backbone.prefix_tokens}"


def forward(
    backbone: Backbone,
    inputs: Inputs,
    taps: Sequence[Tap],
    *,
    rows: Sequence[int] | None = None,
    store: MemoryStore | None = None,
    device: torch.device,
    batch_size: int,
) -> Iterator[tuple[list[int], list[list[Tensor]]]]:
    """Yield, for some rows at a time, what each tap gives.

    Parameters
    ----------
    backbone : Backbone
        Whose stages run, frozen.
    inputs : Inputs
        The samples.
    taps : sequence of Tap
        What is wanted; all come from the same pass.
    rows : sequence of int, default=None
        Which samples; None for all.
    store : MemoryStore, default=None
        Where results are looked up, and kept.
    device : torch.device
        Where the stages run.
    batch_size : int
        Samples that go through at once.

    Yields
    ------
    rows : list of int
        In any order, each row once.
    outputs : list of list of Tensor
        For each tap one tensor a row, on the CPU: token ids for `stop=0` of texts, else float32.
    """
    wanted = list(range(len(inputs))) if rows is None else list(rows)
    names = [] if store is None else [tap.of(backbone) for tap in taps]
    missing = []
    for batch in in_batches(wanted, batch_size):
        known = {row: _known(store, [(inputs.samples.key(row), name) for name in names]) for row in batch}
        missing += [row for row, outputs in known.items() if outputs is None]
        found = {row: outputs for row, outputs in known.items() if outputs is not None}
        if found:
            yield list(found), [list(tap) for tap in zip(*found.values())]
    if not missing:
        return
    # Texts of about the same length share a batch: little of it is padding.
    lengths = inputs.lengths(missing)
    missing = [row for _, row in sorted(zip(lengths, missing), key=lambda pair: -pair[0])]
    moved = backbone.on(device)
    for batch in in_batches(missing, batch_size):
        outputs = _run(moved, inputs.tensors(batch), taps, device)
        if store is not None:
            for name, values in zip(names, outputs):
                for row, value in zip(batch, values):
                    store.put((inputs.samples.key(row), name), value)
        yield batch, outputs


def _known(store: MemoryStore | None, keys: Sequence[Key]) -> list[Tensor] | None:
    if store is None:
        return None
    outputs = []
    for key in keys:
        value = store.get(key)
        if value is None:
            return None
        outputs.append(value)
    return outputs


@torch.no_grad()
def _run(
    backbone: Backbone, tensors: Sequence[Tensor], taps: Sequence[Tap], device: torch.device
) -> list[list[Tensor]]:
    values, mask = collate(tensors, backbone.modality, backbone.preprocess.pad_value)
    values, mask = values.to(device), None if mask is None else mask.to(device)
    outputs: dict[Tap, list[Tensor]] = {}
    last = max(tap.stop for tap in taps)
    # Taken before the next stage runs: one that begins with an in-place ReLU writes into what the one before it gave.
    for stop, given in enumerate(chain([values], backbone.run(values, mask, stop=last))):
        for tap in taps:
            if tap.stop == stop:
                outputs[tap] = _split(given, mask, tap.pooling, backbone.prefix_tokens)
    return [outputs[tap] for tap in taps]


def _split(values: Tensor, mask: Tensor | None, pooling: str | None, prefix_tokens: int) -> list[Tensor]:
    """Return one tensor a sample that owns its memory: a view would keep the whole batch alive."""
    if pooling is not None:
        values, mask = pool(values, mask, pooling, prefix_tokens=prefix_tokens), None  # (n, n_features)
    values = values.cpu()
    if mask is None:
        return [one.clone() for one in values]
    return [one[:n].clone() for one, n in zip(values, mask.sum(1).tolist())]
