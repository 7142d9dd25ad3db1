"""An estimator as if its training had ended with the epoch that is over: what scikit-learn's callbacks may score."""

from __future__ import annotations

import copy
from typing import Any

from sktransfer.backbones.backbone import replace_stages
from sktransfer.finetuning.adapters import merge_adapters
from sktransfer.finetuning.net import FineTuneNet
from sktransfer.finetuning.records import history_frame

__all__ = ["so_far"]


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
