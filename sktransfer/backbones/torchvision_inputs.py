"""What some of torchvision's networks do to images before their first layer proper."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision import models

from sktransfer.exceptions import InvalidParameterError

__all__ = ["FixedSize", "TokensOfImage", "TransformInput"]


class FixedSize(nn.Module):
    """Let images of one size through: what follows has tables for that size.

    Parameters
    ----------
    side : int
        Height and width, in pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        """Return the images as they are.

        Raises
        ------
        InvalidParameterError
            If they have another size.
        """
        if images.shape[2:] != (self.side, self.side):
            height, width = images.shape[2:]
            raise InvalidParameterError(
                f"this network takes images of {self.side}x{self.side} pixels, not {height}x{width}: leave "
                f"preprocess='auto', or set preprocess={{'crop': ({self.side}, {self.side})}}"
            )
        return images


class TransformInput(nn.Module):
    """From the usual normalisation to that of the weights of GoogLeNet and Inception v3, (pixel - 0.5) / 0.5."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Divided before they become float32, as torchvision does: deep networks make much of the last digit.
        scale = [std / 0.5 for std in (0.229, 0.224, 0.225)]
        shift = [(mean - 0.5) / 0.5 for mean in (0.485, 0.456, 0.406)]
        self.register_buffer("scale", torch.tensor(scale).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return images (n, 3, height, width)."""
        return images * self.scale + self.shift


class TokensOfImage(nn.Module):
    """The first stage of a VisionTransformer: patches become tokens behind a class token, positions are added.

    Parameters
    ----------
    model : torchvision.models.VisionTransformer
        Whose tensors it takes.
    """

    def __init__(self, model: models.VisionTransformer) -> None:
        super().__init__()
        self.size = FixedSize(model.image_size)
        self.conv_proj = model.conv_proj
        self.class_token = model.class_token
        self.pos_embedding = model.encoder.pos_embedding
        self.dropout = model.encoder.dropout

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return tokens (n, 1 + patches, channels)."""
        patches = self.conv_proj(self.size(values)).flatten(2).transpose(1, 2)  # (n, patches, channels)
        tokens = torch.cat([self.class_token.expand(len(patches), -1, -1), patches], 1)  # (n, 1 + patches, channels)
        out: Tensor = self.dropout(tokens + self.pos_embedding)
        return out
