"""Candidate backbones, and the features of their layers from one forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from sktransfer._utils import progress
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.loading import load_backbone
from sktransfer.cache.resolve import resolve_store
from sktransfer.cache.types import Store
from sktransfer.classifiers.pretrained import PretrainedHead
from sktransfer.engine.compute import Compute, resolve_compute
from sktransfer.engine.forward import LayerOutput, forward
from sktransfer.engine.inputs import concat_features, preprocessed
from sktransfer.engine.layers import resolve_layers
from sktransfer.exceptions import InvalidParameterError

__all__ = [
    "BackboneOutputs",
    "Candidates",
    "RunSettings",
    "resolve_candidate_layers",
    "resolve_candidates",
    "run_backbone",
]

Candidates = Sequence[str | Backbone] | Mapping[str, str | Backbone]


@dataclass(frozen=True)
class RunSettings:
    """Settings for running candidates over samples.

    Parameters
    ----------
    compute : Compute
        Device, precision and batch size.
    store : Store or None
        Store for features.
    verbose : int, default=0
        1 shows one progress bar per backbone.
    """

    compute: Compute
    store: Store | None
    verbose: int = 0

    @classmethod
    def from_parameters(
        cls, device: Any, precision: str, batch_size: int | str, cache: Any, verbose: int
    ) -> RunSettings:
        """Return the settings for an estimator's parameters.

        Parameters
        ----------
        device, precision, batch_size, cache, verbose
            As in `ImageFeaturizer`.
        """
        return cls(resolve_compute(device, precision, batch_size), resolve_store(cache), verbose)


@dataclass(frozen=True)
class BackboneOutputs:
    """Outputs of one forward pass.

    Parameters
    ----------
    features : list of ndarray of shape (n_samples, n_features), float32
        One array per layer.
    probabilities : ndarray of shape (n_samples, n_categories) or None
        Probabilities of the backbone's own head, if they were requested and it has a head.
    seconds : float
        Duration of the pass.
    """

    features: list[np.ndarray]
    probabilities: np.ndarray | None
    seconds: float


def resolve_candidates(candidates: Any) -> dict[str, Backbone]:
    """Return the candidates by the names that rankings show.

    Parameters
    ----------
    candidates : sequence or mapping of str to str or Backbone
        Names or loaded backbones. A mapping gives the names. Otherwise " (random)" is added to the name of a backbone
        with random weights.

    Raises
    ------
    InvalidParameterError
        If there are no candidates, two share a name, or they differ in modality.
    """
    if isinstance(candidates, (str, Backbone)) or not isinstance(candidates, (Sequence, Mapping)) or not candidates:
        raise InvalidParameterError(
            f"candidates={candidates!r} must be a list of names or backbones, or a dict of them"
        )
    if isinstance(candidates, Mapping):
        backbones = {str(name): load_backbone(backbone) for name, backbone in candidates.items()}
    else:
        backbones = {}
        for backbone in map(load_backbone, candidates):
            name = backbone.name + ("" if backbone.pretrained else " (random)")
            if name in backbones:
                raise InvalidParameterError(
                    f"candidates name {name!r} twice; a dict {{name: backbone}} tells them apart"
                )
            backbones[name] = backbone
    takes = {name: backbone.takes for name, backbone in backbones.items()}
    if any(one != next(iter(takes.values())) for one in takes.values()):
        raise InvalidParameterError(
            f"candidates must all take images, all texts, or rows of the same columns with the same `missing`: {takes}"
        )
    return backbones


def resolve_candidate_layers(
    backbone: Backbone, layers: str | Sequence[int | str], pooling: str = "auto"
) -> list[LayerOutput]:
    """Return the layer outputs that the parameter `layers` asks for.

    Parameters
    ----------
    backbone : Backbone
        The candidate.
    layers : "all", "last" or list of int and str
        Layers by index or name.
    pooling : str, default="auto"
        As in `ImageFeaturizer` and `TextFeaturizer`.

    Raises
    ------
    InvalidParameterError
        If there is no such layer or pooling.
    """
    if not isinstance(layers, (list, tuple)) and layers not in ("all", "last"):
        raise InvalidParameterError(f"layers={layers!r} must be 'all', 'last' or a list of indices and names of stages")
    return resolve_layers(backbone, -1 if layers == "last" else layers, pooling)


def run_backbone(
    backbone: Backbone,
    samples: Any,
    layers: Sequence[LayerOutput],
    settings: RunSettings,
    *,
    name: str = "",
    with_head: bool = False,
) -> BackboneOutputs:
    """Return the features of several layers, and the head's probabilities, from one forward pass.

    Parameters
    ----------
    backbone : Backbone
        Backbone to run.
    samples : Samples
        Validated samples.
    layers : sequence of LayerOutput
        Layers to return.
    settings : RunSettings
        Device, precision, batch size and store.
    name : str, default=""
        Label of the progress bar.
    with_head : bool, default=False
        Whether to return probabilities, if the backbone has a head.
    """
    started = perf_counter()
    inputs = preprocessed(samples, backbone.preprocess)
    has_head = with_head and backbone.head is not None and len(backbone.categories) > 1
    head = PretrainedHead(backbone) if has_head else None
    distinct = list(dict.fromkeys([*layers, *([head.layer] if head else [])]))
    features: list[np.ndarray] = [np.empty(0)] * len(layers)
    probabilities = np.empty((len(inputs), len(backbone.categories)), np.float32) if head else None
    with progress(len(inputs), name, backbone.modality, settings.verbose) as bar:
        for rows, outputs in forward(backbone, inputs, distinct, compute=settings.compute, store=settings.store):
            by_layer = dict(zip(distinct, outputs))
            for index, layer in enumerate(layers):
                _write_rows(features, index, rows, by_layer[layer], len(inputs))
            if head is not None and probabilities is not None:
                probabilities[rows] = head.probabilities(by_layer[head.layer])
            bar.update(len(rows))
    inputs.warn_of_unread()
    return BackboneOutputs(features, probabilities, perf_counter() - started)


def _write_rows(features: list[np.ndarray], index: int, rows: list[int], values: Any, n_samples: int) -> None:
    stacked = concat_features([values]).numpy()  # (rows, n_features)
    if not features[index].size:
        features[index] = np.empty((n_samples, stacked.shape[1]), np.float32)
    features[index][rows] = stacked
