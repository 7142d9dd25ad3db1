"""Stages of the two towers of CLIP, the last of which projects into their shared space."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.backbones import TextEmbeddings, TextLayer
from sktransfer.exceptions import InvalidParameterError

__all__ = ["image_stages", "text_stages"]


class ImageEmbeddings(nn.Module):
    """First stage: from images to a class token and patches.

    Parameters
    ----------
    embeddings : nn.Module
        Embeddings of the model.
    norm : nn.Module
        Norm before the first layer.
    """

    def __init__(self, embeddings: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.embeddings, self.norm = embeddings, norm

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the class token and the patches (n, 1 + patches, channels)."""
        side: Any = self.embeddings.image_size
        if tuple(values.shape[2:]) != (side, side):
            raise InvalidParameterError(
                f"images have {values.shape[2]}x{values.shape[3]} pixels, but the network takes {side}x{side}; "
                f"set preprocess={{'resize': {side}, 'crop': ({side}, {side})}}"
            )
        out: Tensor = self.norm(self.embeddings(values))  # (n, 1 + patches, channels)
        return out


class ImageLayer(nn.Module):
    """Layer in which each token of an image attends to all others.

    Parameters
    ----------
    layer : nn.Module
        Layer of the model.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return hidden states (n, 1 + patches, channels)."""
        out: Tensor = self.layer(values, attention_mask=None)  # (n, 1 + patches, channels)
        return out


class Projection(nn.Module):
    """Last stage: projection of the token that represents the sample into the shared space.

    Parameters
    ----------
    norm, project : nn.Module
        Norm and projection of the model.
    last : bool
        Whether this is the last token, as for texts, whose attention is causal, or the first one, as for images.
    """

    def __init__(self, norm: nn.Module, project: nn.Module, *, last: bool) -> None:
        super().__init__()
        self.norm, self.project, self.last = norm, project, last

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return vectors (n, width of the space)."""
        if self.last and mask is not None:
            positions = torch.arange(mask.shape[1], device=mask.device)
            ends = (positions * mask).amax(1)  # (n,)
            tokens = values[torch.arange(len(values), device=values.device), ends]  # (n, channels)
        else:
            tokens = values[:, 0]  # (n, channels)
        out: Tensor = self.project(self.norm(tokens))  # (n, width of the space)
        return out

    def extra_repr(self) -> str:
        """Return the token, which is part of the fingerprint of a backbone."""
        return f"last={self.last}"


def image_stages(model: Any) -> list[nn.Module]:
    """Return the stages of the tower of images of a `CLIPModel`."""
    tower = model.vision_model
    first = ImageEmbeddings(tower.embeddings, tower.pre_layrnorm)
    last = Projection(tower.post_layernorm, model.visual_projection, last=False)
    return [first, *map(ImageLayer, tower.encoder.layers), last]


def text_stages(model: Any) -> list[nn.Module]:
    """Return the stages of the tower of texts of a `CLIPModel`, whose attention is causal."""
    tower = model.text_model
    last = Projection(tower.final_layer_norm, model.text_projection, last=True)
    return [TextEmbeddings(tower.embeddings), *(TextLayer(layer, causal=True) for layer in tower.encoder.layers), last]
