"""Specification of a backbone. Imports neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sktransfer._validation import is_int, is_real
from sktransfer.exceptions import PluginError
from sktransfer.weights.source import CONTRACT, WeightsSource, known_fields_only

__all__ = ["BENCHMARKS", "MODALITIES", "RESERVED", "BackboneSpec"]

MODALITIES = ("image", "text")
BENCHMARKS = {"image": "ImageNet-1k", "text": "MTEB English classification"}  # that `accuracy` is measured on
RESERVED = ("all", "mix")  # values of the parameter `layer` that are not stage names


@known_fields_only
@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """Description of a backbone that is available without importing torch.

    Parameters
    ----------
    name : str
        `provider/model`. The provider is the name of the plugin's entry point.
    loader : str
        `"module:function"`, imported on first use and called as `function(spec, path)`. `path` is the local file or
        folder of the weights, or None for random weights. It returns a `Backbone`.
    modality : {"image", "text"}
        Kind of samples.
    stages : mapping of str to int
        Stage name -> width (number of output channels), in order from the input.
    input_size : tuple of int, default=None
        (height, width) of the images that the network receives, or (max_tokens,) for text. None for any size.
    weights : WeightsSource, default=None
        Source of `weights="pretrained"`, or None if there are none.
    licence : str, default="unknown"
        SPDX identifier of the weights' licence, or a description if there is none.
    n_parameters : int, default=None
        Number of parameters of the network, its head included. None if unknown.
    n_embedding_parameters : int, default=None
        Number of them in the table of token embeddings, of which a text reads a few rows. None if unknown, and for
        images.
    accuracy : float, default=None
        Published accuracy, from 0 to 1. Of images, top-1 on the validation images of ImageNet-1k. Of texts, the mean
        over the 12 English classification tasks of MTEB. None if none is published.
    language : str, default=None
        Language of the texts of a pretraining, a tag such as "en", or "multilingual". None if unknown, and for images.
    options : mapping, default={}
        Data for the loader.
    summary : bool, default=False
        Whether this spec only lists a member of an open family. `sktransfer_find_backbone` is then asked for the spec
        that the backbone is loaded by.
    contract : int, default=CONTRACT
        Version of the plugin contract that the spec is written for.

    Raises
    ------
    PluginError
        If a field is not valid.
    TypeError
        If a field is unknown.

    Examples
    --------
    >>> from sktransfer import BackboneSpec
    >>> spec = BackboneSpec(name="mine/small", loader="mine.networks:load", modality="image", stages={"stem": 16})
    >>> spec.provider
    'mine'
    """

    name: str
    loader: str
    modality: str
    stages: Mapping[str, int]
    input_size: tuple[int, ...] | None = None
    weights: WeightsSource | None = None
    licence: str = "unknown"
    n_parameters: int | None = None
    n_embedding_parameters: int | None = None
    accuracy: float | None = None
    language: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    summary: bool = False
    contract: int = CONTRACT

    def __post_init__(self) -> None:
        provider, _, model = self.name.partition("/") if isinstance(self.name, str) else ("", "", "")
        if not provider or not model:
            raise PluginError(f"name={self.name!r} must have the form 'provider/model'")
        parts = self.loader.split(":") if isinstance(self.loader, str) else []
        if len(parts) != 2 or not all(parts):
            raise PluginError(f"{self.name!r}: loader={self.loader!r} must have the form 'module:function'")
        if self.modality not in MODALITIES:
            raise PluginError(f"{self.name!r}: modality={self.modality!r} must be one of {MODALITIES}")
        if not isinstance(self.stages, Mapping) or not self.stages or not all(map(_is_stage, self.stages.items())):
            raise PluginError(
                f"{self.name!r}: stages={self.stages!r} must map at least one stage name to its width, an int of at "
                f"least 1; the names {RESERVED} are reserved, because they stand for several stages"
            )
        if self.input_size is not None and not _is_size(self.input_size):
            raise PluginError(
                f"{self.name!r}: input_size={self.input_size!r} must be a tuple of ints of at least 1, or None for any"
            )
        if self.weights is not None and not isinstance(self.weights, WeightsSource):
            raise PluginError(f"{self.name!r}: weights={self.weights!r} must be a WeightsSource, or None for none")

        for number in ("n_parameters", "n_embedding_parameters"):
            value = getattr(self, number)
            if value is not None and (not is_int(value) or value < 0):
                raise PluginError(f"{self.name!r}: {number}={value!r} must be an int from 0, or None")
        if self.accuracy is not None and (not is_real(self.accuracy) or not 0 <= self.accuracy <= 1):
            raise PluginError(f"{self.name!r}: accuracy={self.accuracy!r} must be a number from 0 to 1, or None")
        if self.language is not None and (not isinstance(self.language, str) or not self.language):
            raise PluginError(f"{self.name!r}: language={self.language!r} must be a tag such as 'en', or None")

    @property
    def provider(self) -> str:
        """Part of the name before the first slash."""
        return self.name.partition("/")[0]

    @property
    def benchmark(self) -> str | None:
        """Benchmark that `accuracy` is measured on. None without an accuracy."""
        return None if self.accuracy is None else BENCHMARKS[self.modality]


def _is_size(size: object) -> bool:
    return isinstance(size, (tuple, list)) and all(isinstance(n, int) and n > 0 for n in size)


def _is_stage(item: tuple[Any, Any]) -> bool:
    name, width = item
    return isinstance(name, str) and bool(name) and name not in RESERVED and is_int(width) and width > 0
