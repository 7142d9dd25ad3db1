"""Image models of transformers as stages, with the heads of those that classify."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.backbones.stages import ImageStage, PooledHead
from sktransfer.exceptions import InvalidParameterError

__all__ = ["IMAGE_HEADS", "IMAGE_STAGES", "prefix_tokens"]


class FixedSizeEmbeddings(nn.Module):
    """Patch embeddings of a model that knows the positions of one image size alone.

    Parameters
    ----------
    embeddings : nn.Module
        The model's own.
    """

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the class token and the patches (n, 1 + patches, channels)."""
        size: Any = self.embeddings.image_size
        height, width = size
        if tuple(values.shape[2:]) != (height, width):
            raise InvalidParameterError(
                f"images of {values.shape[2]}x{values.shape[3]} pixels reach a network that takes {height}x{width}; "
                f"set preprocess={{'resize': ({height}, {width}), 'crop': None}}"
            )
        out: Tensor = self.embeddings(values)  # (n, 1 + patches, channels)
        return out


class PatchHead(nn.Module):
    """The head of DINOv2: it takes the class token beside the mean of the patches.

    Parameters
    ----------
    classifier : nn.Module
        From (n, 2 * channels) to logits.
    prefix : int
        Tokens that stand before the patches.
    """

    def __init__(self, classifier: nn.Module, prefix: int) -> None:
        super().__init__()
        self.classifier, self.prefix = classifier, prefix

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (n, n_categories)."""
        both = torch.cat([values[:, 0], values[:, self.prefix :].mean(1)], 1)  # (n, 2 * channels)
        logits: Tensor = self.classifier(both)
        return logits


def prefix_tokens(config: Any) -> int:
    """Return how many tokens stand before the patches: the class token and the registers; 0 for maps."""
    return 0 if hasattr(config, "depths") else 1 + getattr(config, "num_register_tokens", 0)


def _with_norm(layers: Any, norm: nn.Module) -> list[nn.Module]:
    return [*(ImageStage(layer) for layer in layers[:-1]), ImageStage(layers[-1], norm)]


def _vit(model: Any) -> list[nn.Module]:
    return [FixedSizeEmbeddings(model.embeddings), *_with_norm(model.layers, model.layernorm)]


def _dinov2(model: Any) -> list[nn.Module]:
    return [ImageStage(model.embeddings), *_with_norm(model.encoder.layer, model.layernorm)]


def _convnext(model: Any) -> list[nn.Module]:
    return [ImageStage(model.embeddings), *(ImageStage(stage) for stage in model.encoder.stages)]


def _vit_head(model: Any) -> nn.Module:
    return PooledHead(model.classifier, "class_token", prefix_tokens(model.config))


def _dinov2_head(model: Any) -> nn.Module:
    return PatchHead(model.classifier, prefix_tokens(model.config))


def _convnext_head(model: Any) -> nn.Module:
    return PooledHead(nn.Sequential(model.base_model.layernorm, model.classifier), "average")


IMAGE_STAGES: dict[str, Callable[[Any], list[nn.Module]]] = {
    "convnext": _convnext,
    "convnextv2": _convnext,
    "dinov2": _dinov2,
    "dinov2_with_registers": _dinov2,
    "vit": _vit,
}
IMAGE_HEADS: dict[str, Callable[[Any], nn.Module]] = {
    "convnext": _convnext_head,
    "convnextv2": _convnext_head,
    "dinov2": _dinov2_head,
    "dinov2_with_registers": _dinov2_head,
    "vit": _vit_head,
}
