"""Base class of alignments: tasks over two domains, which shape features and predict nothing."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.domains.statistics import DomainNorms
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.tasks.base import ParametrizedTask, Targets
from sktransfer.tasks.head_init import standardize
from sktransfer.tasks.heads import FeatureHead

__all__ = ["Alignment", "domain_shares"]


class Alignment(ParametrizedTask):
    """Task whose targets are the domains of the samples: a positive weight in the source, a negative one in the target.

    The loss of a batch compares its samples of both domains, and is 0 if it has less than two of one of them. It reads
    features that are standardized as for the head of the classes. If layers are mixed, it reads them at equal weights,
    because learned ones would hide a distance instead of changing the features. Weights of samples count within their
    domain.

    A subclass stores its parameters, validates them in `check_parameters`, and returns the loss from `distance`.

    Attributes
    ----------
    moves_features : bool
        Whether the loss depends on the features alone, so that there is nothing to learn if all stages are frozen.
    needs_classes : bool
        Whether the loss reads the probabilities of classes, of which each sample has one.
    """

    kind = "domain"
    pairwise = True
    is_auxiliary = True
    norms: DomainNorms | None = None  # of a training with statistics of each domain
    moves_features: ClassVar[bool] = True
    needs_classes: ClassVar[bool] = False

    def for_fit(self) -> Self:
        """Return a copy for one training, with validated parameters.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        """
        self.check_parameters()
        return copy.copy(self)

    def check_parameters(self) -> None:
        """Raise `InvalidParameterError` if a parameter is not allowed. The default has none."""

    def callbacks(self) -> list[tuple[str, Any]]:
        """Return named callbacks of skorch that the training needs. The default has none."""
        return []

    def distance(self, outputs: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a batch ().

        Parameters
        ----------
        outputs : Tensor of shape (n, ...)
            Output of the head: standardized features (n, n_features), unless the subclass has another head.
        source, target : Tensor of shape (n,)
            Share of each sample in its domain, 0 in the other one, as `domain_shares` returns them.
        """
        raise NotImplementedError

    def check(self, y: Any) -> np.ndarray:
        """Return the domains (n_samples,): 1 for the source and -1 for the target."""
        return np.asarray(y)

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return signed weights (n_samples,). In the loss of a batch each row counts once."""
        return Targets((y * weight).astype(np.float32), (weight > 0).astype(np.float64))

    def make_head(self, n_features: int, n_mixed: int | None = None) -> Any:
        """Return a head that has nothing to learn, and standardizes features."""
        return FeatureHead(n_features, None, n_mixed).requires_grad_(False)

    def init_head(
        self, head: Any, features: np.ndarray, targets: Targets, how: str, choice: LayerChoice | None = None
    ) -> None:
        """Write mean and scale of the features of both domains, or of the choice of layers, into the head."""
        standardize(head, features, targets.weight, choice)

    def change_stages(self, stages: nn.ModuleList) -> None:
        """Give the BatchNorms statistics of each domain, if the training asks for it."""
        if self.norms is not None:
            self.norms.divide(stages)

    def restore_stages(self, stages: nn.ModuleList) -> None:
        """Undo `change_stages`."""
        if self.norms is not None:
            self.norms.restore(stages)

    def prepare(self, arguments: dict[str, Tensor], targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Tell the BatchNorms the domain of each row."""
        if self.norms is not None:
            self.norms.is_target = targets < 0  # (n,)
        return arguments, targets

    def to_state(self) -> dict[str, Any]:
        """Return the parameters. A checkpoint depends on the statistics through the samples."""
        return {name: value for name, value in super().to_state().items() if name != "norms"}

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the loss of the batch for each row (n,), 0 if a domain has less than two samples in it."""
        assert outputs is not None
        source, target = domain_shares(targets)
        both = ((source > 0).sum() > 1) & ((target > 0).sum() > 1)  # ()
        return (self.distance(outputs, source, target) * both).expand(len(targets))  # (n,)


def domain_shares(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the share of each row in the source and in the target, (n,) each. They sum to 1, or to 0 without rows.

    Parameters
    ----------
    weights : Tensor of shape (n,)
        Weights, positive in the source and negative in the target.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.domains.base import domain_shares
    >>> [one.tolist() for one in domain_shares(torch.tensor([1.0, 3.0, -2.0]))]
    [[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]]
    """
    source, target = weights.clamp(min=0), (-weights).clamp(min=0)  # (n,) each
    tiny = torch.finfo(weights.dtype).tiny
    return source / source.sum().clamp_min(tiny), target / target.sum().clamp_min(tiny)
