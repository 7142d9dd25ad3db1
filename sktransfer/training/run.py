"""Everything that one fit needs, handed along as one object."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sktransfer.backbones.backbone import Backbone, replace_stages
from sktransfer.cache.policy import prefetch_for_depths
from sktransfer.cache.types import Store
from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.choose_layers import (
    GRID,
    MOST_ROWS,
    CandidateOutputs,
    candidate_layers,
    choice_rows,
    choose_jointly,
    choose_layers,
    collect_candidates,
)
from sktransfer.engine.compute import Compute
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.engine.layers import LayerOutput, by_tower, highest_stops, is_auto, resolve_layers, sort_layers
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.base import Targets, Task
from sktransfer.tasks.heads import Head
from sktransfer.tasks.strata import hold_out_tasks
from sktransfer.training.augmentation import Augmentation, JoinedAugmentation
from sktransfer.training.data import collect_vectors
from sktransfer.training.epochs.held_out import hold_out
from sktransfer.training.net import FineTuneNet
from sktransfer.training.samplers import Batches
from sktransfer.training.settings import Settings

__all__ = ["FitRun", "LRRange", "PreviousFit", "Trunk", "Validation", "choose_for_tasks", "choose_trunk", "split_rows"]


AUTO_DEPTH = -1  # freezing depth that freeze_depth="auto" compares with a frozen backbone


@dataclasses.dataclass(frozen=True)
class Trunk:
    """The part of a backbone that a training uses.

    Parameters
    ----------
    backbone : Backbone
        Stages up to the highest layer that a head reads.
    layers : dict of str to list of LayerOutput
        Layer outputs that heads read, in ascending order, by kind of input ("features", "tokens", "maps").
    boundary : int or dict of str to int
        Number of frozen stages: `stages[:boundary]` are frozen, the others are trained. By tower of a joined backbone.
    mixed : bool
        Whether heads mix the layers by learned weights (`layer="mix"`).
    freeze_depth : int, float or str
        Parameter of the estimator that the boundary comes from.
    choices : mapping of str to LayerChoice, default=None
        Choice that the layers come from (`layer="auto"`), by task. All have the same layers.
    """

    backbone: Backbone
    layers: Mapping[str, Sequence[LayerOutput]]
    boundary: Any
    mixed: bool
    freeze_depth: Any
    choices: Mapping[str, LayerChoice] | None = None


@dataclasses.dataclass(frozen=True)
class LRRange:
    """Learning rates of a range test.

    Parameters
    ----------
    lowest, highest : float, default=1e-06 and 1.0
        Rate of the highest stage at the first and at the last step.
    n_steps : int, default=60
        Largest number of batches.

    Examples
    --------
    >>> from sktransfer.training.run import LRRange
    >>> LRRange(1e-4, 1e-2, 3).rates().round(6).tolist()
    [0.0001, 0.001, 0.01]
    """

    lowest: float = 1e-6
    highest: float = 1.0
    n_steps: int = 60

    def rates(self) -> np.ndarray:
        """Return the rates (n_steps,), at equal ratios."""
        return np.geomspace(self.lowest, self.highest, self.n_steps)


@dataclasses.dataclass(frozen=True)
class PreviousFit:
    """Result of an earlier fit that a new one continues.

    Parameters
    ----------
    backbone : Backbone
        Backbone as trained.
    heads : mapping of str to Head
        Heads as trained, by task.
    net : FineTuneNet or None
        Net whose optimizer state is continued; None for a new optimizer.
    history : DataFrame
        Epochs of the earlier fit.
    seed : int
        Seed of its random weights.
    """

    backbone: Backbone
    heads: Mapping[str, Head]
    net: FineTuneNet | None
    history: pd.DataFrame
    seed: int

    def check(self, backbone: Backbone, estimator: Any) -> None:
        """Raise unless the parameters of an estimator still ask for the same stages, weights and preprocessing.

        Parameters
        ----------
        backbone : Backbone
            Backbone that the parameters ask for, up to the highest layer read.
        estimator : estimator
            Estimator with these parameters.

        Raises
        ------
        InvalidParameterError
            If they ask for another backbone.
        """
        before = self.backbone
        if before.stage_names != backbone.stage_names:
            raise InvalidParameterError(
                f"the earlier fit has stages {before.stage_names}, and backbone and layer now ask for "
                f"{backbone.stage_names}; restore these parameters, or set warm_start=False"
            )
        if before.pretrained != backbone.pretrained or before.preprocess.key != backbone.preprocess.key:
            raise InvalidParameterError(
                "the earlier fit had other weights or another preprocessing than "
                f"backbone={estimator.backbone!r}, weights={estimator.weights!r}, preprocess={estimator.preprocess!r} "
                f"and max_length={estimator.max_length!r} ask for now; restore them, or set warm_start=False"
            )


@dataclasses.dataclass(frozen=True)
class Validation:
    """Validation data that a user gives, instead of a split of the samples.

    Parameters
    ----------
    inputs : PreprocessedSamples
        Samples.
    targets : mapping of str to Targets
        Targets of the samples, by task.
    """

    inputs: PreprocessedSamples
    targets: Mapping[str, Targets]


@dataclasses.dataclass(frozen=True)
class FitRun:
    """One fit: settings, compute, seed, samples, targets and the previous fit.

    Parameters
    ----------
    settings : Settings
        Settings of the training.
    compute : Compute
        Device and precision.
    store : Store or None
        Cache of layer outputs.
    seed : int
        Seed of everything random in the training.
    trunk : Trunk
        Stages, layers and freezing boundary.
    inputs : PreprocessedSamples
        Samples.
    tasks : mapping of str to Task
        Tasks by name.
    targets : mapping of str to Targets
        Targets of the samples, by task.
    augmentation : Augmentation or JoinedAugmentation, default=None
        Augmentation of the training samples.
    sources : mapping of str to ndarray of shape (n_samples,), bool, default=None
        Whether each sample belongs to a source that batches are drawn from, by name. None for one source per task: the
        samples whose target is known.
    groups : ndarray of shape (n_samples,), default=None
        Groups that the validation split does not separate.
    validation : Validation, default=None
        Validation data; None to set samples aside if the settings ask for early stopping.
    previous : PreviousFit, default=None
        Fit to continue.
    split : tuple of ndarray of int, default=None
        Rows of the training and of the validation split; None to draw them.
    known : CandidateOutputs, default=None
        Outputs of layers before training, of all samples; None to take them from the cache or a pass.
    lr_range : LRRange, default=None
        Range test to run before the training; None for the default range if the settings find the rate.
    batches : type, default=Batches
        Sampler of the batches.
    on_start : callable, default=None
        Called with the net before the training.
    on_epoch : callable, default=None
        Called after each epoch. Stops the training if it returns True.
    """

    settings: Settings
    compute: Compute
    store: Store | None
    seed: int
    trunk: Trunk
    inputs: PreprocessedSamples
    tasks: Mapping[str, Task]
    targets: Mapping[str, Targets]
    augmentation: Augmentation | JoinedAugmentation | None = None
    sources: Mapping[str, np.ndarray] | None = None
    groups: np.ndarray | None = None
    validation: Validation | None = None
    previous: PreviousFit | None = None
    split: tuple[np.ndarray, np.ndarray] | None = None
    known: CandidateOutputs | None = None
    lr_range: LRRange | None = None
    batches: type[Batches] = Batches
    on_start: Callable[[FineTuneNet], None] | None = None
    on_epoch: Callable[[], bool] | None = None


def split_rows(run: FitRun) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the training and of the validation split.

    Parameters
    ----------
    run : FitRun
        Run of the training.

    Raises
    ------
    ValueError
        If the samples are too few for a validation split.
    """
    settings, n = run.settings, len(run.inputs)
    if run.split is not None:
        return run.split
    if run.validation is not None or not settings.early_stopping:
        return np.arange(n), np.arange(0)
    learned = {name: task for name, task in run.tasks.items() if settings.learns(name) and not task.is_auxiliary}
    known = np.flatnonzero(np.any([run.targets[name].weight > 0 for name in learned], axis=0))
    targets = {name: run.targets[name].take(known) for name in learned}
    groups = None if run.groups is None else run.groups[known]
    name, task = next(iter(learned.items()))
    values, fraction = targets[name].values, settings.validation_fraction
    if len(learned) == 1 and not (task.stratifies and values.ndim > 1):
        _, valid = hold_out(values, groups, fraction, run.seed, stratify=task.stratifies, classes=task.classes)
    else:
        strata = {name: task.strata(targets[name]) for name, task in learned.items()}
        _, valid = hold_out_tasks(strata, groups, fraction, run.seed)
    return np.setdiff1d(np.arange(n), known[valid]), known[valid]


