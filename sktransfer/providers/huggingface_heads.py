"""The heads of text models of transformers that classify whole texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from sktransfer.backbones.stages import PooledHead

__all__ = ["TEXT_HEADS"]


class FirstTokenHead(nn.Module):
    """A head that takes the whole last stage, and the first token from it.

    Parameters
    ----------
    *modules : nn.Module
        The first takes (n, tokens, channels).
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*modules)

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (n, n_categories)."""
        logits: Tensor = self.body(values)
        return logits


def _bert(model: Any) -> nn.Module:
    return FirstTokenHead(model.base_model.pooler, model.dropout, model.classifier)


def _whole(model: Any) -> nn.Module:
    return FirstTokenHead(model.classifier)


def _distilbert(model: Any) -> nn.Module:
    layers = nn.Sequential(model.pre_classifier, nn.ReLU(), model.dropout, model.classifier)
    return PooledHead(layers, "class_token")


def _albert(model: Any) -> nn.Module:
    base = model.base_model
    return PooledHead(
        nn.Sequential(base.pooler, base.pooler_activation, model.dropout, model.classifier), "class_token"
    )


def _deberta(model: Any) -> nn.Module:
    return FirstTokenHead(model.pooler, model.dropout, model.classifier)


def _modernbert(model: Any) -> nn.Module:
    pooling = {"cls": "class_token", "mean": "mean"}[model.config.classifier_pooling]
    return PooledHead(nn.Sequential(model.head, model.drop, model.classifier), pooling)


def _gpt(model: Any) -> nn.Module:
    return PooledHead(model.score, "last_token")


TEXT_HEADS: dict[str, Callable[[Any], nn.Module]] = {
    "albert": _albert,
    "bert": _bert,
    "deberta-v2": _deberta,
    "distilbert": _distilbert,
    "electra": _whole,
    "gpt2": _gpt,
    "modernbert": _modernbert,
    "mpnet": _whole,
    "openai-gpt": _gpt,
    "roberta": _whole,
    "xlm-roberta": _whole,
}
