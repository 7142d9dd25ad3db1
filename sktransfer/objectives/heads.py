"""Parts of the heads of objectives, and new language-model heads for backbones whose weights have none."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.language import HeldHead, LanguageModelHead
from sktransfer.exceptions import InvalidParameterError

__all__ = ["is_causal", "largest_embedding", "n_attention_heads", "token_table", "with_new_lm_head"]

_LEAST_WIDTH = 32  # channels of an attention head of a decoder


def n_attention_heads(n_features: int) -> int:
    """Return the largest number of attention heads that divides a width, with 32 channels or more each.

    Parameters
    ----------
    n_features : int
        Width of the decoder. A narrower one has one head.

    Examples
    --------
    >>> from sktransfer.objectives.heads import n_attention_heads
    >>> n_attention_heads(160), n_attention_heads(100), n_attention_heads(8)
    (5, 2, 1)
    """
    return max(n for n in range(1, max(1, n_features // _LEAST_WIDTH) + 1) if n_features % n == 0)


def token_table(backbone: Backbone) -> nn.Parameter:
    """Return the table of token embeddings (n_vocabulary, width) of a backbone of texts.

    Parameters
    ----------
    backbone : Backbone
        Backbone of texts.

    Raises
    ------
    InvalidParameterError
        If its first stage has none.
    """
    table = largest_embedding(backbone.stages[0])
    if table is None:
        raise InvalidParameterError(
            f"backbone: the first stage of {backbone.name} has no torch.nn.Embedding, whose tokens could be predicted; "
            "set objective='simcse'"
        )
    return table


def largest_embedding(stage: nn.Module) -> nn.Parameter | None:
    """Return the table with the most rows of a stage (n_rows, width); None if it has no table.

    Parameters
    ----------
    stage : nn.Module
        First stage of a backbone of texts.
    """
    tables: list[Any] = [module.weight for module in stage.modules() if isinstance(module, nn.Embedding)]
    return max(tables, key=len, default=None)


def with_new_lm_head(source: Backbone, kind: str) -> Backbone:
    """Return a backbone with a new language-model head, tied to the table of token embeddings.

    It is the `origin` of the backbone that it returns. The weights of the head are drawn, seeded by those of the
    stages.

    Parameters
    ----------
    source : Backbone
        Backbone of texts.
    kind : {"masked", "causal"}
        Kind of the head.
    """
    table = token_table(source)
    (ids,) = source.preprocess(["a"])
    mask = torch.ones(1, len(ids), dtype=torch.bool)  # (1, n_tokens)
    with torch.no_grad():
        *_, last = source.run(ids[None], mask)  # (1, n_tokens, n_features)
    make = functools.partial(_new_head, kind, last.shape[2], table)
    return source._changed(_lm_head=HeldHead(make), origin=(with_new_lm_head, (source, kind)))


def _new_head(kind: str, n_features: int, table: nn.Parameter) -> LanguageModelHead:
    """Return BERT's head: a layer, and the table of token embeddings with a bias."""
    n_vocabulary, width = table.shape
    transform = nn.Linear(n_features, width)
    nn.init.trunc_normal_(transform.weight, std=0.02)
    nn.init.zeros_(transform.bias)
    output = nn.Linear(width, n_vocabulary)
    nn.init.zeros_(output.bias)
    output.weight = table
    return LanguageModelHead(kind, transform, nn.GELU(), nn.LayerNorm(width), output)


@torch.no_grad()
def is_causal(backbone: Backbone) -> bool:
    """Return whether the values of a token do not depend on the tokens after it.

    Parameters
    ----------
    backbone : Backbone
        Backbone of texts.
    """
    table = token_table(backbone)
    ids = torch.arange(4).remainder(len(table)).repeat(2, 1)  # (2, 4)
    ids[1, -1] = len(table) - 1
    *_, last = backbone.run(ids, torch.ones(2, 4, dtype=torch.bool))  # (2, 4, n_features)
    return torch.allclose(last[0, :-1], last[1, :-1], atol=1e-5, rtol=1e-4)
