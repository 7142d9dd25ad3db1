"""BatchNorm's running statistics, taken once more when the weights have come to rest."""

from __future__ import annotations

import torch

from sktransfer.training.data import FrozenPrefixDataset
from sktransfer.training.net import FineTuneNet

__all__ = ["update_bn_statistics"]


def update_bn_statistics(net: FineTuneNet, dataset: FrozenPrefixDataset) -> None:
    """Set the statistics that BatchNorm predicts with to the means over all training samples under the final weights.

    While weights move, the running statistics lag behind by tens of steps; of a short training that is all there is:
    the loss falls, for it is computed with each batch's own, and predictions are of no use. The same holds where a
    callback leaves averaged weights. Nothing is done where BatchNorm keeps its pretrained statistics.

    Parameters
    ----------
    net : FineTuneNet
        Trained.
    dataset : FrozenPrefixDataset
        What it was trained on.
    """
    network = net.module_
    norms = [norm for norm in network.norms() if norm.track_running_stats]
    if network.keep_statistics or not norms:
        return
    network.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    try:
        with torch.no_grad():
            for arguments, _ in net.get_iterator(dataset, training=True):
                net.infer(arguments)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        network.eval()
