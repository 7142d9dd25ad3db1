"""Choice of layers, their scales and the strength of a head, for `layer="auto"`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import pooling_names
from sktransfer.cache.types import Store
from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.compute import Compute
from sktransfer.engine.forward import forward
from sktransfer.engine.head_strength import FEWEST, HeadStrength
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.engine.layers import LayerOutput, resolve_layers
from sktransfer.engine.leave_one_out import (
    LEAST_SHARE,
    LayerWeights,
    centre,
    centre_present,
    depth_prior,
    is_better,
    layer_errors,
    layer_weights,
    merge_equal,
)

__all__ = [
    "GRID",
    "MOST_ROWS",
    "CandidateOutputs",
    "candidate_layers",
    "choice_rows",
    "choose_jointly",
    "choose_layers",
    "collect_candidates",
]

GRID = "grid2"  # the second pooling of images


MOST_ROWS = 1000


@dataclass(frozen=True)
class CandidateOutputs:
    """Outputs of layers to choose from, for some rows of the samples.

    Parameters
    ----------
    layers : list of LayerOutput
        The layers.
    rows : list of int
        Rows that could be read, in ascending order.
    features : list of ndarray of shape (n_rows, n_features), float32
        Features of each layer.
    """

    layers: list[LayerOutput]
    rows: list[int]
    features: list[np.ndarray]

    def of(self, layers: Sequence[LayerOutput]) -> list[list[Tensor]]:
        """Return the outputs of some of the layers, as `forward` yields them.

        Parameters
        ----------
        layers : sequence of LayerOutput
            Layers.
        """
        return [list(torch.from_numpy(self.features[self.layers.index(layer)])) for layer in layers]

    def take(self, positions: np.ndarray) -> CandidateOutputs:
        """Return the outputs of some of the rows.

        Parameters
        ----------
        positions : ndarray of int
            Positions in `rows`.
        """
        rows = [self.rows[position] for position in positions]
        return CandidateOutputs(self.layers, rows, [one[positions] for one in self.features])


def choice_rows(n_samples: int) -> list[int]:
    """Return the rows that layers are chosen by: all, or a thousand at equal distances.

    Parameters
    ----------
    n_samples : int
        Number of samples.

    Examples
    --------
    >>> from sktransfer.engine.choose_layers import choice_rows
    >>> choice_rows(3), len(choice_rows(9000)), choice_rows(9000)[-1]
    ([0, 1, 2], 1000, 8999)
    """
    rows: list[int] = np.linspace(0, n_samples - 1, min(n_samples, MOST_ROWS)).round().astype(int).tolist()
    return rows


def candidate_layers(backbone: Backbone, inputs: Any, pooling: Any, compute: Compute) -> list[LayerOutput]:
    """Return the layers to choose from: all stages, and with `pooling="auto"` those of images by a grid as well.

    Those of a joined backbone come tower by tower.

    Parameters
    ----------
    backbone : Backbone
        Backbone.
    inputs : PreprocessedSamples or JoinedInputs
        Samples. The first that can be read shows which stages have positions.
    pooling : str or None
        Pooling as estimators take it. None for the values of tokens.
    compute : Compute
        Device and precision.

    Raises
    ------
    InvalidParameterError
        If the pooling does not exist.
    """
    poolings = backbone.by_tower("pooling", pooling)
    layers = []
    for name, tower in backbone.towers.items():
        own = resolve_layers(tower, "all", poolings[name])
        if poolings[name] == "auto" and GRID in pooling_names(tower.modality):
            own += [LayerOutput(stop, GRID) for stop in _with_positions(tower, inputs.towers[name], compute)]
        layers += [dataclasses.replace(one, tower=name) for one in own]
    return layers


def _with_positions(backbone: Backbone, inputs: PreprocessedSamples, compute: Compute) -> tuple[int, ...]:
    """Return the numbers of the stages with positions."""
    stops = _WITH_POSITIONS.get(backbone)
    if stops is None:
        stops = _stages_with_positions(backbone, inputs, compute)
        if stops is not None and _gives_one_size(inputs.preprocess):
            _WITH_POSITIONS[backbone] = stops
    return stops or ()


# Stages with positions by backbone, if all images reach it in one size, so that no sample runs again to show them.
_WITH_POSITIONS: WeakKeyDictionary[Backbone, tuple[int, ...]] = WeakKeyDictionary()


def _gives_one_size(preprocess: Any) -> bool:
    """Return whether a preprocessing gives images of one size."""
    return getattr(preprocess, "crop", None) is not None or isinstance(getattr(preprocess, "resize", None), tuple)


def _stages_with_positions(backbone: Backbone, inputs: PreprocessedSamples, compute: Compute) -> tuple[int, ...] | None:
    """Return the numbers of the stages with positions, as the first sample that can be read shows; None without one."""
    stages = [LayerOutput(stop) for stop in range(1, len(backbone.stages) + 1)]
    for row in inputs.present(range(len(inputs))):
        for rows, outputs in forward(backbone, inputs, stages, compute=compute, rows=[row]):
            if rows:
                n_positions = [_n_positions(tuple(one[0].shape), backbone.prefix_tokens) for one in outputs]
                return tuple(stage.stop for stage, n in zip(stages, n_positions, strict=True) if n > 1)
    return None


def _n_positions(shape: tuple[int, ...], prefix_tokens: int) -> int:
    """Return the number of positions of maps (channels, height, width), tokens (tokens, channels) or a vector."""
    return shape[1] * shape[2] if len(shape) == 3 else shape[0] - prefix_tokens if len(shape) == 2 else 1


def collect_candidates(
    backbone: Backbone,
    inputs: PreprocessedSamples,
    layers: Sequence[LayerOutput],
    rows: Sequence[int],
    *,
    compute: Compute,
    store: Store | None,
    prefetch: Sequence[LayerOutput] = (),
    on_batch: Callable[[int], Any] | None = None,
) -> CandidateOutputs:
    """Return the outputs of layers from one pass.

    Parameters
    ----------
    backbone, inputs, layers, rows, compute, store, prefetch
        As `forward` takes them. The layers are pooled.
    on_batch : callable, default=None
        Called with the number of rows of each batch.
    """
    parts: list[dict[int, Tensor]] = [{} for _ in layers]
    options: dict[str, Any] = {"compute": compute, "store": store, "prefetch": prefetch}
    for part, outputs in forward(backbone, inputs, layers, rows=rows, **options):
        for by_row, values in zip(parts, outputs, strict=False):  # no outputs if no sample of a batch can be read
            by_row.update(zip(part, values, strict=True))
        if on_batch is not None:
            on_batch(len(part))
    read = sorted(parts[0])
    features = [
        torch.stack([by_row[row] for row in read]).numpy() if read else np.empty((0, 0), np.float32) for by_row in parts
    ]
    return CandidateOutputs(list(layers), read, features)


def choose_layers(
    outputs: CandidateOutputs, targets: ChoiceTargets, sample_weight: np.ndarray | None = None
) -> LayerChoice:
    """Return the layers that targets support best, with their weights, scales and the strength of a head.

    Each layer is centred and divided by the root of its mean squared length. A ridge regression of the targets on it
    has leave-one-out errors in closed form [1]_. Layers count by these errors and by their depth, and the last stage
    always counts (`layer_weights`).
    A second pooling is added if the errors of all layers together fall by more than their standard error. The strength
    is that of the least error on the weighted layers. Rows with infinite or missing features are left out.

    If the targets are all equal, or there are fewer than three samples, all layers of the first pooling count by their
    depth, and the last stage twice.

    Of a joined backbone, each tower weighs its layers by the rows that it has a sample in. All towers have the same
    share, so that a strong one does not starve the others.

    Parameters
    ----------
    outputs : CandidateOutputs
        Outputs of layers. Those with the pooling of the first layer come first, of each tower.
    targets : ChoiceTargets
        Targets of the rows of the outputs.
    sample_weight : ndarray of shape (n_rows,), default=None
        Weight of each row, positive. None for equal weights.

    References
    ----------
    .. [1] R. Rifkin and R. Lippert, "Notes on Regularized Least Squares", MIT-CSAIL-TR-2007-025.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.engine.choice_targets import ChoiceTargets
    >>> from sktransfer.engine.choose_layers import CandidateOutputs, choose_layers
    >>> from sktransfer.engine.layers import LayerOutput
    >>> good, noise = np.random.default_rng(0).normal(size=(2, 50, 3)).astype(np.float32)
    >>> layers = [LayerOutput(1, "mean"), LayerOutput(2, "mean")]
    >>> targets = ChoiceTargets.of(good[:, 0] > 0)
    >>> choose_layers(CandidateOutputs(layers, list(range(50)), [good, noise]), targets).weights.round(2).tolist()
    [0.95, 0.05]
    """
    weight = np.ones(len(outputs.rows)) if sample_weight is None else sample_weight  # (n_rows,)
    if outputs.layers[0].tower is not None:
        return _choose_by_tower(outputs, targets, weight)
    given, targets, weight = _finite(outputs, targets, weight)
    layers = outputs.layers
    n_first = sum(layer.pooling == layers[0].pooling for layer in layers)
    features, values, weight = merge_equal(given, targets.values, weight)
    last_error = 0.0
    if targets.are_equal or len(weight) < FEWEST:
        weights = depth_prior([layer.stop for layer in layers[:n_first]])  # (n_first,)
        weights, head = weights / weights.sum(), HeadStrength.plain(targets)
    else:
        best = _weigh(layers, features, n_first, values, weight)
        weights, head = best.weights, HeadStrength.of_ridge(best.strength, targets, len(weight), best.error)
        last_error = float(best.layer_errors[n_first - 1])
    return _chosen(layers, features, weight, weights, head, last_error)


def _choose_by_tower(outputs: CandidateOutputs, targets: ChoiceTargets, weight: np.ndarray) -> LayerChoice:
    """Return the layers of a joined backbone, each tower with the same share, and the strength of a head on all."""
    shares: dict[LayerOutput, float] = {}
    alone: dict[str, float] = {}
    towers = dict.fromkeys(layer.tower for layer in outputs.layers)
    for tower in towers:
        index = [i for i, layer in enumerate(outputs.layers) if layer.tower == tower]
        features = [outputs.features[i] for i in index]
        present = np.flatnonzero(np.any([one.any(1) for one in features], axis=0))  # (n_present,)
        if not len(present):  # of a fold: the last layer stands for the tower, and its features are zeros
            shares[outputs.layers[index[-1]]] = 1 / len(towers)
            continue
        rows, plain = [outputs.rows[i] for i in present], [outputs.layers[i].alone() for i in index]
        part = CandidateOutputs(plain, rows, [one[present] for one in features])
        choice = choose_layers(part, targets.take(present), weight[present])
        shares |= {
            dataclasses.replace(layer, tower=tower): float(share) / len(towers)
            for layer, share in zip(choice.layers, choice.weights, strict=True)
        }
        alone[str(tower)] = float(choice.head.error)
    weights = np.array([shares.get(layer, 0.0) for layer in outputs.layers])  # (n_layers,)
    found = _on_layers(outputs, targets, weight, weights, 0.0)
    return dataclasses.replace(found, alone=alone if found.head.n_samples else {})


def _finite(
    outputs: CandidateOutputs, targets: ChoiceTargets, weight: np.ndarray
) -> tuple[Sequence[np.ndarray], ChoiceTargets, np.ndarray]:
    """Return features, targets and weights of the rows with finite features."""
    finite = np.all([np.isfinite(one).all(1) for one in outputs.features], axis=0)  # (n_rows,)
    if not finite.any():
        raise ValueError("layer='auto' weighs layers by their features, which are infinite or NaN for all samples")
    features = outputs.features if finite.all() else [one[finite] for one in outputs.features]
    return features, targets.take(finite), weight[finite]


def _chosen(
    layers: Sequence[LayerOutput],
    features: Sequence[np.ndarray],
    sample_weight: np.ndarray,
    weights: np.ndarray,
    head: HeadStrength,
    last_error: float,
) -> LayerChoice:
    """Return the choice of the layers that have a weight."""
    towers = list(dict.fromkeys(layer.tower for layer in layers))
    kept = sorted(
        np.flatnonzero(weights).tolist(), key=lambda index: (towers.index(layers[index].tower), layers[index].stop)
    )
    parts = [_centred(layers[index], features[index], sample_weight) for index in kept]
    return LayerChoice(
        tuple(layers[index] for index in kept),
        tuple(features[index].shape[1] for index in kept),
        weights[kept],
        np.concatenate([mean for _, mean, _ in parts]),
        np.array([scale for *_, scale in parts]),
        head,
        last_error,
    )


def choose_jointly(
    outputs: CandidateOutputs,
    by_task: Mapping[str, tuple[np.ndarray, ChoiceTargets, np.ndarray]],
    learned: Sequence[str],
) -> dict[str, LayerChoice]:
    """Return layers that several targets support best, with the scales and the strength of a head for each of them.

    Each target weighs the layers by the rows that know it. All heads read the layers with the mean of these weights.

    Parameters
    ----------
    outputs : CandidateOutputs
        Outputs of layers.
    by_task : mapping of str to (positions, targets, weights)
        Positions of the rows that know a target (n_known,), the targets, and the weights of the rows (n_known,), by
        task.
    learned : sequence of str
        Tasks whose targets weigh the layers.
    """
    known = {name: outputs.take(positions) for name, (positions, _, _) in by_task.items()}
    choices = {name: choose_layers(known[name], *by_task[name][1:]) for name in learned}
    if len(by_task) == 1:
        return choices
    weights = np.mean([_spread(choice, outputs.layers) for choice in choices.values()], axis=0)  # (n_layers,)
    n_towers = len({layer.tower for layer in outputs.layers})
    weights = np.where(weights < LEAST_SHARE / n_towers, 0.0, weights)
    weights = weights / weights.sum()
    return {
        name: _on_layers(known[name], *by_task[name][1:], weights, choices[name].last_error if name in choices else 0.0)
        for name in by_task
    }


def _on_layers(
    outputs: CandidateOutputs, targets: ChoiceTargets, sample_weight: np.ndarray, weights: np.ndarray, last_error: float
) -> LayerChoice:
    """Return the choice of given layers, with the strength that targets support best on them."""
    features, targets, weight = _finite(outputs, targets, sample_weight)
    parts = [
        _centred(layer, one, weight)[0] * np.sqrt(share)
        for layer, one, share in zip(outputs.layers, features, weights, strict=True)
        if share
    ]
    head = HeadStrength.find(np.concatenate(parts, axis=1), targets, weight)
    return _chosen(outputs.layers, features, weight, weights, head, last_error)


def _centred(
    layer: LayerOutput, features: np.ndarray, sample_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return centred features, their mean and their scale. Those of a tower may be zeros, for rows without a sample."""
    return (centre if layer.tower is None else centre_present)(features, sample_weight)


def _spread(choice: LayerChoice, layers: Sequence[LayerOutput]) -> np.ndarray:
    """Return the weight of each layer (n_layers,), 0 for those that the choice leaves out."""
    weights = dict(zip(choice.layers, choice.weights))
    return np.array([weights.get(layer, 0.0) for layer in layers])


def _weigh(
    layers: Sequence[LayerOutput],
    features: Sequence[np.ndarray],
    n_first: int,
    targets: np.ndarray,
    sample_weight: np.ndarray,
) -> LayerWeights:
    """Return the weights of the layers of the first pooling, or of all if these are better."""
    depths = [layer.stop for layer in layers]
    errors = layer_errors(features, targets, sample_weight)  # (n_layers, n_used)
    best = layer_weights(features[:n_first], targets, sample_weight, depths[:n_first], errors[:n_first])
    if len(layers) > n_first:
        more = layer_weights(features, targets, sample_weight, depths, errors)
        best = more if is_better(more, best) else best
    return best