def choose_for_tasks(run: FitRun, pooling: str) -> tuple[dict[str, LayerChoice], CandidateOutputs | None]:
    """Return the layers that the training rows of the tasks support best, by task.

    All tasks have the same layers, with the mean of the weights that each task that is learned gives them. The outputs
    of all samples are returned as well if there is no cache to keep them. A single task that reads tokens or maps
    chooses layers by some of its vectors.

    The same pass caches what the training reads at the freezing boundary, if there is room.

    Parameters
    ----------
    run : FitRun
        Run on all stages.
    pooling : str
        Pooling as estimators take it.
    """
    targets = {name: one.with_relative_weights() for name, one in run.targets.items()}
    train_rows = np.sort(split_rows(run)[0])
    if any(task.reads != "features" for task in run.tasks.values()):
        ((name, task),) = run.tasks.items()
        return {name: _choose_for_vectors(run, task, targets[name], train_rows)}, None
    of_task = {name: train_rows[targets[name].weight[train_rows] > 0] for name in run.tasks}
    learned = {
        name: rows[choice_rows(len(rows))]
        for name, rows in of_task.items()
        if run.settings.learns(name) and not run.tasks[name].is_auxiliary
    }
    rows = np.unique(np.concatenate(list(learned.values())))
    backbone = run.trunk.backbone
    lower = [
        LayerOutput(*output, name)
        for name, tower in backbone.towers.items()
        for output in prefetch_for_depths(len(tower.stages))
    ]
    outputs = collect_candidates(
        backbone,
        run.inputs,
        candidate_layers(backbone, run.inputs, pooling, run.compute),
        rows.tolist(),
        compute=run.compute,
        store=run.store,
        prefetch=lower,
    )
    # A task that is not learned has a share in neither rows nor layers.
    others = {name: np.intersect1d(of_task[name], rows) for name in run.tasks if name not in learned}
    by_task: dict[str, tuple[np.ndarray, ChoiceTargets, np.ndarray]] = {}
    for name, some in {**learned, **others}.items():
        chosen = targets[name].take(some)
        values = run.tasks[name].choice_targets(chosen) if len(some) else None
        if values is not None:
            by_task[name] = np.searchsorted(rows, some), values, chosen.weight
    choices = choose_jointly(outputs, by_task, [name for name in learned if name in by_task])
    return choices, outputs if run.store is None and len(rows) == len(run.inputs) else None


