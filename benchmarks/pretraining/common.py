"""Common parts of the pretraining scripts: atomic checkpoints, a running average of weights, float16 files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

SHIPPED = Path(__file__).parents[2] / "sktransfer" / "providers" / "shipped"


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` to a temporary file and rename it, so that an interrupted write keeps the last checkpoint."""
    torch.save(dict(state), path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def load_checkpoint(path: Path, **parts: Any) -> dict[str, Any] | None:
    """Load a checkpoint into `parts`, objects with `load_state_dict`, and return its state, or None without a file."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, step: int, keep: float = 0.998) -> None:
    """Move the running average of weights and BatchNorm statistics towards `network`, faster in early steps."""
    keep = min(keep, (1 + step) / (10 + step))
    for slow, fast in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, 1 - keep)


def groups_of(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups with weight decay for matrices and kernels, but not for biases and norms."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def write_weights(path: Path, network: nn.Module, **metadata: Any) -> None:
    """Write `network` as float16 safetensors, with `metadata` as JSON in the header."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):  # a counter that only training reads
            tensors[name] = tensor.half().contiguous() if tensor.is_floating_point() else tensor
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path.with_suffix(".part"), metadata={key: json.dumps(value) for key, value in metadata.items()})
    path.with_suffix(".part").rename(path)
