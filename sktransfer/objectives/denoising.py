"""Denoising: delete words of a text and reconstruct the whole text from one vector."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sktransfer._validation import check_fraction
from sktransfer.backbones.backbone import Backbone
from sktransfer.objectives.base import TextObjective, per_row, text_tokens
from sktransfer.objectives.heads import largest_embedding, n_attention_heads, token_table

__all__ = ["Denoising"]


class Denoising(TextObjective):
    """Reconstruct texts of which words are deleted: TSDAE [1]_, for `SelfSupervisedTuner`.

    The stages read the other words of a text, and a decoder of one layer writes the whole text. It sees the pooled
    vector of the text and the tokens that it has written, and nothing else. Its table of tokens is that of the first
    stage. It is thrown away after the training. Each epoch deletes other words, and at least one word of each text
    stays.

    Parameters
    ----------
    rate : float, default=0.6
        Share of the words that are deleted, greater than 0 and less than 1.

    See Also
    --------
    SelfSupervisedTuner : Trains a backbone by it.

    References
    ----------
    .. [1] K. Wang et al., "TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised Sentence
       Embedding Learning", Findings of EMNLP 2021.

    Examples
    --------
    >>> from sktransfer import Denoising, SelfSupervisedTuner
    >>> SelfSupervisedTuner("tiny/bert", objective=Denoising(rate=0.5)).objective
    Denoising(rate=0.5)
    """

    kind = "denoising"
    head_reads_targets = changes_input = True
    fewest_tokens = 2
    continues: np.ndarray  # (n_vocabulary,), whether a token continues the word before it
    limit: int
    n_vocabulary: int
    pad_value: int
    special: list[int]
    width: int

    def __init__(self, rate: float = 0.6) -> None:
        self.rate = rate

    def check_parameters(self) -> None:
        """Raise if a parameter is not allowed."""
        check_fraction("rate", self.rate)

    def for_backbone(self, backbone: Backbone) -> Self:
        """Return a copy that knows the tokens.

        Parameters
        ----------
        backbone : Backbone
            Backbone of texts.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        """
        bound = super().for_backbone(backbone)
        tokens = text_tokens(backbone)
        before, after = tokens.special_ids
        bound.special = sorted({*before, *after})
        bound.n_vocabulary, bound.width = token_table(backbone).shape
        bound.continues = tokens.continues(bound.n_vocabulary)
        bound.limit, bound.pad_value = tokens.limit, tokens.pad_value
        return bound

    def make_head(self, n_features: int, n_mixed: int | None = None) -> nn.Module:
        """Return a new decoder."""
        return _Decoder(n_features, self.n_vocabulary, self.width, self.limit)

    def connect_head(self, head: nn.Module, stages: nn.ModuleList) -> None:
        """Tie the table of the decoder to that of the first stage, as a buffer if that is frozen."""
        table = largest_embedding(stages[0])
        assert table is not None  # `for_backbone` has asked for it
        if table.requires_grad:
            head.table = table
        else:
            del head.table
            head.register_buffer("table", table.detach(), persistent=False)

    def corrupt(
        self, arguments: dict[str, Tensor], targets: Tensor, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return texts without the deleted words (n, n_left), and the whole texts."""
        ids, mask = arguments["values"], arguments["mask"]  # (n, n_tokens) each
        device = ids.device
        is_special = torch.isin(ids, torch.tensor(self.special, device=device)) | ~mask
        starts = is_special | ~torch.from_numpy(self.continues).to(device)[ids]
        word = starts.cumsum(1) - 1  # (n, n_tokens)
        of_word = torch.rand(ids.shape, device=device, generator=generator)
        draw = of_word.gather(1, word.clamp(min=0)).masked_fill(is_special, -1.0)  # (n, n_tokens), equal in a word
        left = (draw >= self.rate) | (draw == draw.amax(1, keepdim=True))
        left = (left | is_special) & mask
        order = (~left).to(torch.uint8).argsort(dim=1, stable=True)  # (n, n_tokens)
        n_left = left.sum(1, keepdim=True)  # (n, 1)
        longest = int(n_left.max())
        mask = torch.arange(longest, device=device) < n_left  # (n, n_left)
        values = ids.gather(1, order)[:, :longest].masked_fill(~mask, self.pad_value)  # (n, n_left)
        return {**arguments, "values": values, "mask": mask}, targets

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the mean cross entropy over the tokens of each text, without the first one, (n,)."""
        assert outputs is not None
        known = targets[:, 1:] != -100  # (n, n_tokens - 1)
        return per_row(functional.cross_entropy(outputs, targets[:, 1:][known], reduction="none"), known)


class _Decoder(nn.Module):
    """Decoder of one layer that sees one vector per text.

    Parameters
    ----------
    n_features : int
        Width of the vector.
    n_vocabulary, width : int
        Shape of the table of tokens.
    limit : int
        Largest number of tokens of a text.
    """

    table: Tensor | None

    def __init__(self, n_features: int, n_vocabulary: int, width: int, limit: int) -> None:
        super().__init__()
        self.register_parameter("table", None)
        n_heads = n_attention_heads(n_features)
        self.enter = nn.Linear(width, n_features)
        self.positions = nn.Embedding(limit, n_features)
        self.norm = nn.LayerNorm(n_features)
        options = {"activation": "gelu", "batch_first": True}
        self.layer = nn.TransformerDecoderLayer(n_features, n_heads, 2 * n_features, **options)  # type: ignore[arg-type]
        self.leave = nn.Linear(n_features, width)
        self.bias = nn.Parameter(torch.zeros(n_vocabulary))

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return logits (m, n_vocabulary) of all tokens but the first of each text (n, n_tokens)."""
        assert self.table is not None
        read, known = targets[:, :-1], targets[:, 1:] != -100  # (n, n_tokens - 1) each
        n_read = read.shape[1]
        positions = self.positions(torch.arange(n_read, device=read.device))  # (n_tokens - 1, n_features)
        written = self.norm(self.enter(self.table[read.clamp(min=0)]) + positions)  # (n, n_tokens - 1, n_features)
        later = torch.ones(n_read, n_read, dtype=torch.bool, device=read.device).triu(1)  # (n_tokens - 1) twice
        values = self.layer(written, features[:, None], tgt_mask=later)  # (n, n_tokens - 1, n_features)
        logits: Tensor = functional.linear(self.leave(values[known]), self.table, self.bias)  # (m, n_vocabulary)
        return logits
