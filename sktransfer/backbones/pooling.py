"""From a stage's values to one vector a sample.

Values come in three shapes: maps (n, channels, height, width), sequences (n, tokens, channels), and vectors
(n, channels), which are pooled already. A mask (n, tokens) is True where a token is real.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sktransfer.exceptions import InvalidParameterError, did_you_mean

__all__ = ["POOLINGS", "check_pooling", "pool"]

POOLINGS = {
    "image": ("average", "max", "class_token", "flatten", "grid2", "grid3"),
    "text": ("mean", "class_token", "max", "last_token", "mean+max"),
}


def check_pooling(pooling: str, modality: str) -> str:
    """Return `pooling` where the modality knows it.

    Parameters
    ----------
    pooling : str
        "auto" or one of `POOLINGS[modality]`.
    modality : {"image", "text"}
        What the samples are.

    Raises
    ------
    InvalidParameterError
        If the modality has no such pooling.
    """
    allowed = ("auto", *POOLINGS[modality])
    if not isinstance(pooling, str) or pooling not in allowed:
        raise InvalidParameterError(
            f"pooling={pooling!r} is not known for a backbone of {modality}s; choose one of {allowed}."
            + did_you_mean(str(pooling), allowed)
        )
    return pooling


def pool(values: Tensor, mask: Tensor | None, kind: str, *, prefix_tokens: int = 0) -> Tensor:
    """Pool a stage's values.

    Parameters
    ----------
    values : Tensor
        Maps (n, channels, height, width), sequences (n, tokens, channels) or vectors (n, channels).
    mask : Tensor of shape (n, tokens) or None
        True where a token of a text is real; None for images.
    kind : str
        One of `POOLINGS`, "auto" resolved.
    prefix_tokens : int, default=0
        How many tokens of an image sequence stand before the patches; the first of them is the class token.

    Returns
    -------
    pooled : Tensor of shape (n, n_features)
        float32, whatever the precision of the values: a mean in bfloat16 would round its sum.

    Raises
    ------
    InvalidParameterError
        If the values have no such pooling, as a map has no class token.
    """
    modality = "image" if mask is None else "text"
    if kind not in POOLINGS[modality]:
        raise InvalidParameterError(f"pooling={kind!r} is none of {POOLINGS[modality]}, which {modality}s have")
    if mask is not None:
        return _pool_text(values, mask, kind).float()
    return _pool_image(values, kind, prefix_tokens).float()


def _pool_image(values: Tensor, kind: str, prefix_tokens: int) -> Tensor:
    if values.ndim == 2:  # vectors are pooled already; there is no grid and no token to take
        if kind in ("average", "max", "flatten"):
            return values
        raise InvalidParameterError(
            f"pooling={kind!r} asks for a map or tokens, this stage gives vectors: use 'average'"
        )
    if kind == "class_token":
        if values.ndim != 3 or prefix_tokens == 0:
            raise InvalidParameterError("pooling='class_token' asks for a class token, this backbone has none")
        return values[:, 0]  # (n, channels)
    if kind == "flatten":
        return values.flatten(1)  # (n, everything)
    if values.ndim == 3:
        values = _patches_as_maps(values[:, prefix_tokens:])  # (n, channels, height, width)
    if kind == "average":
        return values.mean((2, 3), dtype=torch.float32)  # (n, channels)
    if kind == "max":
        return values.amax((2, 3))  # (n, channels)
    cells = int(kind.removeprefix("grid"))
    return F.adaptive_avg_pool2d(values.float(), cells).flatten(1)  # (n, channels * cells * cells)


def _patches_as_maps(tokens: Tensor) -> Tensor:
    side = math.isqrt(tokens.shape[1])
    if side * side != tokens.shape[1]:
        return tokens.transpose(1, 2).unsqueeze(3)  # (n, channels, tokens, 1): not a square, so a strip
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)  # (n, channels, side, side)


def _pool_text(values: Tensor, mask: Tensor, kind: str) -> Tensor:
    if values.ndim == 2:
        if kind in ("mean", "max"):
            return values
        raise InvalidParameterError(f"pooling={kind!r} asks for tokens, this stage gives vectors: use 'mean'")
    if kind == "class_token":
        return values[:, 0]  # (n, channels)
    if kind == "last_token":
        last = mask.sum(1).clamp(min=1) - 1  # (n,): texts are padded on the right
        return values[torch.arange(len(values), device=values.device), last]  # (n, channels)
    if kind == "mean+max":
        return torch.cat([_pool_text(values, mask, "mean"), _pool_text(values, mask, "max")], 1)  # (n, 2 * channels)
    real = mask.unsqueeze(2)  # (n, tokens, 1)
    if kind == "mean":
        total = values.masked_fill(~real, 0.0).sum(1, dtype=torch.float32)  # (n, channels)
        return total / real.sum(1).clamp(min=1)  # (n, channels)
    highest = values.masked_fill(~real, -torch.inf).amax(1)  # (n, channels)
    return torch.where(mask.any(1, keepdim=True), highest, 0.0)  # a text of no tokens gives zeros, as its mean does