def _choose_for_vectors(run: FitRun, task: Task, targets: Targets, train_rows: np.ndarray) -> LayerChoice:
    """Return the layers that the vectors of words or pixels support best."""
    layers = [LayerOutput(stop) for stop in range(1, len(run.trunk.backbone.stages) + 1)]
    known = train_rows[targets.weight[train_rows] > 0]
    rows = known[task.sample_rows(targets.take(known), MOST_ROWS)]
    vectors, of_vectors = collect_vectors(
        run.trunk.backbone,
        run.inputs,
        [[layer] for layer in layers],
        task,
        targets,
        rows.tolist(),
        compute=run.compute,
        store=run.store,
    )
    some = np.array(choice_rows(len(of_vectors)))
    of_vectors = of_vectors.take(some)
    values = task.choice_targets(of_vectors)
    assert values is not None
    outputs = CandidateOutputs(layers, some.tolist(), [one[some] for one in vectors])
    return choose_layers(outputs, values, of_vectors.weight)


def choose_trunk(
    backbone: Backbone,
    layer: Any,
    pooling: str,
    freeze_depth: Any,
    reads: Sequence[str],
    choices: Mapping[str, LayerChoice] | None = None,
) -> Trunk:
    """Return the part of a backbone that the parameters of an estimator ask for.

    Parameters
    ----------
    backbone : Backbone
        Complete backbone.
    layer : int, str or list of these
        Layers that heads read, "mix", or "auto", which is all layers until they are chosen.
    pooling : str
        Pooling of vectors per sample.
    freeze_depth : int, float or str
        Number of frozen stages, as estimators take it. "auto" is the depth that a trial trains.
    reads : sequence of str
        Kinds of head input that the tasks ask for.
    choices : mapping of str to LayerChoice, default=None
        Layers that `layer="auto"` has chosen, by task. All have the same layers.

    Raises
    ------
    InvalidParameterError
        If there is no such layer, pooling or freeze depth.
    """
    mixed = isinstance(layer, str) and layer == "mix"
    given = "all" if mixed or is_auto(layer) else layer
    pooled = sort_layers(backbone, set(resolve_layers(backbone, given, pooling)))
    if choices is not None:
        pooled = _chosen(next(iter(choices.values())), pooled, pooling)
    if mixed or set(reads) != {"features"}:
        _refuse_towers(backbone, layer, reads)
    layers = {
        kind: pooled if kind == "features" else [LayerOutput(one.stop) for one in pooled]
        for kind in dict.fromkeys(reads)
    }
    stops = highest_stops(backbone, pooled)
    for stop, (_, network) in zip(stops, backbone.networks, strict=True):
        if stop > len(network.stages):
            raise InvalidParameterError(
                f"the layers chosen before go up to stage {stop}, and {network.name} has {len(network.stages)} stages; "
                "give the backbone_ of the same fit, or leave head and warm_start out"
            )
    depth = AUTO_DEPTH if is_auto(freeze_depth) else freeze_depth
    boundary = backbone.n_frozen(depth, by_tower(backbone, stops))
    return Trunk(cut(backbone, stops), layers, boundary, mixed, freeze_depth, choices)


