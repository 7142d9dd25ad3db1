"""Last stage, from one vector per token to one per text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sktransfer.backbones import fill
from sktransfer.exceptions import WeightsError
from sktransfer_sentence_transformers.layers import Layer
from sktransfer_sentence_transformers.recipe import Recipe

__all__ = ["POOLINGS", "WEIGHTS", "Dense", "Normalize", "Sentence", "Truncate", "sentence_stage"]

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # possible names of a layer's file


def _first(values: Tensor, real: Tensor) -> Tensor:
    first = real.int().argmax(1)  # (n,)
    return values[torch.arange(len(values), device=values.device), first]  # (n, channels)


def _last(values: Tensor, real: Tensor) -> Tensor:
    positions = torch.arange(real.shape[1], device=real.device)
    last = (positions * real).amax(1)  # (n,)
    return values[torch.arange(len(values), device=values.device), last] * real.any(1, keepdim=True)  # (n, channels)


def _max(values: Tensor, real: Tensor) -> Tensor:
    highest = values.masked_fill(~real[:, :, None], -torch.inf).amax(1)  # (n, channels)
    return torch.where(real.any(1, keepdim=True), highest, 0.0)  # zeros for a text without tokens, as its mean


def _sum(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights[:, :, None]).sum(1)  # (n, channels)


def _mean(values: Tensor, real: Tensor) -> Tensor:
    return _sum(values, real) / real.sum(1, keepdim=True).clamp(min=1)  # (n, channels)


def _mean_by_root(values: Tensor, real: Tensor) -> Tensor:
    return _sum(values, real) / real.sum(1, keepdim=True).clamp(min=1).sqrt()  # (n, channels)


def _weighted_mean(values: Tensor, real: Tensor) -> Tensor:
    weights = real * torch.arange(1, real.shape[1] + 1, device=real.device)  # (n, tokens): increasing with the position
    return _sum(values, weights) / weights.sum(1, keepdim=True).clamp(min=1)  # (n, channels)


# Functions from values (n, tokens, channels) and a mask (n, tokens) of the tokens to pool to vectors (n, channels).
POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_by_root,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}


class Dense(nn.Module):
    """Linear layer with an activation.

    Parameters
    ----------
    layer : Layer
        Settings of the layer.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.linear = nn.Linear(layer.given, layer.width, bias=layer.bias)
        self.activation: nn.Module = getattr(nn, layer.activation)()
        self.adds_input = layer.residual
        if layer.residual and layer.given != layer.width:
            self.residual = nn.Linear(layer.given, layer.width, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return vectors (n, width)."""
        out: Tensor = self.activation(self.linear(values))  # (n, width)
        if not self.adds_input:
            return out
        return out + (self.residual(values) if hasattr(self, "residual") else values)

    def extra_repr(self) -> str:
        """Return the setting that no submodule shows. It is part of the fingerprint of a backbone."""
        return f"adds_input={self.adds_input}"


class Normalize(nn.Module):
    """Normalisation of vectors to length 1."""

    def forward(self, values: Tensor) -> Tensor:
        """Return vectors (n, channels) of length 1, except for zero vectors."""
        return F.normalize(values, dim=1)


class Truncate(nn.Module):
    """Truncation to the first channels.

    Parameters
    ----------
    width : int
        Number of channels to keep.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, values: Tensor) -> Tensor:
        """Return vectors (n, width)."""
        return values[:, : self.width].contiguous()  # (n, width)

    def extra_repr(self) -> str:
        """Return the width, which is part of the fingerprint of a backbone."""
        return str(self.width)


class Sentence(nn.Module):
    """Pool the tokens of a text, then run layers on the vector.

    Parameters
    ----------
    modes : sequence of str
        Keys of `POOLINGS`. Their outputs are concatenated.
    prompt_length : int
        Number of tokens at the start of each text that are not pooled.
    layers : sequence of nn.Module
        Layers from vectors to vectors.
    """

    def __init__(self, modes: Sequence[str], prompt_length: int, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.modes, self.prompt_length = tuple(modes), prompt_length
        self.layers = nn.Sequential(*layers)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return vectors (n, n_features) of values (n, tokens, channels) and the mask (n, tokens)."""
        real = mask & (torch.arange(mask.shape[1], device=mask.device) >= self.prompt_length)  # (n, tokens)
        pooled = torch.cat([POOLINGS[mode](values, real) for mode in self.modes], 1)  # (n, modes * channels)
        out: Tensor = self.layers(pooled)  # (n, n_features)
        return out

    def extra_repr(self) -> str:
        """Return the settings of the pooling, which are part of the fingerprint of a backbone."""
        return f"modes={self.modes}, prompt_length={self.prompt_length}"


def sentence_stage(recipe: Recipe, prompt_length: int, root: Path | None) -> Sentence:
    """Build the last stage.

    Parameters
    ----------
    recipe : Recipe
        Parts of the model.
    prompt_length : int
        Number of tokens at the start of each text that are not pooled.
    root : Path or None
        Folder of the model. None for random weights.

    Raises
    ------
    WeightsError
        If weights are missing, cannot be read or do not fit the model.
    """
    layers = [_build(layer, root) for layer in recipe.layers]
    if recipe.truncate is not None:
        layers.append(Truncate(recipe.n_features))
    return Sentence(recipe.modes, prompt_length, layers)


def _build(layer: Layer, root: Path | None) -> nn.Module:
    if layer.kind == "Normalize":
        return Normalize()
    if layer.kind == "Dropout":
        return nn.Dropout(layer.rate)
    module = Dense(layer) if layer.kind == "Dense" else nn.LayerNorm(layer.width)
    if root is not None:
        fill(module, _weights(root / layer.path), rename=lambda name: name.removeprefix("norm."))
    return module


def _weights(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(
        f"{folder}: lacks its weights; looked for {' and '.join(WEIGHTS)}. Save the whole model with "
        "`SentenceTransformer(...).save(folder)`, or download all files of a hub model with `hf download`"
    )
