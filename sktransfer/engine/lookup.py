"""Cache lookups and writes of a forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from torch import Tensor

from sktransfer.backbones.backbone import Backbone
from sktransfer.cache.policy import is_cacheable, resume_stops
from sktransfer.cache.types import CacheNamespace, Store
from sktransfer.config import get_config
from sktransfer.engine.compute import Compute
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layers import LayerOutput, kept_dtype

if TYPE_CHECKING:
    from sktransfer.cache.types import Entries

__all__ = ["CacheLookup", "PendingSample"]


@dataclass(eq=False)
class PendingSample:
    """A sample of a pass, with the outputs that are known so far.

    Parameters
    ----------
    rows : list of int
        Rows of the sample: several if samples are equal.
    key : bytes, default=b""
        Hash of the content; empty if the pass needs none.
    stop : int, default=0
        Number of stages after which all outputs that are missing are known.
    """

    rows: list[int]
    key: bytes = b""
    stop: int = 0
    outputs: dict[LayerOutput, Tensor] = field(default_factory=dict)
    start: int = 0  # stage that the pass resumes from
    values: Tensor | None = None  # input of that stage; None for a sample that is not read yet

    @property
    def span(self) -> tuple[int, int]:
        """Number of stages that do not run, and of those after which the pass ends."""
        return self.start, self.stop


class CacheLookup:
    """Cache lookups and writes of one forward pass.

    Parameters
    ----------
    store : Store
        Cache.
    backbone : Backbone
        Backbone of the pass.
    inputs : PreprocessedSamples
        Samples of the pass.
    compute : Compute
        Device and precision.
    layers : sequence of LayerOutput
        Layer outputs that are requested.
    cacheable_stages : int
        Number of first stages whose outputs may be cached.
    """

    def __init__(
        self,
        store: Store,
        backbone: Backbone,
        inputs: PreprocessedSamples,
        compute: Compute,
        layers: Sequence[LayerOutput],
        cacheable_stages: int,
    ) -> None:
        self.store, self._backbone, self._compute = store, backbone, compute
        self._cacheable_stages, self._cheap_input = cacheable_stages, inputs.batching.is_cheap
        self._layers = tuple(dict.fromkeys(layers))
        self._cache_dtype = get_config()["cache_dtype"]  # of the caller's thread: workers have their own configuration
        self._namespaces: dict[tuple[LayerOutput, str], CacheNamespace] = {}

    def may_cache(self, layer: LayerOutput) -> bool:
        """Return whether outputs of a layer are cached."""
        return is_cacheable(layer.stop, self._cacheable_stages, cheap_input=self._cheap_input)

    def claim(self, samples: Sequence[PendingSample]) -> list[bool]:
        """Return for each sample whether no other pass computes it, and claim those."""
        return self.store.claim(self._first, [sample.key for sample in samples])

    def release(self, samples: Sequence[PendingSample]) -> None:
        """Release claims after the outputs are written."""
        self.store.release(self._first, [sample.key for sample in samples])

    @property
    def _first(self) -> CacheNamespace:
        # Passes that share the first stage share outputs, or can resume from those of each other, at any layers.
        return self._namespace(LayerOutput(min(1, self._cacheable_stages)))

    def find(self, keys: Sequence[bytes], *, counted: bool = True) -> dict[LayerOutput, Entries]:
        """Return the cached outputs of samples for each layer that is cached."""
        layers = filter(self.may_cache, self._layers) if keys else ()
        return {layer: self.store.get(self._namespace(layer), keys, counted=counted) for layer in layers}

    def look_up(self, samples: Sequence[PendingSample], found: Mapping[LayerOutput, Entries] | None = None) -> None:
        """Add the cached outputs to samples, and the values of the highest stage that each pass can resume from.

        Parameters
        ----------
        samples : sequence of PendingSample
            Samples.
        found : mapping of LayerOutput to Entries, default=None
            Result of `find`. None if the samples were looked up before, so that this lookup is not counted.
        """
        counted = found is not None
        if found is None:
            found = self.find([sample.key for sample in samples], counted=False)
        for layer, values in found.items():
            for sample, value in zip(samples, values):
                if value is not None:
                    sample.outputs[layer] = value
        # Layers above `start` are computed from there. Those below are not computed, so none of them may be missing.
        ceilings = {}
        for sample in samples:
            missing = [layer.stop for layer in self._layers if layer not in sample.outputs]
            if missing:
                ceilings[id(sample)], sample.stop = min(missing), max(missing)
        highest = max(ceilings.values(), default=-1)
        for stop in resume_stops(highest, self._cacheable_stages, cheap_input=self._cheap_input):
            asked = [one for one in samples if ceilings.get(id(one), -1) >= stop]
            asked = [one for one in asked if one.values is None or one.start < stop]
            if not asked:
                continue
            keys = [sample.key for sample in asked]
            for sample, value in zip(asked, self.store.get(self._namespace(LayerOutput(stop)), keys, counted=counted)):
                if value is not None:
                    sample.start, sample.values = stop, value

    def write(
        self, layer: LayerOutput, samples: Sequence[PendingSample], values: Sequence[Tensor] | Tensor, runtime: str
    ) -> None:
        """Cache the outputs of a layer for some samples.

        Parameters
        ----------
        layer : LayerOutput
            Layer.
        samples : sequence of PendingSample
            Samples, which all resume from the same stage.
        values : sequence of Tensor, or Tensor of shape (n_samples, n_features)
            Outputs.
        runtime : str
            Runtime that has computed them. If it is torch instead of that of the pass, they are cached as values of
            torch, unless they resume from values of the other runtime.
        """
        if runtime == self._compute.runtime or not samples[0].start:
            self.store.put(self._namespace(layer, runtime), [sample.key for sample in samples], values)

    def rounded(self, layer: LayerOutput, values: Tensor) -> Tensor:
        """Return values in the stored type, so that the first result equals the later, cached ones."""
        if not values.is_floating_point():
            return values
        return values.to(kept_dtype(layer.dtype(self._compute), self._cache_dtype))

    def _namespace(self, layer: LayerOutput, runtime: str | None = None) -> CacheNamespace:
        compute = self._compute if runtime is None else replace(self._compute, runtime=runtime)
        known = layer, compute.runtime
        if known not in self._namespaces:
            self._namespaces[known] = layer.namespace(self._backbone, compute, self._cache_dtype)
        return self._namespaces[known]
