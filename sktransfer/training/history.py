"""Tables of a training: one row per epoch, one row per stage."""

from __future__ import annotations

import pandas as pd
from skorch.history import History

from sktransfer.backbones.backbone import Backbone
from sktransfer.training.net import FineTuneNet
from sktransfer.training.network import FineTuneNetwork

__all__ = ["history_frame", "stages_frame"]


def history_frame(history: History) -> pd.DataFrame:
    """Return one row per epoch, counted from 1, with every single number that skorch and callbacks have recorded.

    Parameters
    ----------
    history : skorch History
        History of a net. Details of batches are left out.
    """
    hidden = ("batches", "epoch", "train_batch_count", "valid_batch_count")
    rows = [
        {name: value for name, value in row.items() if name not in hidden and not name.endswith("_best")}
        for row in history
    ]
    rows = [{"seconds" if name == "dur" else name: value for name, value in row.items()} for row in rows]
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="epoch"))


def stages_frame(backbone: Backbone, network: FineTuneNetwork, net: FineTuneNet, boundary: int) -> pd.DataFrame:
    """Return one row per stage: whether it was trained, its highest initial rate, and its trained parameters.

    Parameters
    ----------
    backbone : Backbone
        Backbone with all stages.
    network : FineTuneNetwork
        Trained stages, before adapters are merged.
    net : FineTuneNet
        Net with the optimizer.
    boundary : int
        Number of frozen stages.
    """
    rates = {
        id(parameter): group["initial_lr" if "initial_lr" in group else "lr"]
        for group in net.optimizer_.param_groups
        for parameter in group["params"]
    }
    rows = []
    for index in range(len(backbone.stages)):
        stage = network.stages[index - boundary] if index >= boundary else None
        trained = [] if stage is None else [p for p in stage.parameters() if id(p) in rates]
        rows.append(
            {
                "trained": bool(trained),
                "lr": max((rates[id(p)] for p in trained), default=float("nan")),
                "n_trained": sum(p.numel() for p in trained),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(backbone.stage_names, name="stage"))
