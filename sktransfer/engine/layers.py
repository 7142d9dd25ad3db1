"""What can be taken out of a backbone as samples go through it, and what it is called in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sktransfer._validation import require_field
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import check_pooling
from sktransfer.cache.types import CacheNamespace
from sktransfer.engine.compute import PRECISIONS, Compute

__all__ = ["LayerOutput", "kept_dtype", "resolve_layers"]


@dataclass(frozen=True)
class LayerOutput:
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

    def dtype(self, compute: Compute) -> torch.dtype:
        """Return the type of what is taken: values as they are computed, vectors in float32."""
        return compute.dtype if self.pooling is None else torch.float32

    def namespace(self, backbone: Backbone, compute: Compute, cache_dtype: str = "auto") -> CacheNamespace:
        """Return what it is called in the store: everything that it depends on but the sample."""
        kept = str(kept_dtype(self.dtype(compute), cache_dtype)).removeprefix("torch.")
        parts = (
            backbone.fingerprint(self.stop),
            backbone.preprocess.key,
            f"{self.pooling} {backbone.prefix_tokens}",
            f"{compute.device.type} {compute.dtype} {_shortened(compute)} {kept}",
        )
        digest = hashlib.blake2b("\n".join(parts).encode(), digest_size=16).digest()
        stage = backbone.stage_names[self.stop - 1] if self.stop else "input"
        return CacheNamespace(digest, backbone.name, stage, self.pooling or "", kept)

    def to_state(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {"stop": int(self.stop), "pooling": self.pooling}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LayerOutput:
        """Return the layer output of a state.

        Raises
        ------
        LoadError
            If a field is missing or of another type.
        """
        return cls(require_field(state, "stop", int), require_field(state, "pooling", (str, type(None))))


def resolve_layers(backbone: Backbone, layer: int | str | Sequence[int | str], pooling: str) -> list[LayerOutput]:
    """Return what the parameters `layer` and `pooling` of an estimator ask for, a tap a layer, in their order.

    Raises
    ------
    InvalidParameterError
        If there is no such layer or pooling.
    """
    pooling = check_pooling(pooling, backbone.modality)
    pooling = backbone.pooling if pooling == "auto" else pooling
    return [LayerOutput(position + 1, pooling) for position in backbone.positions(layer)]


def _shortened(compute: Compute) -> bool:
    """Return whether a GPU rounds what it multiplies in float32 to ten bits (TF32)."""
    on_gpu = compute.device.type == "cuda" and compute.dtype == torch.float32
    return on_gpu and (torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)


def kept_dtype(dtype: torch.dtype, cache_dtype: str) -> torch.dtype:
    """Return in which type stores keep values of another: in the same, unless the configuration names a shorter one.

    Parameters
    ----------
    dtype : torch.dtype
        Of the values.
    cache_dtype : {"auto", "float16", "bfloat16"}
        As `set_config` takes it.
    """
    return dtype if cache_dtype == "auto" or dtype.itemsize < 4 else PRECISIONS[cache_dtype]
