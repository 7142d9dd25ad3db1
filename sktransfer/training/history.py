"""What a training leaves to be read: a row an epoch, a row a stage."""

from __future__ import annotations

import copy
from typing import Any

import pandas as pd
from skorch.history import History

from sktransfer.backbones.backbone import Backbone, replace_stages
from sktransfer.training.adapters import merge_adapters
from sktransfer.training.net import FineTuneNet
from sktransfer.training.network import FineTuneNetwork

__all__ = ["history_frame", "so_far", "stages_frame"]


def history_frame(history: History) -> pd.DataFrame:
    """Return a row an epoch, numbered from 1: what skorch and callbacks have recorded that is one number.

    Parameters
    ----------
    history : skorch History
        Of a net; details of batches are left out.
    """
    hidden = ("batches", "epoch", "train_batch_count", "valid_batch_count")
    rows = [
        {name: value for name, value in row.items() if name not in hidden and not name.endswith("_best")}
        for row in history
    ]
    rows = [{"seconds" if name == "dur" else name: value for name, value in row.items()} for row in rows]
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="epoch"))


def stages_frame(backbone: Backbone, network: FineTuneNetwork, net: FineTuneNet, cut: int) -> pd.DataFrame:
    """Return a row a stage: whether it was trained, the highest rate it began with, and how many of its numbers were.

    Parameters
    ----------
    backbone : Backbone
        Whose stages.
    network : FineTuneNetwork
        What of them was trained, before adapters are merged.
    net : FineTuneNet
        Has the optimizer.
    cut : int
        How many are frozen.
    """
    rates = {
        id(p): group["initial_lr" if "initial_lr" in group else "lr"]
        for group in net.optimizer_.param_groups
        for p in group["params"]
    }
    rows = []
    for place in range(len(backbone.stages)):
        stage = network.stages[place - cut] if place >= cut else None
        trained = [] if stage is None else [p for p in stage.parameters() if id(p) in rates]
        rows.append(
            {
                "trained": bool(trained),
                "lr": max((rates[id(p)] for p in trained), default=float("nan")),
                "n_trained": sum(p.numel() for p in trained),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(backbone.stage_names, name="stage"))


def so_far(estimator: Any) -> dict[str, Any]:
    """Return the attributes that make a copy of an estimator in training one that predicts; nothing else is touched.

    Parameters
    ----------
    estimator : FineTuneBase
        At the end of an epoch.
    """
    net = _still(estimator.net_)
    network = net.module_
    if estimator.adapter is not None:
        merge_adapters(network.stages)
    backbone, trained = estimator.backbone_, list(network.stages)
    return {
        "net_": net,
        "backbone_": replace_stages(backbone, estimator.freeze_depth_, trained) if trained else backbone,
        "history_": history_frame(net.history),
        "n_iter_": len(net.history),
    }


def _still(net: FineTuneNet) -> FineTuneNet:
    """Return a copy of a net with weights of its own and without what belongs to the training."""
    other: FineTuneNet = object.__new__(type(net))  # copy.copy would write all weights out and read them in again
    other.__dict__.update(net.__dict__)
    other.module_ = copy.deepcopy(net.module_).cpu().eval()
    other.device = "cpu"
    other.train_split = other.checkpoint = None
    other.on_epoch = other.mixture = other._pull = other._interrupted = None
    return other
