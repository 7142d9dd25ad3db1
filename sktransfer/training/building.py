"""The network of a training: its trained stages, and its heads with their first weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.backbones.language import LanguageModelHead
from sktransfer.engine.compute import check_finite_outputs
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.base import Targets, Task
from sktransfer.tasks.heads import FeatureHead, block_widths, divide_head
from sktransfer.training.adapters import add_adapters
from sktransfer.training.data import collect_vectors, precompute_features
from sktransfer.training.network import (
    FineTuneNetwork,
    TaskModules,
    join,
    split_layers,
    tower_spans,
    trainable_lm_head,
    trainable_stages,
)
from sktransfer.training.run import FitRun, Trunk

__all__ = ["build_network"]

MOST_VECTORS = 10_000  # of words or pixels, which a probe is fitted to


def build_network(run: FitRun, train_rows: np.ndarray) -> tuple[FineTuneNetwork, dict[str, HeadStrength]]:
    """Return the network with its heads initialized, and the strengths of their probes by task.

    Parameters
    ----------
    run : FitRun
        Samples, targets and settings.
    train_rows : ndarray of shape (n_train,)
        Rows that new heads are initialized by.

    Raises
    ------
    InvalidParameterError
        If nothing is left to train, or settings do not fit the backbone.
    """
    settings, trunk = run.settings, run.trunk
    heads = _starting_heads(run)
    initializes = settings.head_init != "random" or trunk.mixed or None not in trunk.backbone.towers
    new = [name for name, task in run.tasks.items() if heads.get(name) is None and (initializes or task.is_auxiliary)]
    needs_features = "features" in {run.tasks[name].reads for name in new}
    features, layer_widths = _features(run, all_rows=needs_features)
    stages = trainable_stages(trunk.backbone, trunk.boundary)
    lm_head = None  # made before adapters, which wrap the modules that it is tied to
    if any(task.trains_lm_head for task in run.tasks.values()):
        lm_head = trainable_lm_head(trunk.backbone, stages, trunk.boundary)
    if settings.adapter is not None:
        add_adapters(stages, settings.adapter)
    for task in run.tasks.values():
        task.change_stages(stages)
    widths = {kind: joined.shape[1 if kind != "tokens" else 2] for kind, joined in features.items()}
    blocks = block_widths(trunk.backbone, layer_widths)
    n_mixed = len(next(iter(trunk.layers.values()))) if trunk.mixed else None
    network = FineTuneNetwork(
        stages,
        {kind: split_layers(layers, trunk.boundary)[1] for kind, layers in trunk.layers.items()},
        trunk.boundary,
        _make_heads(run, widths, n_mixed, lm_head, stages, blocks),
        {name: task.reads for name, task in run.tasks.items()},
        widths=widths,
        n_mixed=n_mixed,
        prefix_tokens=trunk.backbone.prefix_tokens,
        spans=tower_spans(trunk.backbone, trunk.boundary),
        layer_widths=layer_widths,
        keep_statistics=trunk.backbone.pretrained,
        scaled=[name for name, weight in settings.weight_by_task.items() if weight] if settings.learns_weights else (),
    )
    if run.previous is not None and run.previous.net is not None:
        network.continue_variances(run.previous.net.module_)
    _check_aggregator(run, network)
    if not network.trainable:
        raise InvalidParameterError(
            f"freeze_depth={trunk.freeze_depth!r} leaves nothing to train of {trunk.backbone.name}: its stages are "
            f"{trunk.backbone.stage_names}, of which those above the freezing boundary, {trunk.boundary}, have no "
            "weights. Freeze fewer, or use a featurizer"
        )
    for name, head in heads.items():
        if head is not None:
            head.start(_feature_head(network, name), run.tasks[name])
    return network, _init_heads(run, network, new, features.get("features"), train_rows)


def _init_heads(
    run: FitRun, network: FineTuneNetwork, new: Sequence[str], features: Tensor | None, train_rows: np.ndarray
) -> dict[str, HeadStrength]:
    """Initialize new heads from the pretrained network, and return the strengths of their probes by task."""
    strengths: dict[str, HeadStrength] = {}
    for name in new:
        task, targets = run.tasks[name], run.targets[name]
        known = train_rows[targets.weight[train_rows] > 0]
        if name not in network.heads or not len(known):  # its rows are known only in tasks that are not learned
            continue
        if task.reads == "features":
            assert features is not None
            values, targets = features[known].numpy(), targets.take(known)  # (n_known, n_features)
        elif type(task).init_head is Task.init_head:
            continue
        else:
            values, targets = _vectors(run, name, known)
        values = check_finite_outputs(values, run.compute)
        choices = run.trunk.choices or {}
        choice = choices.get(name, next(iter(choices.values()), None) if task.is_auxiliary else None)
        strength = task.init_head(network.heads[name], values, targets, run.settings.head_init, choice)
        if strength is not None:
            strengths[name] = strength
    return strengths


def _vectors(run: FitRun, name: str, known: np.ndarray) -> tuple[np.ndarray, Targets]:
    """Return the vectors (n_vectors, n_features) of words or pixels that a new head is initialized by."""
    task, trunk = run.tasks[name], run.trunk
    rows = known[task.sample_rows(run.targets[name].take(known), MOST_VECTORS)]
    (vectors,), targets = collect_vectors(
        trunk.backbone,
        run.inputs,
        [trunk.layers[task.reads]],
        task,
        run.targets[name],
        rows.tolist(),
        compute=run.compute,
        store=run.store,
    )
    return vectors, targets


def _all_stages(trunk: Trunk, trained: nn.ModuleList) -> nn.ModuleList:
    """Return the stages of a training, the frozen ones included."""
    remaining, trains = iter(trained), trunk.backbone.trains(trunk.boundary)
    return nn.ModuleList([next(remaining) if one else stage for stage, one in zip(trunk.backbone.stages, trains)])


def _make_heads(
    run: FitRun,
    widths: Mapping[str, int],
    n_mixed: int | None,
    lm_head: LanguageModelHead | None,
    stages: nn.ModuleList,
    blocks: Sequence[int],
) -> TaskModules:
    """Return the heads of the tasks, by name, before they are initialized."""
    modules, stages = TaskModules(), _all_stages(run.trunk, stages)
    # Heads that are not learned come last: no others depend on what is drawn for them.
    for name in sorted(run.tasks, key=lambda name: not run.settings.learns(name)):
        task = run.tasks[name]
        is_lm = task.trains_lm_head and lm_head is not None
        head = lm_head if is_lm else task.make_head(widths[task.reads], n_mixed)
        if head is not None:
            divide_head(head, blocks)
            task.connect_head(head, stages)
            modules[name] = head
    return modules


def _check_aggregator(run: FitRun, network: FineTuneNetwork) -> None:
    aggregator = run.settings.aggregator
    if aggregator is None:
        return
    if not network.trainable_stage_indices():
        raise InvalidParameterError(
            f"aggregator={aggregator!r} aggregates the gradients of stages that tasks share, and "
            f"freeze_depth={run.trunk.freeze_depth!r} leaves none to train; freeze fewer, or leave aggregator out"
        )
    if run.compute.dtype == torch.float16:
        raise InvalidParameterError(
            f"aggregator={aggregator!r} compares gradients, which underflow in float16; set precision to 'float32' or "
            "'bfloat16', or leave aggregator out"
        )


def _starting_heads(run: FitRun) -> Mapping[str, Any]:
    if run.previous is not None:
        return {name: run.previous.heads.get(name) for name in run.tasks}
    return {name: run.settings.starting_head(name) for name in run.tasks}


def _feature_head(network: FineTuneNetwork, name: str) -> FeatureHead:
    head = network.heads[name]
    assert isinstance(head, FeatureHead)
    return head


def _features(run: FitRun, *, all_rows: bool) -> tuple[dict[str, Tensor], dict[LayerOutput, int]]:
    """Return the inputs of heads before training, by kind: of all rows, or of the first one to learn their width.

    The widths of the layers are returned as well.
    """
    trunk, everything = run.trunk, range(len(run.inputs))
    kinds = [(kind, layer) for kind, layers in trunk.layers.items() for layer in layers]
    if run.known is not None:
        outputs = run.known.of([layer for _, layer in kinds])
    else:
        outputs = precompute_features(
            trunk.backbone,
            run.inputs,
            [layer for _, layer in kinds],
            trunk.boundary,
            everything if all_rows else everything[:1],
            train_rows=everything if run.augmentation is None else [],  # augmented samples are not cached
            compute=run.compute,
            store=run.store,
        )
    features: dict[str, Tensor] = {}
    widths: dict[LayerOutput, int] = {}
    for kind in trunk.layers:
        n = None if kind == "features" else 1
        values = [torch.stack(rows[:n]) for (other, _), rows in zip(kinds, outputs) if other == kind]
        of_kind = [one.shape[2 if kind == "tokens" else 1] for one in values]
        widths |= dict(zip(trunk.layers[kind], of_kind, strict=True))
        _check_mix(trunk, of_kind)
        features[kind] = join(
            kind, values, trunk.backbone.prefix_tokens
        )  # (n, n_features), (1, n_tokens, n_features) or (1, n_features, h, w)
    return features, widths


def _check_mix(trunk: Trunk, widths: list[int]) -> None:
    if trunk.mixed and len(set(widths)) > 1:
        named = dict(zip(trunk.backbone.stage_names, widths))
        raise InvalidParameterError(
            f"layer='mix' adds layers up, and those of {trunk.backbone.name} are of different width: {named}; "
            "layer='all' concatenates them"
        )
