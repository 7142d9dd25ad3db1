"""State of the net of a fitted estimator: its head, seed and history, from which the net is built again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import torch
from skorch.history import History
from torch import nn

from sktransfer._validation import require_field
from sktransfer.engine.compute import Compute
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import LoadError
from sktransfer.training.heads import Head
from sktransfer.training.net import FineTuneNet, build_net
from sktransfer.training.network import FineTuneNetwork, split_taps
from sktransfer.training.settings import check_settings
from sktransfer.weights.reading import copy_state

__all__ = ["net_from_state", "net_to_state"]


def net_to_state(estimator: Any) -> dict[str, Any]:
    """Return the state of the net of a fitted estimator. The trained stages are in its `backbone_`.

    Parameters
    ----------
    estimator : FineTuneBase
        Fitted estimator.

    Raises
    ------
    InvalidParameterError
        If its parameters were set to values that are not allowed since it was fitted.
    """
    check_settings(estimator)
    net = estimator.net_
    rows = [{**row, "batches": []} for row in net.history]
    return {
        "head": _head_state(net.module_),
        "seed": int(net.seed),
        "history": json.dumps(rows, default=float),
    }


def _head_state(network: FineTuneNetwork) -> dict[str, Any]:
    return {name: value for name, value in network.state_dict().items() if not name.startswith("stages.")}


def net_from_state(estimator: Any, state: Mapping[str, Any]) -> FineTuneNet:
    """Return the net of an estimator whose other attributes are set.

    The net has a new optimizer and no callbacks, because neither is needed to predict.

    Parameters
    ----------
    estimator : FineTuneBase
        Estimator that gets the net.
    state : mapping
        Output of `net_to_state`, read from a file.

    Raises
    ------
    LoadError
        If state and attributes do not fit each other.
    """
    head = require_field(state, "head", dict)
    require_field({"head_": vars(estimator).get("head_")}, "head_", (Head, type(None)))
    settings = dataclasses.replace(
        check_settings(estimator), unfreezing="none", early_stopping=False, lr_schedule="constant", verbose=0
    )
    with torch.random.fork_rng(devices=[]):
        network = _network(estimator, head)
        copy_state(_head_state(network), head, "the head")
        net = build_net(
            network,
            settings,
            estimator._criterion(settings),
            Compute(torch.device("cpu")),
            require_field(state, "seed", int),
            None,
            1,
        )
        network.stages.requires_grad_(True)  # the optimizer asks for the parameters that it may train
        net.initialize()
        network.stages.requires_grad_(False)
    net.to_cpu()
    rows = json.loads(require_field(state, "history", str))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise LoadError("its history is not a list of epochs")
    net.history = History(rows)
    return net


def _network(estimator: Any, head: dict[str, Any]) -> FineTuneNetwork:
    backbone, layers, boundary = estimator.backbone_, estimator._taps, estimator.freeze_depth_
    n, is_mixed = len(backbone.stages), estimator._mixed
    if (
        not isinstance(layers, list)
        or not layers
        or not all(isinstance(layer, LayerOutput) and 0 < layer.stop <= n for layer in layers)
    ):
        raise LoadError(f"its head reads the layers {layers!r}, of {n} stages")
    if type(boundary) is not int or not 0 <= boundary <= n or type(is_mixed) is not bool:
        raise LoadError(f"freeze_depth_ is {boundary!r} of {n} stages, layers are mixed: {is_mixed!r}")
    if head.keys() < {"mean", "scale"}:
        raise LoadError(f"its head has only the weights {sorted(head)}")
    bias = head.get("head.bias")
    return FineTuneNetwork(
        nn.ModuleList(backbone.stages[boundary:]),
        split_taps(layers, boundary)[1],
        boundary,
        len(head["mean"]),
        None if bias is None else len(bias),
        prefix_tokens=backbone.prefix_tokens,
        keep_statistics=backbone.pretrained,
        n_mixed=len(layers) if is_mixed else None,
    )
