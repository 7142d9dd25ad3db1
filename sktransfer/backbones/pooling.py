"""Pooling of a stage's values to one vector per sample.

Values have one of three shapes: maps (n, channels, height, width), sequences (n, tokens, channels), and vectors
(n, channels), which are pooled already. A mask (n, tokens) is True where a token is real.

To add a pooling, write its function and add a `Pooling` to the list below.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sktransfer.exceptions import InvalidParameterError, did_you_mean

__all__ = [
    "POOLINGS",
    "Pooling",
    "as_maps",
    "cheap_poolings",
    "check_pooling",
    "default_pooling",
    "pool",
    "pooling_names",
    "pooling_options",
]


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """One way of pooling.

    Parameters
    ----------
    name : str
        Value of the parameter `pooling`.
    function : callable
        Called as `function(values, mask, prefix_tokens)` on maps or sequences. Returns vectors (n, n_features).
    modalities : tuple of str
        Kinds of backbones that have it. The first pooling of a modality is its default.
    needs : {"values", "positions", "class_token"}, default="values"
        Values that it works on. "values": any, vectors are returned unchanged. "positions": maps or sequences.
        "class_token": sequences with a class token.
    cheap : bool, default=False
        Whether its vectors are small at any stage, so that vectors of all lower stages may be cached in one pass.
    synonym : str, default=""
        Another name that the parameter `pooling` accepts. Its results and cache entries are the same.
    """

    name: str
    function: Callable[[Tensor, Tensor | None, int], Tensor]
    modalities: tuple[str, ...]
    needs: str = "values"
    cheap: bool = False
    synonym: str = ""


def _average(values: Tensor, mask: Tensor | None, prefix_tokens: int) -> Tensor:
    return as_maps(values, prefix_tokens).mean((2, 3), dtype=torch.float32)  # (n, channels)


def _mean(values: Tensor, mask: Tensor | None, prefix_tokens: int) -> Tensor:
    real = _real(mask)  # (n, tokens, 1)
    total = values.masked_fill(~real, 0.0).sum(1, dtype=torch.float32)  # (n, channels)
    return total / real.sum(1).clamp(min=1)  # (n, channels)


def _max(values: Tensor, mask: Tensor | None, prefix_tokens: int) -> Tensor:
    if mask is None:
        return as_maps(values, prefix_tokens).amax((2, 3))  # (n, channels)
    highest = values.masked_fill(~_real(mask), -torch.inf).amax(1)  # (n, channels)
    return torch.where(mask.any(1, keepdim=True), highest, 0.0)  # zeros for a text without tokens, as its mean


def _class_token(values: Tensor, mask: Tensor | None, prefix_tokens: int) -> Tensor:
    return values[:, 0]  # (n, channels)


def _flatten(values: Tensor, mask: Tensor | None, prefix_tokens: int) -> Tensor:
    return values.flatten(1)  # (n, channels * height * width) or (n, tokens * channels)


def _grid(cells: int) -> Callable[[Tensor, Tensor | None, int], Tensor]:
    def grid(values: Tensor, mask: Tensor | None, prefix_tokens: int) -> Tensor:
        maps = as_maps(values, prefix_tokens).float()  # (n, channels, height, width)
        return F.adaptive_avg_pool2d(maps, cells).flatten(1)  # (n, channels * cells * cells)

    return grid


def _last_token(values: Tensor, mask: Tensor | None, prefix_tokens: int) -> Tensor:
    last = _real(mask)[:, :, 0].sum(1).clamp(min=1) - 1  # (n,): texts are padded on the right
    return values[torch.arange(len(values), device=values.device), last]  # (n, channels)


def _mean_and_max(values: Tensor, mask: Tensor | None, prefix_tokens: int) -> Tensor:
    return torch.cat([_mean(values, mask, 0), _max(values, mask, 0)], 1)  # (n, 2 * channels)


def _real(mask: Tensor | None) -> Tensor:
    assert mask is not None  # only texts have these poolings
    return mask.unsqueeze(2)  # (n, tokens, 1)


def as_maps(values: Tensor, prefix_tokens: int) -> Tensor:
    """Return maps unchanged, and the patches of sequences as maps.

    Parameters
    ----------
    values : Tensor
        Maps (n, channels, height, width) or sequences (n, tokens, channels).
    prefix_tokens : int
        Number of tokens of a sequence before the patches.

    Returns
    -------
    maps : Tensor of shape (n, channels, height, width)
        A strip of width 1 if the number of patches is no square.
    """
    if values.ndim == 4:
        return values
    patches = values[:, prefix_tokens:]  # (n, patches, channels)
    side = math.isqrt(patches.shape[1])
    if side * side != patches.shape[1]:
        return patches.transpose(1, 2).unsqueeze(3)  # (n, channels, patches, 1): a strip, because it is no square
    return patches.transpose(1, 2).reshape(len(patches), -1, side, side)  # (n, channels, side, side)


_IMAGE, _TEXT = ("image",), ("text",)
POOLINGS = {
    pooling.name: pooling
    for pooling in (
        Pooling(name="average", function=_average, modalities=_IMAGE, cheap=True, synonym="mean"),
        Pooling(name="mean", function=_mean, modalities=_TEXT, cheap=True, synonym="average"),
        Pooling(name="max", function=_max, modalities=("image", "text"), cheap=True),
        Pooling(name="class_token", function=_class_token, modalities=("image", "text"), needs="class_token"),
        Pooling(name="flatten", function=_flatten, modalities=_IMAGE),
        Pooling(name="grid2", function=_grid(2), modalities=_IMAGE, needs="positions"),
        Pooling(name="grid3", function=_grid(3), modalities=_IMAGE, needs="positions"),
        Pooling(name="last_token", function=_last_token, modalities=_TEXT, needs="positions"),
        Pooling(name="mean+max", function=_mean_and_max, modalities=_TEXT, needs="positions", cheap=True),
    )
}


def pooling_names(modality: str) -> tuple[str, ...]:
    """Return the names of the poolings of a modality, its default first.

    Parameters
    ----------
    modality : {"image", "text"}
        Kind of samples.

    Examples
    --------
    >>> from sktransfer.backbones.pooling import pooling_names
    >>> pooling_names("text")
    ('mean', 'max', 'class_token', 'last_token', 'mean+max')
    """
    return tuple(pooling.name for pooling in POOLINGS.values() if modality in pooling.modalities)


def pooling_options(modality: str) -> str:
    """Return the values of the parameter `pooling`, as docstrings list them.

    Parameters
    ----------
    modality : {"image", "text"}
        Kind of samples.

    Examples
    --------
    >>> from sktransfer.backbones.pooling import pooling_options
    >>> pooling_options("text")
    '{"auto", "mean", "max", "class_token", "last_token", "mean+max"}'
    """
    return "{" + ", ".join(f'"{name}"' for name in ("auto", *pooling_names(modality))) + "}"


def default_pooling(modality: str) -> str:
    """Return the pooling of backbones that declare none.

    Parameters
    ----------
    modality : {"image", "text"}
        Kind of samples.
    """
    return pooling_names(modality)[0]


def cheap_poolings() -> tuple[str, ...]:
    """Return the names of the poolings whose vectors are small at any stage."""
    return tuple(pooling.name for pooling in POOLINGS.values() if pooling.cheap)


def check_pooling(pooling: str, modality: str) -> str:
    """Return the name of a pooling if the modality has it.

    Parameters
    ----------
    pooling : str
        "auto", one of `pooling_names(modality)`, or a synonym.
    modality : {"image", "text"}
        Kind of samples.

    Raises
    ------
    InvalidParameterError
        If the modality has no such pooling.
    """
    if isinstance(pooling, str):
        if pooling == "auto" or (pooling in POOLINGS and modality in POOLINGS[pooling].modalities):
            return pooling
        synonyms = {one.synonym: one.name for one in POOLINGS.values() if modality in one.modalities and one.synonym}
        pooling = synonyms.get(pooling, pooling)
    allowed = ("auto", *pooling_names(modality))
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
        True where a token of a text is real. None for images.
    kind : str
        Name of a pooling, with "auto" resolved.
    prefix_tokens : int, default=0
        Number of tokens of an image sequence before the patches. The first of them is the class token.

    Returns
    -------
    pooled : Tensor of shape (n, n_features)
        float32 for values of any precision, because a mean in bfloat16 would round its sum.

    Raises
    ------
    InvalidParameterError
        If the values do not allow this pooling, such as the class token of a map.
    """
    modality = "image" if mask is None else "text"
    pooling = POOLINGS.get(kind)
    if pooling is None or modality not in pooling.modalities:
        raise InvalidParameterError(f"pooling={kind!r} must be one of {pooling_names(modality)} for {modality}s")
    if values.ndim == 2:  # vectors are pooled already
        if pooling.needs == "values":
            return values.float()
        raise InvalidParameterError(
            f"pooling={kind!r} needs a map or tokens, but this stage gives vectors: use {default_pooling(modality)!r}"
        )
    if pooling.needs == "class_token" and mask is None and (values.ndim != 3 or prefix_tokens == 0):
        raise InvalidParameterError(f"pooling={kind!r} needs a class token, and this backbone has none")
    return pooling.function(values, mask, prefix_tokens).float()
