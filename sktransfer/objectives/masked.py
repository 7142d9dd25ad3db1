"""Masked tokens: hide tokens of a text and predict them from the others."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from sktransfer._validation import check_fraction
from sktransfer.backbones.backbone import Backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.objectives.base import TextObjective, per_row, text_tokens
from sktransfer.objectives.heads import token_table

__all__ = ["MaskedTokens"]

_MASKED, _RANDOM = 0.8, 0.1  # shares of the hidden tokens that are masked or replaced; the others stay


class MaskedTokens(TextObjective):
    """Predict hidden tokens of a text: BERT's masked language model [1]_, for `SelfSupervisedTuner`.

    Of the hidden tokens, 80 % are replaced by the mask token, 10 % by a random token, and 10 % stay. Each epoch hides
    others. Special tokens are never hidden, and at least one token of each text is. The loss of a text is the mean over
    its hidden tokens.

    Parameters
    ----------
    probability : float, default=0.15
        Probability of each token to be hidden, greater than 0 and less than 1.

    See Also
    --------
    SelfSupervisedTuner : Trains a backbone by it.

    References
    ----------
    .. [1] J. Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
       NAACL 2019.

    Examples
    --------
    >>> from sktransfer import MaskedTokens, SelfSupervisedTuner
    >>> SelfSupervisedTuner("tiny/bert", objective=MaskedTokens(probability=0.3)).objective
    MaskedTokens(probability=0.3)
    """

    kind, reads = "masked-tokens", "tokens"
    trains_lm_head = head_reads_targets = changes_input = True
    lm_kind, fewest_tokens = "masked", 2
    mask_value: int
    n_vocabulary: int
    special: list[int]

    def __init__(self, probability: float = 0.15) -> None:
        self.probability = probability

    def check_parameters(self) -> None:
        """Raise if a parameter is not allowed."""
        check_fraction("probability", self.probability)

    def for_backbone(self, backbone: Backbone) -> Self:
        """Return a copy that knows the ids of the tokens.

        Parameters
        ----------
        backbone : Backbone
            Backbone with a masked `lm_head`.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed, or its tokenizer has no mask token.
        """
        bound = super().for_backbone(backbone)
        tokens = text_tokens(backbone)
        if tokens.mask_value is None:
            raise InvalidParameterError(
                f"backbone: the tokenizer of {backbone.name} names no mask token, which objective='mlm' needs; set "
                "objective='simcse', or set `tokenizer.mask_token` and save it with `tokenizer.save_pretrained(folder)`"
            )
        before, after = tokens.special_ids
        bound.mask_value = tokens.mask_value
        bound.special = sorted({*before, *after, tokens.pad_value, tokens.mask_value})
        bound.n_vocabulary = len(token_table(backbone))
        return bound

    def corrupt(
        self, arguments: dict[str, Tensor], targets: Tensor, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return texts with hidden tokens (n, n_tokens), and the hidden tokens, -100 at other positions."""
        ids = arguments["values"]  # (n, n_tokens)
        may_hide = arguments["mask"] & ~torch.isin(ids, torch.tensor(self.special, device=ids.device))
        options: dict[str, Any] = {"device": ids.device, "generator": generator}
        order = torch.rand(ids.shape, **options).masked_fill(~may_hide, 2.0)  # (n, n_tokens)
        hidden = order < self.probability
        # A text has at least one hidden token: the one that is drawn first.
        first = functional.one_hot(order.argmin(1), ids.shape[1]).bool()  # (n, n_tokens)
        hidden |= first & may_hide
        how = torch.rand(ids.shape, **options)
        drawn = torch.randint(self.n_vocabulary, ids.shape, **options)
        changed = torch.where(how < _MASKED, self.mask_value, torch.where(how < _MASKED + _RANDOM, drawn, ids))
        values = torch.where(hidden, changed, ids)
        return {**arguments, "values": values}, ids.masked_fill(~hidden, -100)

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the mean cross entropy over the hidden tokens of each text (n,)."""
        assert outputs is not None
        hidden = targets != -100  # (n, n_tokens)
        return per_row(functional.cross_entropy(outputs, targets[hidden], reduction="none"), hidden)
