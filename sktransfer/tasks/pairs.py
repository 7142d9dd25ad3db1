"""What draws samples of a class together and pushes those of others apart: losses over the pairs of a batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sktransfer.training.data import Batches

__all__ = ["CosinePairs", "PAIR_LOSSES", "PairBatches", "SupervisedContrast"]

_TEMPERATURE = 0.1


class CosinePairs(nn.Module):
    """The squared distance of the cosine of two samples from 1 where they are of one class, else from 0 [1]_.

    Each sample is held against all others of its batch; those of its class count as much as those of other classes,
    however many they are.

    References
    ----------
    .. [1] L. Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.tasks.pairs import CosinePairs
    >>> CosinePairs()(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), torch.tensor([0, 0, 1]))
    tensor([0.5000, 1.0000, 0.2500])
    """

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return a loss a sample (n,) of features (n, n_features) and class indices (n,)."""
        cosines, same, other = _pairs(features, targets)  # (n, n) each
        drawn = _mean((cosines - 1) ** 2, same)  # (n,)
        pushed = _mean(cosines**2, other)  # (n,)
        return (drawn + pushed) / 2


class SupervisedContrast(nn.Module):
    """How unlikely it is to pick, by a softmax of cosines, the others of a sample's class among all others [1]_.

    References
    ----------
    .. [1] P. Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2, with a temperature of 0.1.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.tasks.pairs import SupervisedContrast
    >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> SupervisedContrast()(features, torch.tensor([0, 0, 1])).round(decimals=4).abs()
    tensor([0., 0., 0.])
    """

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return a loss a sample (n,) of features (n, n_features) and class indices (n,)."""
        cosines, same, other = _pairs(features, targets)  # (n, n) each
        scores = (cosines / _TEMPERATURE).masked_fill(~(same | other), -torch.inf)  # (n, n): not with itself
        likelihoods = scores - scores.logsumexp(1, keepdim=True)  # (n, n)
        return -_mean(likelihoods.masked_fill(~same, 0.0), same)  # (n,)


PAIR_LOSSES: dict[str, type[nn.Module]] = {"cosine": CosinePairs, "supcon": SupervisedContrast}


def _pairs(features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cosine of each two samples, whether they are two of one class, and whether of two classes."""
    unit = functional.normalize(features, dim=1)  # (n, n_features)
    same = targets[:, None] == targets  # (n, n)
    itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)  # (n, n)
    return unit @ unit.T, same & ~itself, ~same


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of those values (n, n) of a row that count, (n,); 0 where none does."""
    return (values * counted).sum(1) / counted.sum(1).clamp(min=1)


class PairBatches(Batches):
    """Batches in which samples meet others of their class, and of other classes, whatever the shares of the classes.

    All samples make one batch where they fit into it. Else classes take turns, and give two samples each; small ones
    come round to the same samples more often.
    """

    def _order(self) -> list[list[int]]:
        n = len(self.dataset)
        if n <= self.batch_size:
            return [list(range(n))]
        rng = np.random.default_rng([self.seed or 0, self.dataset.epoch])
        targets = self.dataset.targets.numpy()  # (n_samples,)
        members = [_endless(rng, np.flatnonzero(targets == target)) for target in np.unique(targets)]
        turns = _endless(rng, np.arange(len(members)))
        return [
            [next(members[turn]) for turn in (next(turns) for _ in range(self.batch_size // 2)) for _ in range(2)]
            for _ in range(-(-n // self.batch_size))
        ]


def _endless(rng: np.random.Generator, items: np.ndarray) -> Iterator[int]:
    """Yield items in mixed order, and all again in another."""
    while True:
        yield from rng.permutation(items).tolist()
