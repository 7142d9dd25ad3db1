"""Text models of transformers as stages.

Every stage takes the values of the one before it and the mask, and makes what else a layer needs (additive masks,
causal and local windows, position biases, rotary tables) from their shape. Modules that several stages share stand in
each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.exceptions import WeightsError

__all__ = ["TEXT_STAGES", "attention_bias"]

_LENGTH_DEPENDENT = {"dynamic", "longrope"}  # rotary tables that are made anew for longer batches
_MPNET_BUCKETS = 32  # transformers takes this many, whatever the configuration says


def attention_bias(values: Tensor, mask: Tensor, *, causal: bool = False, window: int | None = None) -> Tensor:
    """Return what is added to attention scores so that no token looks where it must not.

    Parameters
    ----------
    values : Tensor of shape (n, tokens, channels)
        Gives the type and the device.
    mask : Tensor of shape (n, tokens)
        True where a token is real: only those are looked at.
    causal : bool, default=False
        Whether tokens look back only.
    window : int, default=None
        How far tokens look to either side; None for all the way.

    Returns
    -------
    bias : Tensor of shape (n, 1, 1 or tokens, tokens)
        0 where a token may look; else the least finite number, for -inf would give NaN where a row holds nothing else.
    """
    allowed = mask[:, None, None, :]  # (n, 1, 1, tokens)
    if causal or window is not None:
        places = torch.arange(mask.shape[1], device=mask.device)
        distance = places[:, None] - places  # (tokens, tokens): how far back
        if causal:
            allowed = allowed & (distance >= 0)  # (n, 1, tokens, tokens)
        if window is not None:
            allowed = allowed & (distance.abs() <= window)  # (n, 1, tokens, tokens)
    bias = torch.zeros(allowed.shape, dtype=values.dtype, device=values.device)
    return bias.masked_fill(~allowed, torch.finfo(values.dtype).min)


def _tensor(output: Any) -> Tensor:
    """Return a layer's values: some layers give them alone, some in a tuple with attention maps."""
    values: Tensor = output[0] if isinstance(output, (tuple, list)) else output
    return values


class Embeddings(nn.Module):
    """Token ids (n, tokens) to hidden states (n, tokens, channels).

    Parameters
    ----------
    embeddings : nn.Module
        The model's own.
    project : nn.Module, default=None
        From the embeddings' width to that of the layers, where these differ.
    """

    def __init__(self, embeddings: nn.Module, project: nn.Module | None = None) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.project = nn.Identity() if project is None else project

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        out: Tensor = self.project(self.embeddings(input_ids=ids))  # (n, tokens, channels)
        return out


class CountedEmbeddings(Embeddings):
    """Embeddings whose positions count the real tokens, from behind the padding's position.

    The model itself counts ids that are not the padding's; the mask says the same, and is right also where a text
    spells out the padding token.
    """

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        padding: Any = self.embeddings.padding_idx
        positions = mask.cumsum(1) * mask + padding  # (n, tokens)
        out: Tensor = self.embeddings(input_ids=ids, position_ids=positions)  # (n, tokens, channels)
        return out


