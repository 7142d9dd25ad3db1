"""Text models of transformers as stages, and their classification and language-model heads.

Every stage takes the values of the stage before it and the mask. It recomputes all other inputs of a layer (additive
masks, causal and local windows, position biases, rotary tables) from their shapes. Modules that several stages share
are part of each of them. Class names are part of the fingerprints of backbones, so renaming a class invalidates caches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.backbones import PooledHead
from sktransfer.exceptions import WeightsError

__all__ = ["LM_HEADS", "TEXT_HEADS", "TEXT_STAGES", "FirstTokenHead", "TextEmbeddings", "TextLayer", "attention_bias"]

_LENGTH_DEPENDENT = {"dynamic", "longrope"}  # rotary tables that depend on the length of the batch
_MPNET_BUCKETS = 32  # fixed in transformers, which ignores the configuration


def attention_bias(values: Tensor, mask: Tensor, *, causal: bool = False, window: int | None = None) -> Tensor:
    """Return the additive attention mask.

    Parameters
    ----------
    values : Tensor of shape (n, tokens, channels)
        Determines dtype and device.
    mask : Tensor of shape (n, tokens)
        True where a token is real. Only real tokens are attended to.
    causal : bool, default=False
        Whether tokens attend only to earlier ones and themselves.
    window : int, default=None
        Largest distance of attention to either side. None for no limit.

    Returns
    -------
    bias : Tensor of shape (n, 1, 1 or tokens, tokens)
        0 where attention is allowed, else the smallest finite number. A row of -inf would give NaN.
    """
    allowed = mask[:, None, None, :]  # (n, 1, 1, tokens)
    if causal or window is not None:
        positions = torch.arange(mask.shape[1], device=mask.device)
        distance = positions[:, None] - positions  # (tokens, tokens): distance to earlier tokens
        if causal:
            allowed = allowed & (distance >= 0)  # (n, 1, tokens, tokens)
        if window is not None:
            allowed = allowed & (distance.abs() <= window)  # (n, 1, tokens, tokens)
    bias = torch.zeros(allowed.shape, dtype=values.dtype, device=values.device)
    return bias.masked_fill(~allowed, torch.finfo(values.dtype).min)


def _tensor(output: Any) -> Tensor:
    """Return the values of a layer's output, which may be a tuple with attention maps."""
    values: Tensor = output[0] if isinstance(output, (tuple, list)) else output
    return values


class TextEmbeddings(nn.Module):
    """First stage: from token ids (n, tokens) to hidden states (n, tokens, channels).

    Parameters
    ----------
    embeddings : nn.Module
        Embeddings of the model, called as `embeddings(input_ids=ids)`.
    project : nn.Module, default=None
        Projection from the width of the embeddings to that of the layers, if they differ.
    """

    def __init__(self, embeddings: nn.Module, project: nn.Module | None = None) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.project = nn.Identity() if project is None else project

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        out: Tensor = self.project(self.embeddings(input_ids=ids))  # (n, tokens, channels)
        return out


class CountedEmbeddings(TextEmbeddings):
    """Embeddings whose positions count the real tokens, starting after the padding position.

    The model itself counts ids other than the padding id. The mask counts the same tokens, and is also right for a text
    that contains the padding token.
    """

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        padding: Any = self.embeddings.padding_idx
        positions = mask.cumsum(1) * mask + padding  # (n, tokens)
        out: Tensor = self.embeddings(input_ids=ids, position_ids=positions)  # (n, tokens, channels)
        return out


