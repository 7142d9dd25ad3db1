"""Attention of texts whose rounding does not depend on the padding of their batch."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["ATTENTION", "PaddingInvariantAttention", "pad_attention", "pad_mask", "pad_tokens"]

_MULTIPLE = 16  # float32 numbers in a register of AVX-512; those of AVX2 hold 8
ATTENTION = "sktransfer_sdpa"  # name in the registry of transformers
_FUNCTION = "scaled_dot_product_attention"
_TRANSFORMERS = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_READABLE = ("torch", "transformers", "sktransfer")  # packages whose modules call attention as `_calls_attention` reads


class PaddingInvariantAttention(TorchFunctionMode):
    """Context in which attention gives the same bits for any length of the longest text of a batch.

    Kernels sum over the tokens in whole registers and add up the rest in another order. Masked tokens add zeros to a
    sum but move real ones from the rest to a register. Queries, keys and values are therefore padded to a multiple of
    16 tokens, and only inside of the attention: the layers between take most of the time and read every token alone.

    Every call of torch inside passes through Python, which takes as long as the calls of a small network. Stages that
    `pad_attention` has prepared need no context.

    Examples
    --------
    >>> import torch
    >>> from torch.nn import functional
    >>> from sktransfer.kernels.attention import PaddingInvariantAttention
    >>> values = torch.randn(1, 2, 5, 8)
    >>> with PaddingInvariantAttention():
    ...     functional.scaled_dot_product_attention(values, values, values).shape
    torch.Size([1, 2, 5, 8])
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, and pad the arguments of attention."""
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    if attn_mask is None:  # for causal attention too, in which a query reads no later key
        is_causal = kwargs.get("is_causal", args[1] if len(args) > 1 else False)
        if not is_causal and (n_queries % _MULTIPLE or n_keys % _MULTIPLE):
            attn_mask = torch.ones(1, n_keys, dtype=torch.bool)
    query, key, value, attn_mask = _padded(query, key, value, attn_mask)  # (..., 16 k, width)
    out = functional.scaled_dot_product_attention(query, key, value, attn_mask, *args, **kwargs)  # (..., 16 k, width)
    return out[..., :n_queries, :]  # (..., n_queries, width)


def _padded(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return arguments of attention padded to a multiple of 16 tokens, (..., 16 k, width) and the mask for them."""
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    more_queries, more_keys = -n_queries % _MULTIPLE, -n_keys % _MULTIPLE
    if not more_queries and not more_keys:
        return query, key, value, mask
    query, key, value = _pad(query, more_queries), _pad(key, more_keys), _pad(value, more_keys)  # (..., 16 k, width)
    return query, key, value, None if mask is None else pad_mask(mask, n_queries, n_keys)


def pad_mask(mask: Tensor, n_queries: int, n_keys: int) -> Tensor:
    """Return the mask of attention whose queries and keys are padded to a multiple of 16 tokens.

    Parameters
    ----------
    mask : Tensor of shape (..., n_queries or 1, n_keys)
        True, or a number to add, where a key is attended to.
    n_queries, n_keys : int
        Number of tokens before padding.

    Returns
    -------
    mask : Tensor of shape (..., 16 k, 16 k)
        Padded keys are masked.
    """
    more_queries, more_keys = -n_queries % _MULTIPLE, -n_keys % _MULTIPLE
    if not more_queries and not more_keys:
        return mask
    masked = False if mask.dtype == torch.bool else float("-inf")
    mask = torch.constant_pad_nd(mask, (0, more_keys), masked)  # (..., n_queries or 1, 16 k)
    if mask.shape[-2] == n_queries > 1:
        mask = torch.constant_pad_nd(mask, (0, 0, 0, more_queries), 0)  # (..., 16 k, 16 k), dropped afterwards
    return mask.expand(*mask.shape[:-2], n_queries + more_queries, n_keys + more_keys)  # (..., 16 k, 16 k)


def pad_tokens(values: Tensor) -> Tensor:
    """Return values with zeros at their end, so that attention reads a multiple of 16 tokens.

    Parameters
    ----------
    values : Tensor of shape (..., tokens, channels)

    Returns
    -------
    values : Tensor of shape (..., 16 k, channels)
    """
    return _pad(values, -values.shape[-2] % _MULTIPLE)


def _pad(values: Tensor, n: int) -> Tensor:
    return torch.constant_pad_nd(values, (0, 0, 0, n), 0.0) if n else values


def pad_attention(stages: nn.ModuleList) -> bool:
    """Let attention of transformers enter `PaddingInvariantAttention` itself, in place.

    Parameters
    ----------
    stages : nn.ModuleList
        Copies of stages for inference.

    Returns
    -------
    is_complete : bool
        Whether the stages have no other attention, so that they need no context around them.
    """
    for module in stages.modules():
        config: Any = getattr(module, "config", None)
        if _has_registry(module) and getattr(config, "_attn_implementation", None) == "sdpa":
            _register()
            config._attn_implementation = ATTENTION
    return not any(map(_calls_attention, stages.modules()))


def _has_registry(module: nn.Module) -> bool:
    """Return whether a module of transformers looks its attention up by the name in its configuration."""
    name = type(module).__module__
    return name.startswith("transformers.") and hasattr(sys.modules[name], "ALL_ATTENTION_FUNCTIONS")


@functools.cache
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def padded(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> Any:
        n = query.shape[-2]
        if attention_mask is None or key.shape[-2] != n or kwargs.get("position_bias") is not None:
            with PaddingInvariantAttention():
                return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        inputs = _padded(query, key, value, attention_mask)  # (..., 16 k, width)
        out, weights = sdpa_attention_forward(module, *inputs, **kwargs)  # (n, 16 k, heads, width)
        return out[:, :n], weights  # (n, n_queries, heads, width)

    AttentionInterface.register(ATTENTION, padded)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def _calls_attention(module: nn.Module) -> bool:
    """Return whether a module may call attention of torch itself, which only code of known packages rules out."""
    if isinstance(module, _TRANSFORMERS) or not type(module).__module__.startswith(_READABLE):
        return True
    functions = [value for one in type(module).__mro__ for value in vars(one).values() if hasattr(value, "__code__")]
    return any(_FUNCTION in function.__code__.co_names for function in functions)