def cut(backbone: Backbone, stops: Sequence[int]) -> Backbone:
    """Return a backbone of the first stages of its networks, the same one if these are all.

    Parameters
    ----------
    backbone : Backbone
        Backbone.
    stops : sequence of int
        Number of stages of each network.
    """
    networks = [network for _, network in backbone.networks]
    if all(stop == len(network.stages) for stop, network in zip(stops, networks, strict=True)):
        return backbone
    kept: Backbone = backbone.with_networks(
        [
            network if stop == len(network.stages) else replace_stages(network, stop, [])
            for stop, network in zip(stops, networks, strict=True)
        ]
    )
    return kept


def _refuse_towers(backbone: Backbone, layer: Any, reads: Sequence[str]) -> None:
    """Raise for a joined backbone if heads mix layers, or read tokens or maps."""
    if None in backbone.towers:
        return
    if set(reads) != {"features"}:
        other = next(one for one in reads if one != "features")
        raise InvalidParameterError(
            f"{backbone.name} gives a vector per row, and a head here reads {other}; give the backbone of one column, "
            f"such as that of {next(iter(backbone.towers))!r}, and that column alone as X"
        )
    raise InvalidParameterError(
        f"layer={layer!r} adds layers up, and the layers of {backbone.name} belong to several towers; layer='all' "
        "concatenates them"
    )


def _chosen(choice: LayerChoice, candidates: Sequence[LayerOutput], pooling: str) -> list[LayerOutput]:
    """Return the layers of a choice, which may be one of an earlier fit with another pooling."""
    allowed = {one.pooling for one in candidates} | ({GRID} if pooling == "auto" else set())
    used = sorted({one.pooling for one in choice.layers if one.pooling is not None})
    if not allowed.issuperset(used):
        raise InvalidParameterError(
            f"pooling={pooling!r} does not fit the layers chosen before, which have {used}; restore it, or leave head "
            "and warm_start out"
        )
    return list(choice.layers)
