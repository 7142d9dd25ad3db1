"""Image models of transformers as stages, their classification heads and their preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.backbones import ImageStage, ImageTransform, PooledHead
from sktransfer.exceptions import InvalidParameterError, WeightsError

__all__ = ["IMAGE_HEADS", "IMAGE_STAGES", "prefix_tokens", "read_transform"]


class FixedSizeEmbeddings(nn.Module):
    """Patch embeddings of a model with positions for one image size.

    Parameters
    ----------
    embeddings : nn.Module
        Embeddings of the model.
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
                f"images have {values.shape[2]}x{values.shape[3]} pixels, but the network takes {height}x{width}; "
                f"set preprocess={{'resize': ({height}, {width}), 'crop': None}}"
            )
        out: Tensor = self.embeddings(values)  # (n, 1 + patches, channels)
        return out


class PatchHead(nn.Module):
    """Head of DINOv2 on the class token and the mean of the patches.

    Parameters
    ----------
    classifier : nn.Module
        From (n, 2 * channels) to logits.
    prefix : int
        Number of tokens before the patches.
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
    """Return the number of tokens before the patches (class token and registers), which is 0 for maps.

    Parameters
    ----------
    config : PretrainedConfig
        Configuration of the model.
    """
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


_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_SMALL = 384  # ConvNeXt crops at sizes below this one, and otherwise resizes without keeping the aspect ratio


def read_transform(settings: Mapping[str, Any] | None, kind: str, name: str) -> ImageTransform:
    """Return the preprocessing of an image model.

    Parameters
    ----------
    settings : mapping or None
        Contents of `preprocessor_config.json`.
    kind : str
        Model type. Old files may contain only `"size": 224`, whose meaning depends on the model type.
    name : str
        Name of the backbone in error messages.

    Raises
    ------
    WeightsError
        If there are no settings, or `ImageTransform` does not support them.
    """
    if settings is None:
        raise WeightsError(f"{name}: lacks preprocessor_config.json, which contains the preprocessing of its images")
    if abs(settings.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6 or not settings.get("do_rescale", True):
        raise WeightsError(
            f"{name}: its preprocessor does not rescale pixels from [0, 255] to [0, 1], which is not supported"
        )
    if settings.get("resample", 2) not in _RESAMPLE:
        raise WeightsError(f"{name}: resample={settings['resample']!r} is not supported; it must be one of {_RESAMPLE}")
    normalize = settings.get("do_normalize", True)
    try:
        resize, crop = _sizes(settings, kind)
        return ImageTransform(
            resize=resize,
            crop=crop,
            mean=tuple(settings["image_mean"]) if normalize else (0.0, 0.0, 0.0),
            std=tuple(settings["image_std"]) if normalize else (1.0, 1.0, 1.0),
            interpolation=_RESAMPLE[settings.get("resample", 2)],
        )
    except (KeyError, TypeError) as error:
        raise WeightsError(
            f"{name}: preprocessor_config.json lacks a setting or has an invalid one: {error}"
        ) from error


def _sizes(settings: Mapping[str, Any], kind: str) -> tuple[int | tuple[int, int] | None, tuple[int, int] | None]:
    size: Any = settings.get("size")
    crop = None
    if settings.get("do_center_crop", False):
        crop = _pair(settings["crop_size"])
    if not settings.get("do_resize", True):
        return None, crop
    if (kind.startswith("convnext") and "crop_pct" in settings) or _is(settings, "ConvNext"):
        side = int(size["shortest_edge"] if isinstance(size, Mapping) else size)
        if side >= _SMALL:
            return (side, side), crop
        return int(side / (settings.get("crop_pct") or 224 / 256)), crop or (side, side)
    if isinstance(size, Mapping) and "shortest_edge" in size:
        return int(size["shortest_edge"]), crop
    # A bare number is the side of a square for ViT, and the shorter side for models that crop afterwards.
    return (int(size) if isinstance(size, int) and crop is not None else _pair(size)), crop


def _is(settings: Mapping[str, Any], start: str) -> bool:
    names = (settings.get("image_processor_type"), settings.get("feature_extractor_type"))
    return any(name is not None and name.startswith(start) for name in names)


def _pair(size: Any) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int) else (int(size["height"]), int(size["width"]))
