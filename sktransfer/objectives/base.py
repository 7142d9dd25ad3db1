"""Base class of objectives: tasks that learn from the tokens of texts, without y."""

from __future__ import annotations

import copy
import inspect
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.tokens import Tokens
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.base import Targets, Task

__all__ = ["Objective", "per_row", "text_tokens"]


class Objective(Task):
    """Task whose targets are the tokens of the texts.

    A subclass has parameters that a user sets. `for_backbone` returns a copy that also knows the network.

    Attributes
    ----------
    changes_input : bool
        Whether the network reads changed texts, so that no stage can be frozen.
    lm_kind : {"masked", "causal"} or None
        Kind of the language-model head that is trained.
    fewest_tokens : int
        Tokens of a text, without special ones, below which nothing can be learned from it.
    """

    comes_from_samples = True
    changes_input: ClassVar[bool] = False
    lm_kind: ClassVar[str | None] = None
    fewest_tokens: ClassVar[int] = 0

    def for_backbone(self, backbone: Backbone) -> Self:
        """Return a copy that knows the network.

        Parameters
        ----------
        backbone : Backbone
            Backbone of texts, with a head of `lm_kind` if that is not None.

        Raises
        ------
        InvalidParameterError
            If the network cannot be trained by this objective.
        """
        text_tokens(backbone)
        return copy.copy(self)

    def check_boundary(self, backbone: Backbone, boundary: int, freeze_depth: Any) -> None:
        """Raise if stages are frozen that may not be.

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
            If they are.
        """
        if self.changes_input and boundary:
            raise InvalidParameterError(
                f"freeze_depth={freeze_depth!r} freezes {boundary} of the stages {backbone.stage_names}, and "
                f"objective={self!r} changes the texts that the first stage reads; set freeze_depth=0, or "
                "objective='simcse', which changes no text"
            )

    def check(self, y: np.ndarray) -> np.ndarray:
        """Return the token ids of the texts (n_samples,), one tensor (n_tokens,) each."""
        return y

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return the token ids as targets."""
        return Targets(list(y), weight)

    def make_head(self, n_features: int, n_mixed: int | None = None) -> nn.Module | None:
        """Return None: the loss reads the features, or the head is the `lm_head`."""
        return None

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the outputs."""
        return outputs

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def text_tokens(backbone: Backbone) -> Tokens:
    """Return the tokenisation of a backbone of texts.

    Parameters
    ----------
    backbone : Backbone
        Backbone.

    Raises
    ------
    InvalidParameterError
        If it takes images, or has a tokenisation of another library.
    """
    if backbone.modality != "text":
        raise InvalidParameterError(
            f"backbone: {backbone.name} takes {backbone.modality}s, and SelfSupervisedTuner adapts backbones of "
            "texts; give one, such as 'tiny/bert', or use ImageFeaturizer"
        )
    if not isinstance(backbone.preprocess, Tokens):
        raise InvalidParameterError(
            f"backbone: {backbone.name} has a tokenisation of type {type(backbone.preprocess).__name__}, and Tokens of "
            "sktransfer.backbones is needed"
        )
    return backbone.preprocess


def per_row(losses: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean loss of each row (n,), 0 for a row without a chosen position.

    Parameters
    ----------
    losses : Tensor of shape (m,)
        Losses of the chosen positions, row by row.
    chosen : Tensor of shape (n, n_tokens), bool
        Chosen positions, m in all.
    """
    rows = chosen.nonzero()[:, 0]  # (m,)
    sums = torch.zeros(len(chosen), dtype=losses.dtype, device=losses.device).index_add(0, rows, losses)  # (n,)
    return sums / chosen.sum(1).clamp(min=1)  # (n,)
