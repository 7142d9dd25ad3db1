"""State of a fitted net for saving: heads, tasks and history. The trained stages are saved with the backbone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from itertools import compress
from typing import Any

import torch
from skorch.history import History
from torch import nn

from sktransfer._validation import require_field
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.generators import private_draws
from sktransfer.backbones.language import own_state
from sktransfer.engine.compute import Compute
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import LoadError
from sktransfer.tasks.base import Task
from sktransfer.tasks.heads import Head, block_widths, divide_head
from sktransfer.training.net import FineTuneNet, build_net
from sktransfer.training.network import (
    FineTuneNetwork,
    TaskModules,
    split_layers,
    tower_spans,
    trainable_lm_head,
)
from sktransfer.training.settings import Settings, check_settings
from sktransfer.weights.reading import copy_state

__all__ = ["net_from_state", "net_to_state"]


def net_to_state(net: FineTuneNet, estimator: Any) -> dict[str, Any]:
    """Return the state of a fitted net.

    Parameters
    ----------
    net : FineTuneNet
        Fitted net.
    estimator : estimator
        Estimator with the parameters of the training.

    Raises
    ------
    InvalidParameterError
        If parameters were set to values that are not allowed since the estimator was fitted.
    """
    check_settings(estimator)
    network = net.module_
    widths = {} if None in network.spans else {"layer_widths": _plain(network.layer_widths)}
    return {
        **widths,
        "tasks": {name: {"class": type(task).__name__, "state": task.to_state()} for name, task in net.tasks.items()},
        "heads": {name: own_state(head, network.stages) for name, head in network.heads.items()},
        "widths": dict(network.widths),
        "n_mixed": network.n_mixed,
        "log_variances": {name: float(value.detach()) for name, value in network.variances_by_task().items()},
        "seed": int(net.seed),
        "history": json.dumps([{**row, "batches": []} for row in net.history], default=float),
    }


def net_from_state(
    state: Mapping[str, Any], estimator: Any, backbone: Backbone, layers: Any, boundary: Any
) -> FineTuneNet:
    """Return the net that `net_to_state` described.

    It has a new optimizer and none of the callbacks, because predictions need neither.

    Parameters
    ----------
    state : mapping
        Result of `net_to_state`, read from a file.
    estimator : estimator
        Estimator with the parameters of the training.
    backbone : Backbone
        Backbone with the trained stages.
    layers : dict of str to list of LayerOutput
        Layer outputs that heads read, by kind of input.
    boundary : int or dict of str to int
        Number of frozen stages, of a joined backbone by tower.

    Raises
    ------
    LoadError
        If the parts do not fit each other.
    """
    settings = dataclasses.replace(
        check_settings(estimator), unfreezing="none", early_stopping=False, lr_schedule="constant", verbose=0
    )
    tasks = {
        name: _task(require_field(saved, "class", str), require_field(saved, "state", dict))
        for name, saved in require_field(state, "tasks", dict).items()
    }
    _check_layers(layers, boundary, backbone)
    require_field({"head_": getattr(estimator, "head_", None)}, "head_", (Head, type(None)))
    with private_draws():  # the weights are loaded
        net = _net(state, tasks, settings, backbone, layers, boundary)
    net.to_cpu()
    rows = json.loads(require_field(state, "history", str))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise LoadError("its history is not a list of epochs")
    net.history = History(rows)
    return net


def _net(
    state: Mapping[str, Any],
    tasks: Mapping[str, Task],
    settings: Settings,
    backbone: Backbone,
    layers: Mapping[str, list[LayerOutput]],
    boundary: Any,
) -> FineTuneNet:
    widths, n_mixed = require_field(state, "widths", dict), state.get("n_mixed")
    saved = require_field(state, "heads", dict)
    variances = require_field(state, "log_variances", dict)
    if not set(variances) <= set(tasks) or not all(type(value) is float for value in variances.values()):
        raise LoadError(f"its log variances are {variances!r}, of tasks {sorted(tasks)}")
    stages, heads = nn.ModuleList(compress(backbone.stages, backbone.trains(boundary))), TaskModules()
    layer_widths = _layer_widths(state, layers, widths, backbone)
    for name, task in tasks.items():
        if (
            task.reads not in layers
            or type(widths.get(task.reads)) is not int
            or type(n_mixed) not in (int, type(None))
        ):
            raise LoadError(f"the head of task {name!r} reads {task.reads}, of widths {widths} and layers {layers}")
        lm_head = trainable_lm_head(backbone, stages, boundary) if task.trains_lm_head else None
        head = task.make_head(widths[task.reads], n_mixed) if lm_head is None else lm_head
        if head is not None:
            divide_head(head, block_widths(backbone, layer_widths))
            copy_state(own_state(head, stages), require_field(saved, name, dict), f"the head of task {name!r}")
            heads[name] = head
    network = FineTuneNetwork(
        stages,
        {kind: split_layers(outputs, boundary)[1] for kind, outputs in layers.items()},
        boundary,
        heads,
        {name: task.reads for name, task in tasks.items()},
        widths=widths,
        n_mixed=n_mixed,
        prefix_tokens=backbone.prefix_tokens,
        spans=tower_spans(backbone, boundary),
        layer_widths=layer_widths,
        keep_statistics=backbone.pretrained,
        scaled=list(variances),
    )
    if network.log_variances is not None:
        network.log_variances.data = torch.tensor(list(variances.values()), dtype=torch.float32)  # (n_scaled,)
    net = build_net(network, tasks, settings, Compute(torch.device("cpu")), require_field(state, "seed", int), None, 1)
    network.stages.requires_grad_(True)  # the optimizer asks for the parameters that it may train
    net.initialize()
    network.stages.requires_grad_(False)
    return net


def _task(name: str, state: dict[str, Any]) -> Task:
    if name not in Task.by_name:
        raise LoadError(f"there is no task {name!r}; this version has {sorted(Task.by_name)}")
    return Task.by_name[name].from_state(state)


def _plain(layer_widths: Mapping[LayerOutput, int]) -> list[list[Any]]:
    return [[layer, int(width)] for layer, width in layer_widths.items()]


def _layer_widths(
    state: Mapping[str, Any], layers: Mapping[str, list[LayerOutput]], widths: Mapping[str, Any], backbone: Backbone
) -> dict[LayerOutput, int]:
    """Return the widths of the layers of a joined backbone; those of others are not needed."""
    if None in backbone.towers:
        return {}
    pairs = require_field(state, "layer_widths", list)
    fits = all(isinstance(pair, list) and len(pair) == 2 and type(pair[1]) is int for pair in pairs)
    fits = fits and [pair[0] for pair in pairs] == layers.get("features")
    if not fits or sum(pair[1] for pair in pairs) != widths.get("features"):
        raise LoadError(f"the widths of its layers are {pairs!r}, of {widths!r} features")
    return dict(pairs)


def _check_layers(layers: Any, boundary: Any, backbone: Backbone) -> None:
    towers = backbone.towers
    n_stages = {name: len(tower.stages) for name, tower in towers.items()}
    outputs = [one for some in layers.values() for one in some] if isinstance(layers, dict) else []
    if not outputs or not all(
        isinstance(one, LayerOutput) and one.tower in towers and 0 < one.stop <= n_stages[one.tower] for one in outputs
    ):
        raise LoadError(f"its heads read {layers!r}, of {n_stages.get(None, n_stages)} stages")
    depths = {None: boundary} if None in towers else boundary
    if (
        not isinstance(depths, dict)
        or depths.keys() != towers.keys()
        or not all(type(one) is int and 0 <= one <= n_stages[name] for name, one in depths.items())
    ):
        raise LoadError(f"freeze_depth_ is {boundary!r} of {n_stages.get(None, n_stages)} stages")
