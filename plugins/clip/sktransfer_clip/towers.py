"""CLIP's two towers as stages; the last of each projects into the space that both share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.exceptions import InvalidParameterError
from sktransfer.providers.huggingface_text import Embeddings, Layer

__all__ = ["image_stages", "text_stages"]


class ImageEmbeddings(nn.Module):
    """Images to a class token and patches.

    Parameters
    ----------
    embeddings : nn.Module
        The model's own.
    norm : nn.Module
        What stands before the first layer.
    """

    def __init__(self, embeddings: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.embeddings, self.norm = embeddings, norm

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the class token and the patches (n, 1 + patches, channels)."""
        side: Any = self.embeddings.image_size
        if tuple(values.shape[2:]) != (side, side):
            raise InvalidParameterError(
                f"images of {values.shape[2]}x{values.shape[3]} pixels reach a network that takes {side}x{side}; "
                f"set preprocess={{'resize': {side}, 'crop': ({side}, {side})}}"
            )
        out: Tensor = self.norm(self.embeddings(values))  # (n, 1 + patches, channels)
        return out


class ImageLayer(nn.Module):
    """A layer in which each token of an image looks at all others.

    Parameters
    ----------
    layer : nn.Module
        The model's own.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return hidden states (n, 1 + patches, channels)."""
        out: Tensor = self.layer(values, attention_mask=None)  # (n, 1 + patches, channels)
        return out


class Projection(nn.Module):
    """The token that stands for the whole sample, projected into the shared space.

    Parameters
    ----------
    norm, project : nn.Module
        The model's own.
    last : bool
        Whether it is a text's last token, which has looked at all before it; else an image's first.
    """

    def __init__(self, norm: nn.Module, project: nn.Module, *, last: bool) -> None:
        super().__init__()
        self.norm, self.project, self.last = norm, project, last

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return vectors (n, width of the space)."""
        if self.last and mask is not None:
            places = torch.arange(mask.shape[1], device=mask.device)
            ends = (places * mask).amax(1)  # (n,)
            tokens = values[torch.arange(len(values), device=values.device), ends]  # (n, channels)
        else:
            tokens = values[:, 0]  # (n, channels)
        out: Tensor = self.project(self.norm(tokens))  # (n, width of the space)
        return out

    def extra_repr(self) -> str:
        """Say which token: the fingerprint of a backbone reads it."""
        return f"last={self.last}"


def image_stages(model: Any) -> list[nn.Module]:
    """Return the tower of images of a `CLIPModel`."""
    tower = model.vision_model
    first = ImageEmbeddings(tower.embeddings, tower.pre_layrnorm)
    last = Projection(tower.post_layernorm, model.visual_projection, last=False)
    return [first, *map(ImageLayer, tower.encoder.layers), last]


def text_stages(model: Any) -> list[nn.Module]:
    """Return the tower of texts of a `CLIPModel`; its tokens look back only."""
    tower = model.text_model
    last = Projection(tower.final_layer_norm, model.text_projection, last=True)
    return [Embeddings(tower.embeddings), *(Layer(layer, causal=True) for layer in tower.encoder.layers), last]
