"""Run a backbone's own head over samples: probabilities of the categories that it was pretrained for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.stages import PooledHead
from sktransfer.cache.types import Store
from sktransfer.engine.compute import Compute
from sktransfer.engine.forward import LayerOutput, forward
from sktransfer.engine.inputs import PreprocessedSamples, collate
from sktransfer.exceptions import InvalidParameterError
from sktransfer.providers.huggingface_text import FirstTokenHead

__all__ = ["PretrainedHead", "check_has_categories"]


def check_has_categories(backbone: Backbone) -> Backbone:
    """Return a backbone where it has a head, and names for what the head tells apart.

    Raises
    ------
    InvalidParameterError
        If it lacks one of them.
    """
    way = "train one on your labels with FineTuneClassifier, or a classifier of scikit-learn on its features"
    if backbone.head is None:
        raise InvalidParameterError(f"{backbone.name} has no head of its own: {way}")
    if not backbone.categories:
        raise InvalidParameterError(
            f"{backbone.name} has a head, but its weights do not name what it tells apart: {way}; or name them in the "
            "`categories` of the file's safetensors metadata (a JSON list), or of Backbone.from_modules"
        )
    if len(backbone.categories) == 1:
        raise InvalidParameterError(
            f"{backbone.name} has a head with one output, {backbone.categories[0]!r}, which tells nothing apart: {way}"
        )
    return backbone


class PretrainedHead:
    """A backbone's head, and what of the backbone it is run on.

    A head that looks at a pooled vector gets that vector alone, which the store keeps; the last stage's values, up to
    hundreds of times as large, are taken only for a head that looks at more.

    Parameters
    ----------
    backbone : Backbone
        With a head and categories.

    Attributes
    ----------
    tap : LayerOutput
        What `probabilities` takes.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = check_has_categories(backbone)
        n, head = len(backbone.stages), backbone.head
        self._head: Callable[..., Tensor] = head  # type: ignore[assignment]
        self.tap = LayerOutput(n)
        if isinstance(head, PooledHead) and head.prefix_tokens in (0, backbone.prefix_tokens):
            self.tap, self._head = LayerOutput(n, head.pooling), head.layers
        elif isinstance(head, FirstTokenHead):
            self.tap, self._head = (
                LayerOutput(n, "class_token"),
                lambda vectors: head.body(vectors[:, None]),
            )  # (n, 1, channels)

    @property
    def is_small(self) -> bool:
        """Whether what the head looks at is a vector a sample, worth keeping in a store."""
        return self.tap.pooling is not None

    def probabilities(self, taken: list[Tensor]) -> np.ndarray:
        """Return the probability of each category, in the backbone's order.

        Parameters
        ----------
        taken : list of Tensor
            What the tap gave, one a sample.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_categories), float32
        """
        with torch.inference_mode():
            if self.is_small:
                logits = self._head(torch.stack(taken).float())  # (n, n_categories)
            else:
                values, mask = collate(taken, self.backbone.modality)
                logits = self._head(values.float(), mask)  # (n, n_categories)
        if logits.ndim != 2 or logits.shape[1] != len(self.backbone.categories):
            raise InvalidParameterError(
                f"the head of {self.backbone.name} gives {tuple(logits.shape)[1:]} numbers a sample for "
                f"{len(self.backbone.categories)} categories"
            )
        found: np.ndarray = softmax(logits.numpy(), axis=1)
        return found

    def run(
        self, inputs: PreprocessedSamples, compute: Compute, store: Store | None
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield rows and their probabilities.

        Parameters
        ----------
        inputs : PreprocessedSamples
            The samples.
        compute : Compute
            Where and how the stages run; the head runs on the CPU.
        store : Store or None
            Keeps vectors, never whole stages.
        """
        store = store if self.is_small else None
        for rows, (taken,) in forward(self.backbone, inputs, [self.tap], compute=compute, store=store):
            yield rows, self.probabilities(taken)
