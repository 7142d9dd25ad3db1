"""Pairs: features of one class attract each other, those of different classes repel each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from torch import Tensor
from torch.nn import functional

from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.samples.labels import row_labels
from sktransfer.tasks.base import Targets, Task
from sktransfer.tasks.classification import check_labels
from sktransfer.tasks.head_init import standardize
from sktransfer.tasks.heads import FeatureHead
from sktransfer.tasks.labels import refuse_label_lists
from sktransfer.tasks.validation import as_array, check_none_missing

__all__ = ["PAIR_LOSSES", "Pairs", "cosine_pairs", "supervised_contrast"]

_TEMPERATURE = 0.1
_ONE_LABEL = (
    "y holds one label per sample, as for a classifier, and the samples of a batch are paired by their labels. Of "
    "several labels choose one, and turn numbers into classes, as sklearn.preprocessing.KBinsDiscretizer does"
)


def cosine_pairs(features: Tensor, targets: Tensor) -> Tensor:
    """Return the squared distance of cosines from 1 for pairs of one class, and from 0 for other pairs [1]_.

    Each sample is compared with all others of its batch. Those of its class and those of other classes have the same
    total weight.

    Parameters
    ----------
    features : Tensor of shape (n, n_features)
        Features of a batch.
    targets : Tensor of shape (n,)
        Class indices.

    Returns
    -------
    losses : Tensor of shape (n,)

    References
    ----------
    .. [1] L. Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.tasks.pairs import cosine_pairs
    >>> cosine_pairs(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), torch.tensor([0, 0, 1]))
    tensor([0.5000, 1.0000, 0.2500])
    """
    cosines, same, other = _pairs(features, targets)  # (n, n) each
    attracted = _mean((cosines - 1) ** 2, same)  # (n,)
    repelled = _mean(cosines**2, other)  # (n,)
    return (attracted + repelled) / 2


def supervised_contrast(features: Tensor, targets: Tensor) -> Tensor:
    """Return the supervised contrastive loss on cosine similarities [1]_.

    Parameters
    ----------
    features : Tensor of shape (n, n_features)
        Features of a batch.
    targets : Tensor of shape (n,)
        Class indices.

    Returns
    -------
    losses : Tensor of shape (n,)

    References
    ----------
    .. [1] P. Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2, with a temperature of 0.1.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.tasks.pairs import supervised_contrast
    >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> supervised_contrast(features, torch.tensor([0, 0, 1])).round(decimals=4).abs()
    tensor([0., 0., 0.])
    """
    cosines, same, other = _pairs(features, targets)  # (n, n) each
    scores = (cosines / _TEMPERATURE).masked_fill(~(same | other), -torch.inf)  # (n, n), without the diagonal
    likelihoods = scores - scores.logsumexp(1, keepdim=True)  # (n, n)
    return -_mean(likelihoods.masked_fill(~same, 0.0), same)  # (n,)


PAIR_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine_pairs,
    "supcon": supervised_contrast,
}


def _pairs(features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cosine of each pair, whether it is a pair of one class, and whether of two classes: (n, n) each."""
    unit = functional.normalize(features, dim=1)  # (n, n_features)
    same = targets[:, None] == targets  # (n, n)
    diagonal = torch.eye(len(targets), dtype=torch.bool, device=targets.device)  # (n, n)
    return unit @ unit.T, same & ~diagonal, ~same


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the counted values (n, n) per row, (n,); 0 if a row has none."""
    return (values * counted).sum(1) / counted.sum(1).clamp(min=1)


class Pairs(Task):
    """Pairs of a class, learned from labels. The head has no weights: its output is the features.

    Parameters
    ----------
    loss : {"cosine", "supcon"}, default="cosine"
        Loss on the pairs of a batch.
    """

    kind = "multiclass"
    pairwise = True

    def __init__(self, loss: str = "cosine") -> None:
        self.pair_loss = loss

    def check(self, y: Any) -> np.ndarray:
        """Return labels (n_samples,)."""
        y = y.toarray() if issparse(y) else y
        refuse_label_lists(y, _ONE_LABEL)
        shape = np.asarray(y).shape
        if len(shape) == 2 and shape[1] > 1:
            raise ValueError(f"y has shape {shape}: {_ONE_LABEL}")
        check_none_missing(as_array(y, "y"), "y", "label", labels=row_labels(y))
        try:
            return check_labels(y)
        except ValueError as error:
            raise ValueError(f"{error} In contrastive tuning, {_ONE_LABEL}") from error

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return class indices (n_samples,)."""
        classes, indices, counts = np.unique(y, return_inverse=True, return_counts=True)
        if len(classes) < 2:
            raise ValueError(f"y holds one class only, {classes.tolist()[0]!r}; there are no pairs to tell apart")
        if counts.max() < 2:
            raise ValueError(
                f"y holds {len(classes)} classes of one sample each; to learn what a class has in common takes two "
                "samples of one class at least"
            )
        return Targets(indices.astype(np.int64), weight)

    def make_head(self, n_features: int, n_mixed: int | None = None) -> FeatureHead:
        """Return a head without a linear layer."""
        return FeatureHead(n_features, None, n_mixed)

    def init_head(
        self, head: Any, features: np.ndarray, targets: Targets, how: str, choice: LayerChoice | None = None
    ) -> None:
        """Standardize the features that a head mixes."""
        standardize(head, features, targets.weight)

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the loss of each row over the pairs of the batch, (n,)."""
        assert outputs is not None
        return PAIR_LOSSES[self.pair_loss](outputs, targets)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the features (n_samples, n_features)."""
        return outputs
