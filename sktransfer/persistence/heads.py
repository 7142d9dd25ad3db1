"""The head of a fitted estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sktransfer.exceptions import LoadError
from sktransfer.persistence.parts import Codec, Loading, Saving, entry
from sktransfer.training.heads import Head

__all__ = ["HEAD"]

_TASKS = ("classes", "labels", "numbers")


def _encode(head: Head, saving: Saving) -> dict[str, Any]:
    units = {"shift": head._shift, "spread": head._spread}
    return {
        "task": head.task,
        "classes": head.classes,
        "state": saving.state(head._state),
        "units": saving.state(units),
    }


def _decode(data: dict[str, Any], loading: Loading) -> Head:
    head = Head.__new__(Head)
    head.task = entry(data, "task", str, _TASKS)
    head.classes = entry(data, "classes", (np.ndarray, type(None)))
    state, units = loading.state(entry(data, "state", dict)), loading.state(entry(data, "units", dict))
    if not {"mean", "scale", "head.weight", "head.bias"} <= state.keys():
        raise LoadError(f"a head of {sorted(state)} alone")
    n_outputs = len(state["head.bias"])
    shift, spread = units["shift"], units["spread"]
    fits = state["head.weight"].shape[:1] == shift.shape == spread.shape == (n_outputs,)
    fits = fits and shift.dtype == spread.dtype == torch.float64
    if not fits or (head.classes is not None and len(head.classes) != n_outputs):
        raise LoadError(f"a head of {n_outputs} outputs, {tuple(shift.shape)} units and classes {head.classes}")
    head._state, head._shift, head._spread = state, shift, spread
    return head


HEAD = Codec("Head", _encode, _decode)