class MaskedEmbeddings(Embeddings):
    """Embeddings that are zero where there is padding."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        out: Tensor = self.embeddings(input_ids=ids, mask=mask)  # (n, tokens, channels)
        return out


class SummedEmbeddings(nn.Module):
    """Embeddings of a GPT: those of the token and of its position.

    Parameters
    ----------
    tokens, positions : nn.Embedding
        Tables of the same width.
    dropout : nn.Module
        What the model puts behind the sum.
    """

    def __init__(self, tokens: nn.Module, positions: nn.Module, dropout: nn.Module) -> None:
        super().__init__()
        self.tokens, self.positions, self.dropout = tokens, positions, dropout

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        places = torch.arange(ids.shape[1], device=ids.device)
        out: Tensor = self.dropout(self.tokens(ids) + self.positions(places))  # (n, tokens, channels)
        return out


class Layer(nn.Module):
    """A layer that needs no more than its values and a mask.

    Parameters
    ----------
    layer : nn.Module
        The model's own.
    causal : bool, default=False
        Whether tokens look back only.
    norm : nn.Module, default=None
        The model's last norm, behind its last layer.
    """

    def __init__(self, layer: nn.Module, *, causal: bool = False, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layer, self.causal = layer, causal
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        bias = attention_bias(values, mask, causal=self.causal)
        out: Tensor = self.norm(_tensor(self.layer(values, attention_mask=bias)))  # (n, tokens, channels)
        return out


class MPNetLayer(nn.Module):
    """A layer of MPNet, whose attention adds a bias for the distance of two tokens: one table for all layers.

    Parameters
    ----------
    layer : nn.Module
        The model's own.
    distances : nn.Embedding
        From buckets of distances to one number a head.
    bucket : callable
        From distances to buckets, the model's own.
    """

    def __init__(self, layer: nn.Module, distances: nn.Module, bucket: Callable[..., Tensor]) -> None:
        super().__init__()
        self.layer, self.distances, self.bucket = layer, distances, bucket

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        places = torch.arange(values.shape[1], device=values.device)
        buckets = self.bucket(places - places[:, None], num_buckets=_MPNET_BUCKETS)  # (tokens, tokens)
        by_distance = self.distances(buckets).permute(2, 0, 1)[None]  # (1, heads, tokens, tokens)
        return _tensor(self.layer(values, attention_mask=attention_bias(values, mask), position_bias=by_distance))


class DebertaLayer(nn.Module):
    """A layer of DeBERTa v2 or v3, whose attention embeds the distance of two tokens: one table for all layers.

    Parameters
    ----------
    layer : nn.Module
        The model's own; it makes distances from the shape of its values.
    distances : nn.Embedding or None
        Embeddings of distances; None where the configuration asks for none.
    norm : nn.Module, default=None
        What the embeddings go through first.
    convolution : nn.Module, default=None
        What some models add to their first layer.
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
        # A convolution reaches over the end of a text: there must be zeros, as where the whole batch ends.
        mixed: Tensor = self.convolution(values * mask[:, :, None], out, mask.long())  # (n, tokens, channels)
        return mixed


class ModernBertLayer(nn.Module):
    """A layer of ModernBERT: tokens look at all others or, in most layers, at their neighbours.

    Parameters
    ----------
    layer : nn.Module
        The model's own.
    rotary : nn.Module
        Makes the tables that turn queries and keys by their position.
    window : int or None
        How far tokens look to either side; None for all the way.
    norm : nn.Module, default=None
        The model's last norm, behind its last layer.
    """

    def __init__(self, layer: nn.Module, rotary: nn.Module, window: int | None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layer, self.rotary, self.window = layer, rotary, window
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels)."""
        places = torch.arange(values.shape[1], device=values.device)[None]  # (1, tokens)
        tables = self.rotary(values, places, self.layer.attention_type)  # cosines and sines, (1, tokens, head channels)
        bias = attention_bias(values, mask, window=self.window)
        out: Tensor = self.norm(_tensor(self.layer(values, attention_mask=bias, position_embeddings=tables)))
        return out


def _encoder(model: Any, embeddings: nn.Module) -> list[nn.Module]:
    causal = getattr(model.config, "is_decoder", False)
    return [embeddings, *(Layer(layer, causal=causal) for layer in model.encoder.layer)]


def _bert(model: Any) -> list[nn.Module]:
    return _encoder(model, Embeddings(model.embeddings, getattr(model, "embeddings_project", None)))  # ELECTRA has one


def _roberta(model: Any) -> list[nn.Module]:
    return _encoder(model, CountedEmbeddings(model.embeddings))


def _distilbert(model: Any) -> list[nn.Module]:
    return [Embeddings(model.embeddings), *(Layer(layer) for layer in model.transformer.layer)]


def _albert(model: Any) -> list[nn.Module]:
    groups, n = model.encoder.albert_layer_groups, model.config.num_hidden_layers
    first = Embeddings(model.embeddings, model.encoder.embedding_hidden_mapping_in)
    return [first, *(Layer(groups[int(i / (n / len(groups)))]) for i in range(n))]


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
    changing = _LENGTH_DEPENDENT & set(model.rotary_emb.rope_type.values())
    if changing:
        raise WeightsError(
            f"rope_type={changing.pop()!r} makes a text's values depend on the longest text of its batch; not supported"
        )
    stages: list[nn.Module] = [Embeddings(model.embeddings)]
    for layer in model.layers:
        window = model.config.sliding_window if layer.attention_type == "sliding_attention" else None
        norm = model.final_norm if layer is model.layers[-1] else None
        stages.append(ModernBertLayer(layer, model.rotary_emb, window, norm))
    return stages


def _openai_gpt(model: Any) -> list[nn.Module]:
    first = SummedEmbeddings(model.tokens_embed, model.positions_embed, model.drop)
    return [first, *(Layer(block) for block in model.h)]  # its attention looks back only by itself


def _gpt2(model: Any) -> list[nn.Module]:
    norms = [None] * (len(model.h) - 1) + [model.ln_f]
    layers = [Layer(block, causal=True, norm=norm) for block, norm in zip(model.h, norms)]
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
