"""Encoder layers of transformers as one module with few calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sktransfer.kernels.attention import ATTENTION, pad_mask, pad_tokens
from sktransfer.kernels.linear import PackedLinear, is_close, replace_modules, with_spare_rows

__all__ = ["EncoderLayer", "fuse_encoder_layers"]

_LAYERS = ("BertLayer", "ElectraLayer", "RobertaLayer", "XLMRobertaLayer")  # one structure under several names


class EncoderLayer(nn.Module):
    """Encoder layer of BERT or RoBERTa, for inference on the CPU.

    One product gives queries, keys and values, which are padded together. Dropouts, the checks of transformers and the
    calls of inner modules are left out. With a single short text, a layer takes most of its time in calls.

    Parameters
    ----------
    layer : nn.Module
        Layer of transformers, with packed linear layers. Its modules are shared.
    """

    takes_bool_mask = True  # which stages need not turn into one to add

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention = layer.attention.self
        self.n_heads, self.scaling = attention.num_attention_heads, attention.scaling
        self.projection = PackedLinear.joined([attention.query, attention.key, attention.value])
        self.attended, self.attended_norm = layer.attention.output.dense, layer.attention.output.LayerNorm
        self.intermediate, activation = layer.intermediate.dense, layer.intermediate.intermediate_act_fn
        self.activation = None if type(activation) is nn.Identity else activation
        self.dense, self.norm = layer.output.dense, layer.output.LayerNorm

    def forward(self, values: Tensor, attention_mask: Tensor) -> Tensor:
        """Return hidden states (n, tokens, channels), with a bool or additive mask (n, 1, 1 or tokens, tokens)."""
        n, n_tokens, width = values.shape
        rows = with_spare_rows(values)  # (m, channels), as all products of the layer take and give them
        parts: Any = self._modules
        projected = parts["projection"].product(rows)[: n * n_tokens].view(n, n_tokens, -1)  # (n, tokens, 3 * channels)
        projected = pad_tokens(projected)  # (n, 16 k, 3 * channels)
        heads = projected.view(n, projected.shape[1], 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)  # (n, heads, 16 k, width)
        mask = pad_mask(attention_mask, n_tokens, n_tokens)  # (n, 1, 16 k, 16 k)
        out = functional.scaled_dot_product_attention(query, key, value, mask, scale=self.scaling)
        joined = torch.empty_like(rows)  # (m, channels)
        joined[: n * n_tokens].view(n, n_tokens, self.n_heads, -1).copy_(out.transpose(1, 2)[:, :n_tokens])
        rows = _norm(parts["attended_norm"], parts["attended"].product(joined) + rows)
        inner = parts["intermediate"].product(rows)  # (m, inner channels)
        inner = inner if self.activation is None else self.activation(inner)
        rows = _norm(parts["norm"], parts["dense"].product(inner) + rows)
        return rows[: n * n_tokens].view(n, n_tokens, width)  # (n, tokens, channels)


def _norm(norm: Any, rows: Tensor) -> Tensor:
    return torch.layer_norm(rows, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def fuse_encoder_layers(stages: nn.ModuleList) -> None:
    """Replace encoder layers of transformers by modules with fewer calls and the same outputs, in place.

    Layers with hooks, with linear layers that are not packed or have no bias, or with another attention stay unchanged.

    Parameters
    ----------
    stages : nn.ModuleList
        Stages on the CPU, in `eval()`, that `pad_attention` and `pack` have prepared. They cannot be trained.
    """
    layers = [module for module in stages.modules() if _is_known(module)]
    if layers and _agrees(layers[0]):
        replace_modules(stages, {id(layer): EncoderLayer(layer) for layer in layers})


def _is_known(module: Any) -> bool:
    """Return whether a module is an encoder layer that `EncoderLayer` can replace."""
    if type(module).__name__ not in _LAYERS or not type(module).__module__.startswith("transformers."):
        return False
    attention = module.attention.self
    outputs = module.attention.output, module.output
    linears = [attention.query, attention.key, attention.value, *(one.dense for one in (*outputs, module.intermediate))]
    return (
        attention.config._attn_implementation == ATTENTION
        and all(type(one.LayerNorm) is nn.LayerNorm for one in outputs)
        and all(type(linear) is PackedLinear and linear.bias is not None for linear in linears)
        and not any(one._forward_hooks or one._forward_pre_hooks for one in module.modules())
    )


def _agrees(layer: Any) -> bool:
    """Return whether the replacement gives equal outputs. Another release of transformers may compute otherwise."""
    weight = layer.attention.self.query.weight
    values = torch.linspace(-1, 1, 3 * weight.shape[1], dtype=weight.dtype).view(1, 3, -1)  # (1, 3, channels)
    mask = torch.zeros(1, 1, 1, 3, dtype=weight.dtype)
    with torch.inference_mode():
        expected = layer(values, attention_mask=mask)
        if not isinstance(expected, Tensor):
            return False
        return is_close(EncoderLayer(layer)(values, mask), expected)
