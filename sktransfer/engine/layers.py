"""Layer outputs of a backbone, and their cache namespaces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sktransfer._validation import require_field
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import check_pooling
from sktransfer.backbones.stages import naming_tower
from sktransfer.cache.policy import cache_namespace, stored_dtype
from sktransfer.cache.types import CacheNamespace
from sktransfer.engine.compute import PRECISIONS, Compute, uses_tf32
from sktransfer.machine.processor import processor
from sktransfer.runtimes.resolve import TORCH, runtime_key

__all__ = [
    "LayerOutput",
    "boundary_outputs",
    "by_tower",
    "highest_stops",
    "is_auto",
    "kept_dtype",
    "resolve_layers",
    "sort_layers",
]


@dataclass(frozen=True)
class LayerOutput:
    """Output of `stages[:stop]`: its values, or one vector per sample pooled from them.

    Parameters
    ----------
    stop : int
        Number of stages that run.
    pooling : str, default=None
        Pooling with "auto" resolved; None for the values themselves, without the padding of texts.
    tower : str, default=None
        Tower of a joined backbone that the stages belong to; None for a backbone that is not joined.
    """

    stop: int
    pooling: str | None = None
    tower: str | None = None

    def dtype(self, compute: Compute) -> torch.dtype:
        """Return the type of the output: the compute precision for values, float32 for vectors."""
        return compute.dtype if self.pooling is None else torch.float32

    def namespace(
        self, backbone: Backbone, compute: Compute, cache_dtype: str = "auto", *, any_processor: bool = False
    ) -> CacheNamespace:
        """Return the cache namespace, which covers everything that the output depends on but the sample.

        With `any_processor` it does not cover the model of the processor or GPU, on which the last bits depend. That of
        a tower is the one of its backbone alone.
        """
        backbone = backbone.towers[self.tower]
        model = "" if any_processor else f" {processor(compute.device)}"
        model += "" if compute.runtime == TORCH else f" {runtime_key(compute.runtime, compute.precision)}"
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

    def alone(self) -> LayerOutput:
        """Return the same output for the backbone of the tower alone."""
        return LayerOutput(self.stop, self.pooling)

    def stage_name(self, backbone: Backbone) -> str:
        """Return the name of the last stage that runs, with the tower of a joined backbone.

        Parameters
        ----------
        backbone : Backbone
            Backbone of the layer.
        """
        name = backbone.towers[self.tower].stage_names[self.stop - 1]
        return name if self.tower is None else f"{self.tower}.{name}"

    def to_state(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        state = {"stop": int(self.stop), "pooling": self.pooling}
        return state if self.tower is None else {**state, "tower": self.tower}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LayerOutput:
        """Return the layer output of a state.

        Raises
        ------
        LoadError
            If a field is missing or of another type.
        """
        tower = require_field({"tower": state.get("tower")}, "tower", (str, type(None)))
        return cls(require_field(state, "stop", int), require_field(state, "pooling", (str, type(None))), tower)


def is_auto(parameter: Any) -> bool:
    """Return whether a parameter, such as `layer`, is "auto" and so leaves the choice to the data."""
    return isinstance(parameter, str) and parameter == "auto"


def resolve_layers(backbone: Backbone, layer: Any, pooling: Any) -> list[LayerOutput]:
    """Return the layer outputs that the parameters `layer` and `pooling` of an estimator name, in their order.

    Those of a joined backbone come tower by tower. Without a pooling, outputs are the values themselves, such as those
    of tokens.

    Raises
    ------
    InvalidParameterError
        If the layer or the pooling does not exist.
    """
    layers, poolings = backbone.by_tower("layer", layer), backbone.by_tower("pooling", pooling)
    resolved = []
    for name, tower in backbone.towers.items():
        with naming_tower(name):
            kind = poolings[name]
            if kind is not None:
                kind = check_pooling(kind, tower.modality)
                kind = tower.pooling if kind == "auto" else kind
            resolved += [LayerOutput(position + 1, kind, name) for position in tower.positions(layers[name])]
    return resolved


def highest_stops(backbone: Backbone, layers: Sequence[LayerOutput]) -> list[int]:
    """Return the number of stages of each network, in the order of `networks`, up to the highest of some layers.

    Parameters
    ----------
    backbone : Backbone
        Backbone of the layers.
    layers : sequence of LayerOutput
        Layers, at least one per network.
    """
    return [max(layer.stop for layer in layers if layer.tower in names) for names, _ in backbone.networks]


def by_tower(backbone: Backbone, values: Sequence[Any]) -> Any:
    """Return values of networks by the names of the towers, or the only value if the backbone is not joined.

    Parameters
    ----------
    backbone : Backbone
        Backbone.
    values : sequence
        Values in the order of `networks`.
    """
    found = {name: value for (names, _), value in zip(backbone.networks, values, strict=True) for name in names}
    return found.get(None, found)


def sort_layers(backbone: Backbone, layers: Iterable[LayerOutput]) -> list[LayerOutput]:
    """Return layers tower by tower, in ascending order.

    Parameters
    ----------
    backbone : Backbone
        Backbone of the layers.
    layers : iterable of LayerOutput
        Layers.
    """
    towers = list(backbone.towers)
    return sorted(layers, key=lambda one: (towers.index(one.tower), one.stop))


def boundary_outputs(boundary: Any) -> list[LayerOutput]:
    """Return the outputs at a freezing boundary, one per tower.

    Parameters
    ----------
    boundary : int or dict of str to int
        Number of frozen stages, of a joined backbone by tower.
    """
    if isinstance(boundary, Mapping):
        return [LayerOutput(stop, tower=name) for name, stop in boundary.items()]
    return [LayerOutput(boundary)]


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
