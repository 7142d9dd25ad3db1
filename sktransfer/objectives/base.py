"""Base classes of objectives: tasks that learn from the samples themselves, without y."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.tokens import Tokens
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.base import ParametrizedTask, Targets

__all__ = ["ImageObjective", "Objective", "TextObjective", "per_row", "text_tokens", "twice"]


class Objective(ParametrizedTask):
    """Task whose targets are the samples themselves.

    A subclass has parameters that a user sets. `for_backbone` returns a copy that also knows the network.

    Attributes
    ----------
    modality : {"image", "text"}
        Kind of the samples.
    changes_input : bool
        Whether the network reads noisy copies of the samples, from `corrupt`. Stages can then only be frozen if the
        copies are fixed.
    copies_per_step : int
        Number of noisy copies of a sample that a step reads.
    has_copies : bool
        Whether the samples are fixed noisy copies already.
    reads_twice : bool
        Whether the trained stages read each sample twice in a step.
    stagewise : bool
        Whether the stages are trained one after the other from below, each with a new head.
    lm_kind : {"masked", "causal"} or None
        Kind of the language-model head that is trained.
    fewest_tokens : int
        Tokens of a text, without special ones, below which nothing can be learned from it.
    """

    comes_from_samples = True
    modality: ClassVar[str]
    changes_input: ClassVar[bool] = False
    copies_per_step: ClassVar[int] = 1
    has_copies: bool = False
    reads_twice: ClassVar[bool] = False
    stagewise: ClassVar[bool] = False
    lm_kind: ClassVar[str | None] = None
    fewest_tokens: ClassVar[int] = 0

    def for_backbone(self, backbone: Backbone) -> Self:
        """Return a copy that knows the network.

        Parameters
        ----------
        backbone : Backbone
            Backbone of `modality`, with a head of `lm_kind` if that is not None.

        Raises
        ------
        InvalidParameterError
            If the network cannot be trained by this objective.
        """
        self.check_parameters()
        return copy.copy(self)

    def check_parameters(self) -> None:
        """Raise if a parameter is not allowed. The default does nothing."""

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
        changes = self.changes_input and not self.has_copies
        if boundary == len(backbone.stages) and (changes or not self.trains_lm_head):
            raise InvalidParameterError(
                f"freeze_depth={freeze_depth!r} leaves nothing to train of {backbone.name}; freeze fewer of its stages "
                f"{backbone.stage_names}, or set objective='none'"
            )
        if changes and boundary:
            others = {"text": "'simcse', which changes no text", "image": "'denoise', which changes no image"}
            raise InvalidParameterError(
                f"freeze_depth={freeze_depth!r} freezes {boundary} of the stages {backbone.stage_names}, and "
                f"objective={self!r} changes the {self.modality}s that the first stage reads in each epoch; set "
                f"freeze_depth=0, or objective={others[self.modality]}, or views=4 to repeat the changes of 4 epochs"
            )

    def corrupt(
        self, arguments: dict[str, Tensor], targets: Tensor, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return noisy copies of samples, and their targets.

        Only called if `changes_input`.

        Parameters
        ----------
        arguments : dict of str to Tensor
            Input of the first stage, `values`, and `mask` for texts.
        targets : Tensor
            Targets of the samples without noise.
        generator : torch.Generator, default=None
            Generator of the noise. None for the global one of torch.
        """
        raise NotImplementedError

    def prepare(self, arguments: dict[str, Tensor], targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return noisy copies of the samples if they change, unless they are such copies already.

        Every argument is repeated, (2 n, ...), if the trained stages read each sample twice.
        """
        if self.changes_input and not self.has_copies:
            arguments, targets = self.corrupt(arguments, targets)
        return (twice(arguments) if self.reads_twice else arguments), targets

    def set_input_shape(self, shape: tuple[int, ...]) -> None:
        """Take the shape of a sample at the freezing boundary, before the head is made. The default does nothing.

        Parameters
        ----------
        shape : tuple of int
            Shape of the value that the first trained stage reads.
        """

    def targets_of(self, inputs: PreprocessedSamples) -> tuple[np.ndarray, np.ndarray]:
        """Return the target of each sample (n_samples,), and whether there is enough to learn from (n_samples,).

        Parameters
        ----------
        inputs : PreprocessedSamples
            Samples.
        """
        raise NotImplementedError

    def check(self, y: np.ndarray) -> np.ndarray:
        """Return the targets (n_samples,) unchanged."""
        return y

    def make_head(self, n_features: int, n_mixed: int | None = None) -> nn.Module | None:
        """Return None: the loss reads the features, or the head is the `lm_head`."""
        return None

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the outputs."""
        return outputs


class TextObjective(Objective):
    """Objective whose targets are the tokens of texts."""

    modality = "text"

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
        bound = super().for_backbone(backbone)
        text_tokens(backbone)
        return bound

    def targets_of(self, inputs: PreprocessedSamples) -> tuple[np.ndarray, np.ndarray]:
        """Return the token ids of each text, one tensor (n_tokens,) each, and whether there are enough of them.

        Parameters
        ----------
        inputs : PreprocessedSamples
            Texts.
        """
        ids = np.empty(len(inputs), object)  # (n_samples,)
        for row, of_text in enumerate(inputs.tensors(range(len(inputs)))):
            ids[row] = of_text
        assert isinstance(inputs.preprocess, Tokens)  # for_backbone has seen to it
        n_special = sum(len(one) for one in inputs.preprocess.special_ids)
        return ids, np.array([len(one) - n_special >= self.fewest_tokens for one in ids])

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return the token ids as targets."""
        return Targets(list(y), weight)


class ImageObjective(Objective):
    """Objective whose targets are made from the values of images at the freezing boundary."""

    modality = "image"

    def targets_of(self, inputs: PreprocessedSamples) -> tuple[np.ndarray, np.ndarray]:
        """Return zeros, because `prepare` makes the targets, and that all images can be learned from.

        Parameters
        ----------
        inputs : PreprocessedSamples
            Images.
        """
        return np.zeros(len(inputs), np.float32), np.ones(len(inputs), bool)

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return the zeros as targets."""
        return Targets(y, weight)


def text_tokens(backbone: Backbone) -> Tokens:
    """Return the tokenisation of a backbone of texts.

    Parameters
    ----------
    backbone : Backbone
        Backbone.

    Raises
    ------
    InvalidParameterError
        If it has a tokenisation of another library.
    """
    if not isinstance(backbone.preprocess, Tokens):
        raise InvalidParameterError(
            f"backbone: {backbone.name} has a tokenisation of type {type(backbone.preprocess).__name__}, and Tokens of "
            "sktransfer.backbones is needed; objective='none' takes any backbone, and trains nothing"
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


def twice(value: Any) -> Any:
    """Return nested dicts and lists with each tensor (n, ...) twice, (2 n, ...).

    Parameters
    ----------
    value : Tensor, dict or list
        Arguments of the network.
    """
    if isinstance(value, dict):
        return {name: twice(one) for name, one in value.items()}
    if isinstance(value, list):
        return [twice(one) for one in value]
    return torch.cat([value, value])  # (2 n, ...)
