"""From the `preprocessor_config.json` of transformers to an `ImageTransform`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.exceptions import WeightsError

__all__ = ["read_transform"]

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_SMALL = 384  # ConvNeXt crops images below this size, and warps larger ones


def read_transform(settings: Mapping[str, Any] | None, kind: str, name: str) -> ImageTransform:
    """Return the preprocessing that a model's folder describes.

    Parameters
    ----------
    settings : mapping or None
        What `preprocessor_config.json` holds.
    kind : str
        The model's type: an old file may say no more than `"size": 224`, which means other things for other models.
    name : str
        The backbone, for messages.

    Raises
    ------
    WeightsError
        If there are no settings, or some that no `ImageTransform` expresses.
    """
    if settings is None:
        raise WeightsError(f"{name}: lacks preprocessor_config.json, which says what its images must go through")
    if abs(settings.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6 or not settings.get("do_rescale", True):
        raise WeightsError(f"{name}: its preprocessor does not rescale pixels from [0, 255] to [0, 1], as it must")
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
        raise WeightsError(f"{name}: preprocessor_config.json lacks, or has in an unknown form, {error}") from error


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
    # A bare number is the side of a square for ViT, and the shorter side for those that crop afterwards.
    return (int(size) if isinstance(size, int) and crop is not None else _pair(size)), crop


def _is(settings: Mapping[str, Any], start: str) -> bool:
    names = (settings.get("image_processor_type"), settings.get("feature_extractor_type"))
    return any(name is not None and name.startswith(start) for name in names)


def _pair(size: Any) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int) else (int(size["height"]), int(size["width"]))
