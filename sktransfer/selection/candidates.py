"""The backbones among which to choose, each under a name of its own, and their layers' features in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sktransfer._utils import progress
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.loading import load_backbone
from sktransfer.cache.resolve import resolve_store
from sktransfer.cache.types import Store
from sktransfer.classifiers.pretrained import PretrainedHead
from sktransfer.engine.compute import Compute, resolve_compute
from sktransfer.engine.forward import LayerOutput, forward
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layers import resolve_layers
from sktransfer.exceptions import InvalidParameterError

__all__ = ["Candidates", "Pass", "Run", "layer_taps", "named", "run_once"]

Candidates = Sequence[str | Backbone] | Mapping[str, str | Backbone]


@dataclass(frozen=True)
class Run:
    """How backbones are run over samples.

    Parameters
    ----------
    compute : Compute
        Where, in which precision and batches.
    store : Store or None
        Keeps features.
    verbose : int, default=0
        1 shows a progress bar a backbone.
    """

    compute: Compute
    store: Store | None
    verbose: int = 0

    @classmethod
    def of(cls, device: Any, precision: str, batch_size: int | str, cache: Any, verbose: int) -> Run:
        """Return what the parameters of an estimator say."""
        return cls(resolve_compute(device, precision, batch_size), resolve_store(cache), verbose)


@dataclass(frozen=True)
class Pass:
    """What one pass of samples through a backbone gives.

    Parameters
    ----------
    features : list of ndarray of shape (n_samples, n_features), float32
        One a layer.
    probabilities : ndarray of shape (n_samples, n_categories) or None
        Of the backbone's own head, where they were asked for and it has one.
    seconds : float
        What it took.
    """

    features: list[np.ndarray]
    probabilities: np.ndarray | None
    seconds: float


def named(candidates: Any) -> dict[str, Backbone]:
    """Return the backbones by the names that a ranking shows.

    Parameters
    ----------
    candidates : sequence or mapping of str to str or Backbone
        Names or loaded backbones; a mapping names them itself. A loaded one with random weights gets " (random)".

    Raises
    ------
    InvalidParameterError
        If there are none, two have one name, or they are not all of images or all of texts.
    """
    if isinstance(candidates, (str, Backbone)) or not isinstance(candidates, (Sequence, Mapping)) or not candidates:
        raise InvalidParameterError(
            f"candidates={candidates!r} must be a list of names or backbones, or a dict of them"
        )
    if isinstance(candidates, Mapping):
        found = {str(name): load_backbone(backbone) for name, backbone in candidates.items()}
    else:
        found = {}
        for backbone in map(load_backbone, candidates):
            name = backbone.name + ("" if backbone.pretrained else " (random)")
            if name in found:
                raise InvalidParameterError(
                    f"candidates name {name!r} twice; a dict {{name: backbone}} tells them apart"
                )
            found[name] = backbone
    modalities = {backbone.modality for backbone in found.values()}
    if len(modalities) > 1:
        of = {name: backbone.modality for name, backbone in found.items()}
        raise InvalidParameterError(f"candidates must all take images, or all texts: {of}")
    return found


def layer_taps(backbone: Backbone, layers: str | Sequence[int | str], pooling: str = "auto") -> list[LayerOutput]:
    """Return what is taken of a backbone for `layers`: "all", "last", or a list of indices and names.

    Raises
    ------
    InvalidParameterError
        If there is no such layer or pooling.
    """
    if not isinstance(layers, (list, tuple)) and layers not in ("all", "last"):
        raise InvalidParameterError(f"layers={layers!r} must be 'all', 'last' or a list of indices and names of stages")
    return resolve_layers(backbone, -1 if layers == "last" else layers, pooling)


def run_once(
    backbone: Backbone, samples: Any, taps: Sequence[LayerOutput], run: Run, *, name: str = "", with_head: bool = False
) -> Pass:
    """Return features of several layers, and the head's probabilities, out of one pass.

    Parameters
    ----------
    backbone : Backbone
        Whose stages run.
    samples : Samples
        Validated.
    taps : sequence of LayerOutput
        One a layer.
    run : Run
        Where and how.
    name : str, default=""
        For the progress bar.
    with_head : bool, default=False
        Whether probabilities are wanted.
    """
    started = perf_counter()
    inputs = PreprocessedSamples(samples, backbone.preprocess)
    head = (
        PretrainedHead(backbone) if with_head and backbone.head is not None and len(backbone.categories) > 1 else None
    )
    wanted = list(dict.fromkeys([*taps, *([head.layer] if head else [])]))
    features: list[np.ndarray] = [np.empty(0)] * len(taps)
    probabilities = np.empty((len(inputs), len(backbone.categories)), np.float32) if head else None
    with progress(len(inputs), name, backbone.modality, run.verbose) as bar:
        for rows, outputs in forward(backbone, inputs, wanted, compute=run.compute, store=run.store):
            taken = dict(zip(wanted, outputs))
            for place, tap in enumerate(taps):
                _write(features, place, rows, taken[tap], len(inputs))
            if head is not None and probabilities is not None:
                probabilities[rows] = head.probabilities(taken[head.layer])
            bar.update(len(rows))
    inputs.warn_of_truncated()
    return Pass(features, probabilities, perf_counter() - started)


def _write(features: list[np.ndarray], place: int, rows: list[int], values: list[Tensor], n: int) -> None:
    stacked = torch.stack(values).numpy()  # (rows, n_features)
    if not features[place].size:
        features[place] = np.empty((n, stacked.shape[1]), np.float32)
    features[place][rows] = stacked
