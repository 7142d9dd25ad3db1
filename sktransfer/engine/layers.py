"""Layer outputs of a backbone, and their cache namespaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sktransfer._validation import require_field
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import check_pooling
from sktransfer.cache.policy import cache_namespace, stored_dtype
from sktransfer.cache.types import CacheNamespace
from sktransfer.engine.compute import PRECISIONS, Compute, processor, uses_tf32

__all__ = ["LayerOutput", "is_auto", "kept_dtype", "resolve_layers"]


@dataclass(frozen=True)
class LayerOutput:
    """Output of `stages[:stop]`: its values, or one vector per sample pooled from them.

    Parameters
    ----------
    stop : int
        Number of stages that run.
    pooling : str, default=None
        Pooling with "auto" resolved; None for the values themselves, without the padding of texts.
    """

    stop: int
    pooling: str | None = None

    def dtype(self, compute: Compute) -> torch.dtype:
        """Return the type of the output: the compute precision for values, float32 for vectors."""
        return compute.dtype if self.pooling is None else torch.float32

    def namespace(
        self, backbone: Backbone, compute: Compute, cache_dtype: str = "auto", *, any_processor: bool = False
    ) -> CacheNamespace:
        """Return the cache namespace, which covers everything that the output depends on but the sample.

        With `any_processor` it does not cover the model of the processor or GPU, on which the last bits depend.
        """
        model = "" if any_processor else f" {processor(compute.device)}"
        on_gpu = compute.device.type == "cuda" and compute.dtype == torch.float32
        return cache_namespace(
            fingerprint=backbone.fingerprint(self.stop),
            preprocess=backbone.preprocess.key,
            pooling=self.pooling,
            prefix_tokens=backbone.prefix_tokens,
            precision=f"{compute.device.type} {compute.dtype} {on_gpu and uses_tf32()}{model}",
            dtype=_name(kept_dtype(self.dtype(compute), cache_dtype)),
            backbone=backbone.name,
            stage=backbone.stage_names[self.stop - 1] if self.stop else "input",
        )

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


def is_auto(parameter: Any) -> bool:
    """Return whether a parameter, such as `layer`, is "auto" and so leaves the choice to the data."""
    return isinstance(parameter, str) and parameter == "auto"


def resolve_layers(
    backbone: Backbone, layer: int | str | Sequence[int | str], pooling: str | None
) -> list[LayerOutput]:
    """Return the layer outputs that the parameters `layer` and `pooling` of an estimator name, in their order.

    Without a pooling, outputs are the values themselves, such as those of tokens.

    Raises
    ------
    InvalidParameterError
        If the layer or the pooling does not exist.
    """
    if pooling is not None:
        pooling = check_pooling(pooling, backbone.modality)
        pooling = backbone.pooling if pooling == "auto" else pooling
    return [LayerOutput(position + 1, pooling) for position in backbone.positions(layer)]


def kept_dtype(dtype: torch.dtype, cache_dtype: str) -> torch.dtype:
    """Return the type in which stores keep values.

    Parameters
    ----------
    dtype : torch.dtype
        Type of the values.
    cache_dtype : {"auto", "float16", "bfloat16"}
        As `set_config` takes it.
    """
    return PRECISIONS[stored_dtype(_name(dtype), cache_dtype)]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