class MaskedEmbeddings(TextEmbeddings):
    """Embeddings that are zero at padding."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        out: Tensor = self.embeddings(input_ids=ids, mask=mask)  # (n, tokens, channels)
        return out


class SummedEmbeddings(nn.Module):
    """Sum of token and position embeddings, as in a GPT.

    Parameters
    ----------
    tokens, positions : nn.Embedding
        Tables of the same width.
    dropout : nn.Module
        Dropout of the sum.
    """

    def __init__(self, tokens: nn.Module, positions: nn.Module, dropout: nn.Module) -> None:
        super().__init__()
        self.tokens, self.positions, self.dropout = tokens, positions, dropout

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        places = torch.arange(ids.shape[1], device=ids.device)
        out: Tensor = self.dropout(self.tokens(ids) + self.positions(places))  # (n, tokens, channels)
        return out


class TextLayer(nn.Module):
    """Stage of one transformer layer, called as `layer(values, attention_mask=bias)`.

    Parameters
    ----------
    layer : nn.Module
        Layer of the model.
    causal : bool, default=False
        Whether tokens attend only to earlier ones and themselves.
    norm : nn.Module, default=None
        Final norm of the model. Only the last layer has it.
    """

    def __init__(self, layer: nn.Module, *, causal: bool = False, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layer, self.causal = layer, causal
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        takes_bool = not self.causal and getattr(self.layer, "takes_bool_mask", False)
        bias = mask[:, None, None, :] if takes_bool else attention_bias(values, mask, causal=self.causal)
        out: Tensor = self.norm(_tensor(self.layer(values, attention_mask=bias)))  # (n, tokens, channels)
        return out


class MPNetLayer(nn.Module):
    """Layer of MPNet, whose attention adds a bias for the distance of two tokens. All layers share one table.

    Parameters
    ----------
    layer : nn.Module
        Layer of the model.
    distances : nn.Embedding
        From buckets of distances to one bias per head.
    bucket : callable
        Function of the model from distances to buckets.
    """

    def __init__(self, layer: nn.Module, distances: nn.Module, bucket: Callable[..., Tensor]) -> None:
        super().__init__()
        self.layer, self.distances, self.bucket = layer, distances, bucket

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        positions = torch.arange(values.shape[1], device=values.device)
        buckets = self.bucket(positions - positions[:, None], num_buckets=_MPNET_BUCKETS)  # (tokens, tokens)
        by_distance = self.distances(buckets).permute(2, 0, 1)[None]  # (1, heads, tokens, tokens)
        return _tensor(self.layer(values, attention_mask=attention_bias(values, mask), position_bias=by_distance))


class DebertaLayer(nn.Module):
    """Layer of DeBERTa v2 or v3, whose attention embeds the distance of two tokens. All layers share one table.

    Parameters
    ----------
    layer : nn.Module
        Layer of the model. It computes distances from the shape of its values.
    distances : nn.Embedding or None
        Embeddings of distances. None if the configuration has none.
    norm : nn.Module, default=None
        Norm of the embeddings of distances.
    convolution : nn.Module, default=None
        Convolution that some models add to their first layer.
    """

    def __init__(
        self,
        layer: nn.Module,
        distances: nn.Module | None,
        norm: nn.Module | None,
        convolution: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.layer, self.distances, self.norm, self.convolution = layer, distances, norm, convolution

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        table = None if self.distances is None else self.distances.weight  # (distances, channels)
        if table is not None and self.norm is not None:
            table = self.norm(table)
        out = _tensor(self.layer(values, mask[:, None, None, :], rel_embeddings=table))  # (n, tokens, channels)
        if self.convolution is None:
            return out
        # The convolution reads beyond the end of a text, so padding must be zero, as beyond the end of the batch.
        mixed: Tensor = self.convolution(values * mask[:, :, None], out, mask.long())  # (n, tokens, channels)
        return mixed


class ModernBertLayer(nn.Module):
    """Layer of ModernBERT, with global attention or, in most layers, local attention.

    Parameters
    ----------
    layer : nn.Module
        Layer of the model.
    rotary : nn.Module
        Computes the rotary tables of queries and keys.
    window : int or None
        Largest distance of attention to either side. None for global attention.
    norm : nn.Module, default=None
        Final norm of the model. Only the last layer has it.
    """

    def __init__(self, layer: nn.Module, rotary: nn.Module, window: int | None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layer, self.rotary, self.window = layer, rotary, window
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        positions = torch.arange(values.shape[1], device=values.device)[None]  # (1, tokens)
        tables = self.rotary(
            values, positions, self.layer.attention_type
        )  # cosines and sines, (1, tokens, head channels)
        bias = attention_bias(values, mask, window=self.window)
        out: Tensor = self.norm(_tensor(self.layer(values, attention_mask=bias, position_embeddings=tables)))
        return out


def _encoder(model: Any, embeddings: nn.Module) -> list[nn.Module]:
    causal = getattr(model.config, "is_decoder", False)
    return [embeddings, *(TextLayer(layer, causal=causal) for layer in model.encoder.layer)]


def _bert(model: Any) -> list[nn.Module]:
    return _encoder(
        model, TextEmbeddings(model.embeddings, getattr(model, "embeddings_project", None))
    )  # ELECTRA has one


def _roberta(model: Any) -> list[nn.Module]:
    return _encoder(model, CountedEmbeddings(model.embeddings))


def _distilbert(model: Any) -> list[nn.Module]:
    return [TextEmbeddings(model.embeddings), *(TextLayer(layer) for layer in model.transformer.layer)]


def _albert(model: Any) -> list[nn.Module]:
    groups, n = model.encoder.albert_layer_groups, model.config.num_hidden_layers
    first = TextEmbeddings(model.embeddings, model.encoder.embedding_hidden_mapping_in)
    return [first, *(TextLayer(groups[int(i / (n / len(groups)))]) for i in range(n))]


def _mpnet(model: Any) -> list[nn.Module]:
    encoder = model.encoder
    distances, bucket = encoder.relative_attention_bias, encoder.relative_position_bucket
    return [CountedEmbeddings(model.embeddings), *(MPNetLayer(layer, distances, bucket) for layer in encoder.layer)]


def _deberta(model: Any) -> list[nn.Module]:
    encoder = model.encoder
    distances, norm = getattr(encoder, "rel_embeddings", None), getattr(encoder, "LayerNorm", None)
    layers = [
        DebertaLayer(layer, distances, norm, None if i else encoder.conv) for i, layer in enumerate(encoder.layer)
    ]
    return [MaskedEmbeddings(model.embeddings), *layers]


def _modernbert(model: Any) -> list[nn.Module]:
    unsupported = _LENGTH_DEPENDENT & set(model.rotary_emb.rope_type.values())
    if unsupported:
        raise WeightsError(
            f"rope_type={unsupported.pop()!r} is not supported: it makes a text's values depend on the longest text of "
            "its batch"
        )
    stages: list[nn.Module] = [TextEmbeddings(model.embeddings)]
    for layer in model.layers:
        window = model.config.sliding_window if layer.attention_type == "sliding_attention" else None
        norm = model.final_norm if layer is model.layers[-1] else None
        stages.append(ModernBertLayer(layer, model.rotary_emb, window, norm))
    return stages


def _openai_gpt(model: Any) -> list[nn.Module]:
    first = SummedEmbeddings(model.tokens_embed, model.positions_embed, model.drop)
    return [first, *(TextLayer(block) for block in model.h)]  # its attention is causal already


def _gpt2(model: Any) -> list[nn.Module]:
    norms = [None] * (len(model.h) - 1) + [model.ln_f]
    layers = [TextLayer(block, causal=True, norm=norm) for block, norm in zip(model.h, norms)]
    return [SummedEmbeddings(model.wte, model.wpe, model.drop), *layers]


TEXT_STAGES: dict[str, Callable[[Any], list[nn.Module]]] = {
    "albert": _albert,
    "bert": _bert,
    "deberta-v2": _deberta,
    "distilbert": _distilbert,
    "electra": _bert,
    "gpt2": _gpt2,
    "modernbert": _modernbert,
    "mpnet": _mpnet,
    "openai-gpt": _openai_gpt,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
}


class FirstTokenHead(nn.Module):
    """Head on the whole last stage, whose first module selects the first token.

    Parameters
    ----------
    *modules : nn.Module
        Modules in order. The first takes (n, tokens, channels).
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*modules)

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (n, n_categories)."""
        logits: Tensor = self.body(values)
        return logits


def _bert_head(model: Any) -> nn.Module:
    return FirstTokenHead(model.base_model.pooler, model.dropout, model.classifier)


def _classifier_head(model: Any) -> nn.Module:
    return FirstTokenHead(model.classifier)


def _distilbert_head(model: Any) -> nn.Module:
    layers = nn.Sequential(model.pre_classifier, nn.ReLU(), model.dropout, model.classifier)
    return PooledHead(layers, "class_token")


def _albert_head(model: Any) -> nn.Module:
    base = model.base_model
    return PooledHead(
        nn.Sequential(base.pooler, base.pooler_activation, model.dropout, model.classifier), "class_token"
    )


def _deberta_head(model: Any) -> nn.Module:
    return FirstTokenHead(model.pooler, model.dropout, model.classifier)


def _modernbert_head(model: Any) -> nn.Module:
    pooling = {"cls": "class_token", "mean": "mean"}[model.config.classifier_pooling]
    return PooledHead(nn.Sequential(model.head, model.drop, model.classifier), pooling)


def _gpt_head(model: Any) -> nn.Module:
    return PooledHead(model.score, "last_token")


TEXT_HEADS: dict[str, Callable[[Any], nn.Module]] = {
    "albert": _albert_head,
    "bert": _bert_head,
    "deberta-v2": _deberta_head,
    "distilbert": _distilbert_head,
    "electra": _classifier_head,
    "gpt2": _gpt_head,
    "modernbert": _modernbert_head,
    "mpnet": _classifier_head,
    "openai-gpt": _gpt_head,
    "roberta": _classifier_head,
    "xlm-roberta": _classifier_head,
}


def _lm_layers(*names: str) -> Callable[[Any], list[nn.Module]]:
    return lambda model: [model.get_submodule(name) for name in names]


def _distilbert_lm_layers(model: Any) -> list[nn.Module]:
    return [model.vocab_transform, model.activation, model.vocab_layer_norm, model.vocab_projector]


# Modules from the last stage's values to logits over the vocabulary, in order.
LM_HEADS: dict[str, Callable[[Any], list[nn.Module]]] = {
    "albert": _lm_layers("predictions"),
    "bert": _lm_layers("cls.predictions"),
    "distilbert": _distilbert_lm_layers,
    "electra": _lm_layers("generator_predictions", "generator_lm_head"),
    "gpt2": _lm_layers("lm_head"),
    "modernbert": _lm_layers("head", "decoder"),
    "mpnet": _lm_layers("lm_head"),
    "openai-gpt": _lm_layers("lm_head"),
    "roberta": _lm_layers("lm_head"),
    "xlm-roberta": _lm_layers("lm_head"),
}
