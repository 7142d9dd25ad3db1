"""Views by dropout: two passes over a text are near each other, and far from those over other texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sktransfer._validation import check_float
from sktransfer.backbones.backbone import Backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.objectives.base import TextObjective

__all__ = ["DropoutViews", "has_dropout"]


class DropoutViews(TextObjective):
    """Tell texts apart under dropout: unsupervised SimCSE [1]_, for `SelfSupervisedTuner`.

    Each text passes the trained stages twice with different dropout. The loss is the cross entropy of finding the
    second pass of a text among those of its batch, by the cosine of the pooled features. The texts are not changed, so
    lower stages can be frozen, and run once. Held-out texts have no dropout, so that their loss tells how well they are
    spread.

    Parameters
    ----------
    temperature : float, default=0.05
        Divisor of the cosines, greater than 0.

    See Also
    --------
    SelfSupervisedTuner : Trains a backbone by it.

    References
    ----------
    .. [1] T. Gao et al., "SimCSE: Simple Contrastive Learning of Sentence Embeddings", EMNLP 2021.

    Examples
    --------
    >>> import torch
    >>> from sktransfer import DropoutViews
    >>> views = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]])  # two texts, and again
    >>> (DropoutViews().loss(None, torch.zeros(2), views) < 1e-3).tolist()
    [True, True]
    """

    kind = "dropout-views"
    pairwise = True
    reads_twice = True

    def __init__(self, temperature: float = 0.05) -> None:
        self.temperature = temperature

    def check_parameters(self) -> None:
        """Raise if a parameter is not allowed."""
        check_float("temperature", self.temperature, exclude_minimum=True)

    def check_boundary(self, backbone: Backbone, boundary: int, freeze_depth: Any) -> None:
        """Raise if the trained stages have no dropout.

        Parameters
        ----------
        backbone : Backbone
            Backbone.
        boundary : int
            Number of frozen stages.
        freeze_depth : int, float or str
            Parameter that it comes from.

        Raises
        ------
        InvalidParameterError
            If they have none.
        """
        trained = backbone.stages[boundary:]
        if len(trained) and not has_dropout(trained):
            raise InvalidParameterError(
                f"objective={self!r} compares two passes with different dropout, and the stages of {backbone.name} "
                f"above the freezing boundary, {list(backbone.stage_names[boundary:])}, have none; set "
                "objective='mlm', a lower freeze_depth, or give a backbone whose configuration has a dropout"
            )

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the cross entropy of each text among those of its batch (n,)."""
        first, second = functional.normalize(features, dim=1).chunk(2)  # (n, n_features) each
        cosines = first @ second.T / self.temperature  # (n, n)
        return functional.cross_entropy(cosines, torch.arange(len(first), device=first.device), reduction="none")


def has_dropout(stages: nn.ModuleList) -> bool:
    """Return whether a module of stages has a dropout of a rate above 0.

    Parameters
    ----------
    stages : nn.ModuleList
        Stages.
    """
    return any(module.p for module in stages.modules() if isinstance(module, nn.modules.dropout._DropoutNd))
