"""What a training leaves to be read: a row an epoch, a row a stage."""

from __future__ import annotations

import pandas as pd
from skorch.history import History

from sktransfer.backbones.backbone import Backbone
from sktransfer.finetuning.net import FineTuneNet
from sktransfer.finetuning.network import FineTuneNetwork

__all__ = ["history_frame", "stages_frame"]


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
