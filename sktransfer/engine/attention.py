"""Attention of texts whose rounding does not depend on the padding of their batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["PaddingInvariantAttention"]

_MULTIPLE = 16  # float32 numbers in a register of AVX-512; those of AVX2 hold 8


class PaddingInvariantAttention(TorchFunctionMode):
    """Context in which attention gives the same bits for any length of the longest text of a batch.

    Kernels sum over the tokens in whole registers and add up the rest in another order. Masked tokens add zeros to a
    sum but move real ones from the rest to a register. Queries, keys and values are therefore padded to a multiple of
    16 tokens, and only inside of the attention: the layers between take most of the time and read every token alone.

    Examples
    --------
    >>> import torch
    >>> from torch.nn import functional
    >>> from sktransfer.engine.attention import PaddingInvariantAttention
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
    more_queries, more_keys = -n_queries % _MULTIPLE, -n_keys % _MULTIPLE
    if not more_queries and not more_keys:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask, *args, **kwargs)
    if attn_mask is None:  # for causal attention too, in which a query reads no later key
        is_causal = kwargs.get("is_causal", args[1] if len(args) > 1 else False)
        if not is_causal:
            attn_mask = torch.ones(1, n_keys, dtype=torch.bool)
    query, key, value = _pad(query, more_queries), _pad(key, more_keys), _pad(value, more_keys)  # (..., 16 k, width)
    if attn_mask is not None:
        masked = False if attn_mask.dtype == torch.bool else float("-inf")
        attn_mask = functional.pad(attn_mask, (0, more_keys), value=masked)  # (..., n_queries or 1, 16 k)
        if attn_mask.shape[-2] == n_queries > 1:
            attn_mask = functional.pad(attn_mask, (0, 0, 0, more_queries))  # (..., 16 k, 16 k), dropped below
        attn_mask = attn_mask.expand(*attn_mask.shape[:-2], query.shape[-2], key.shape[-2])
    out = functional.scaled_dot_product_attention(query, key, value, attn_mask, *args, **kwargs)  # (..., 16 k, width)
    return out[..., :n_queries, :]  # (..., n_queries, width)


def _pad(values: Tensor, n: int) -> Tensor:
    return functional.pad(values, (0, 0, 0, n)) if n else values
