"""What a fine-tuned estimator predicts with beside its backbone: the net is made anew around the weights."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import torch
from skorch.history import History
from torch import nn

from sktransfer.engine.compute import Compute
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import LoadError
from sktransfer.finetuning.base import FineTuneBase
from sktransfer.persistence.parts import Loading, Saving, entry
from sktransfer.persistence.states import fill
from sktransfer.training.net import FineTuneNet, build_net
from sktransfer.training.network import FineTuneNetwork, split_taps
from sktransfer.training.settings import check_settings

__all__ = ["encode_net", "make_net"]


def encode_net(estimator: FineTuneBase, saving: Saving) -> dict[str, Any]:
    """Return what `make_net` needs beside the estimator's other attributes.

    Parameters
    ----------
    estimator : FineTuneBase
        Fitted.
    saving : Saving
        Gets the tensors of the head.

    Raises
    ------
    InvalidParameterError
        If its parameters were set to what is not allowed since it was fitted.
    """
    check_settings(estimator)
    net = estimator.net_
    state = _above(net.module_)
    kept = estimator.head_._state if hasattr(estimator, "head_") else {}
    same = {name: kept[name] for name, value in state.items() if name in kept and torch.equal(kept[name], value)}
    rows = [{**row, "batches": []} for row in net.history]
    return {
        "state": saving.state(state | same),  # what `head_` holds is written once
        "seed": int(net.seed),
        "history": json.dumps(rows, default=float),
    }


def _above(network: FineTuneNetwork) -> dict[str, Any]:
    return {name: value for name, value in network.state_dict().items() if not name.startswith("stages.")}


def make_net(estimator: FineTuneBase, data: dict[str, Any], loading: Loading) -> FineTuneNet:
    """Return the net of an estimator whose other attributes are there.

    It has a new optimizer and none of the callbacks: what it predicts is what counts.

    Parameters
    ----------
    estimator : FineTuneBase
        Gets the net as `net_` by the caller.
    data : dict
        As `encode_net` gives it.
    loading : Loading
        Has the tensors.

    Raises
    ------
    LoadError
        If the parts do not fit each other.
    """
    state = loading.state(entry(data, "state", dict))
    settings = dataclasses.replace(
        check_settings(estimator), unfreezing="none", early_stopping=False, lr_schedule="constant", verbose=0
    )
    with torch.random.fork_rng(devices=[]):
        network = _network(estimator, state)
        fill(_above(network), state, "the head")
        net = build_net(
            network,
            settings,
            estimator._criterion(settings),
            Compute(torch.device("cpu")),
            entry(data, "seed", int),
            None,
            1,
        )
        network.stages.requires_grad_(True)  # the optimizer asks for what it may train
        net.initialize()
        network.stages.requires_grad_(False)
    net.to_cpu()
    rows = json.loads(entry(data, "history", str))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise LoadError("its history is no list of epochs")
    net.history = History(rows)
    return net


def _network(estimator: FineTuneBase, state: dict[str, Any]) -> FineTuneNetwork:
    backbone, taps, cut = estimator.backbone_, estimator._taps, estimator.freeze_depth_
    n, mixed = len(backbone.stages), estimator._mixed
    if (
        not isinstance(taps, list)
        or not taps
        or not all(isinstance(tap, LayerOutput) and 0 < tap.stop <= n for tap in taps)
    ):
        raise LoadError(f"its head sees {taps!r}, of {n} stages")
    if type(cut) is not int or not 0 <= cut <= n or type(mixed) is not bool:
        raise LoadError(f"freeze_depth_ is {cut!r} of {n} stages, layers are mixed: {mixed!r}")
    if state.keys() < {"mean", "scale"}:
        raise LoadError(f"its head has {sorted(state)} alone")
    bias = state.get("head.bias")
    return FineTuneNetwork(
        nn.ModuleList(backbone.stages[cut:]),
        split_taps(taps, cut)[1],
        cut,
        len(state["mean"]),
        None if bias is None else len(bias),
        prefix_tokens=backbone.prefix_tokens,
        keep_statistics=backbone.pretrained,
        n_mixed=len(taps) if mixed else None,
    )
