"""Next tokens: predict each token of a text from those before it."""

from __future__ import annotations

from typing import Self

import numpy as np
from torch import Tensor
from torch.nn import functional

from sktransfer.backbones.backbone import Backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.objectives.base import TextObjective, per_row
from sktransfer.objectives.heads import is_causal
from sktransfer.tasks.base import Targets

__all__ = ["NextTokens"]


class NextTokens(TextObjective):
    """Predict each token from those before it: a causal language model [1]_, for `SelfSupervisedTuner`.

    It needs a network whose attention is causal, such as GPT-2. The texts are not changed, so lower stages can be
    frozen. The loss of a text is the mean over its tokens.

    See Also
    --------
    SelfSupervisedTuner : Trains a backbone by it.

    References
    ----------
    .. [1] A. Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018.

    Examples
    --------
    >>> from sktransfer import NextTokens, SelfSupervisedTuner
    >>> tuner = SelfSupervisedTuner("hf/distilgpt2", objective=NextTokens())  # loads in fit
    """

    kind, reads = "next-tokens", "tokens"
    trains_lm_head = head_reads_targets = True
    lm_kind, fewest_tokens = "causal", 2

    def for_backbone(self, backbone: Backbone) -> Self:
        """Return a copy.

        Parameters
        ----------
        backbone : Backbone
            Backbone of texts, with a causal `lm_head`.

        Raises
        ------
        InvalidParameterError
            If the values of a token depend on those after it.
        """
        bound = super().for_backbone(backbone)
        if not is_causal(backbone):
            raise InvalidParameterError(
                f"objective='causal' predicts a token from those before it, and in {backbone.name} each token reads "
                "those after it as well; set objective='mlm' or 'simcse', or give a causal network such as "
                "hf/distilgpt2"
            )
        return bound

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return the token after each position, and -100 at the last."""
        return Targets([functional.pad(ids[1:], (0, 1), value=-100) for ids in y], weight)

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the mean cross entropy over the tokens of each text (n,)."""
        assert outputs is not None
        known = targets != -100  # (n, n_tokens)
        return per_row(functional.cross_entropy(outputs, targets[known], reduction="none"), known)
