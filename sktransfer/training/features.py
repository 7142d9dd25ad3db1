"""What the frozen network says of the samples before anything is trained, and what of it training comes back for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sktransfer.backbones.backbone import Backbone
from sktransfer.cache.types import Store
from sktransfer.engine.compute import Compute
from sktransfer.engine.forward import LayerOutput
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.training.data import gathered

__all__ = ["first_pass"]


def first_pass(
    backbone: Backbone,
    inputs: PreprocessedSamples,
    taps: Sequence[LayerOutput],
    cut: int,
    rows: Sequence[int],
    *,
    keep: Sequence[int],
    compute: Compute,
    store: Store | None,
) -> list[Tensor]:
    """Return what each tap gives while all stages are as they were pretrained; leave values at the cut in the store.

    Parameters
    ----------
    backbone : Backbone
        Whose stages run.
    inputs : PreprocessedSamples
        The samples.
    taps : sequence of LayerOutput
        What the head sees.
    cut : int
        How many stages are frozen.
    rows : sequence of int
        Whose features are wanted; the first of them where only their width is.
    keep : sequence of int
        Whose values at the cut training asks for again and again.
    compute : Compute
        How the stages run.
    store : Store or None

    Returns
    -------
    features : list of Tensor of shape (n_rows, width)
        One a tap.
    """
    # What other depths of a search will start from; the uppermost save most.
    prefetch = [LayerOutput(stop) for stop in range(len(backbone.stages) - 1, 0, -1)]
    options: dict[str, Any] = {"compute": compute, "store": store, "prefetch": prefetch}
    at_cut = LayerOutput(cut)
    wanted = list(taps)
    if store is not None and keep and cut < len(backbone.stages):
        *_, last = gathered(backbone, inputs, [*taps, at_cut], keep[:1], **options)
        if _fits(store, last[0], inputs, keep):
            if len(rows) >= len(keep):
                wanted.append(at_cut)  # one pass gives both
            else:
                gathered(backbone, inputs, [at_cut], keep, **options)
    found = gathered(backbone, inputs, wanted, rows, **options)[: len(taps)]
    return [torch.stack(tap) for tap in found]  # (n_rows, width) each


def _fits(store: Store, one: Tensor, inputs: PreprocessedSamples, rows: Sequence[int]) -> bool:
    """Return whether a store can hold the values at the cut of samples; else they would push each other out."""
    n = sum(inputs.lengths(rows)) / inputs.lengths(rows[:1])[0] if inputs.is_text else len(rows)
    return n * one.nbytes < store.info().limit
