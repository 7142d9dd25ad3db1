"""Preprocessing of validated samples to the tensors that the first stage takes.

The settings of a preprocessing are data, and belong to the weights.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sktransfer._validation import is_int, is_real, require_field
from sktransfer.exceptions import InvalidParameterError, did_you_mean

__all__ = ["ImageTransform", "Preprocess", "TextPreprocess", "TextRules"]

_LARGEST = 2**24  # pixels after resizing; strips that would exceed it are trimmed first
_STRIP = 16  # ratio of length to width of a trimmed strip
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Preprocess(Protocol):
    """Interface of a preprocessing, from samples to one tensor per sample.

    Attributes
    ----------
    pad_value : int
        Value that pads the shorter sequences of a batch.
    """

    pad_value: int

    @property
    def key(self) -> str:
        """String that differs from that of any preprocessing with other outputs."""

    def __call__(self, samples: Sequence[Any]) -> list[Tensor]:
        """Return one tensor per sample."""


@runtime_checkable
class TextPreprocess(Preprocess, Protocol):
    """Interface of a preprocessing of texts.

    A further method `unknown_share(tokens) -> float` is optional. It returns the share of tokens of a text that are
    unknown to the model, and lets estimators warn of such texts.
    """

    @property
    def limit(self) -> int:
        """Largest number of tokens kept per text."""

    def tokenize(self, texts: Sequence[str]) -> tuple[list[Tensor], list[bool]]:
        """Return the token ids (tokens,) of each text, and whether it was truncated."""

    def with_max_length(self, max_length: int | None) -> TextPreprocess:
        """Return the same preprocessing with another maximum number of tokens; None for the model's limit."""


class TextRules(Protocol):
    """Interface of a function that rewrites a text before a tokenizer reads it."""

    @property
    def key(self) -> str:
        """String that differs from that of any rules with other results."""

    def __call__(self, text: str) -> str:
        """Return the text as the tokenizer reads it. The start of a text gives the start of the result."""


@dataclass(frozen=True)
class ImageTransform:
    """Resize images, crop them at the centre and normalise them.

    Parameters
    ----------
    resize : int or (int, int), default=None
        Length of the shorter side in pixels (the aspect ratio is kept), or (height, width). None keeps the size.
    crop : int or (int, int), default=None
        Side of a square or (height, width) of the central crop, in pixels. Smaller images get black borders. None for
        no crop. An int is stored as a pair.
    mean, std : (float, float, float)
        Mean and standard deviation per colour channel, for pixel values in [0, 1].
    interpolation : {"bilinear", "bicubic", "nearest", "lanczos"}, default="bilinear"
        Interpolation for resizing, with antialiasing (except for "nearest"). Arrays of floats use "bicubic" if
        "lanczos" is set.
    background : (float, float, float) or None, default=(1.0, 1.0, 1.0)
        Background of transparent pixels, a colour in [0, 1]. The default is white, because pictures with
        transparency are mostly cut out or drawn for white pages. None reads the colours that transparent pixels hide.

    Raises
    ------
    InvalidParameterError
        If a setting is not valid.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.backbones.preprocess import ImageTransform
    >>> transform = ImageTransform(resize=8, crop=(6, 6))
    >>> transform([np.zeros((16, 20, 3), dtype=np.float32)])[0].shape
    torch.Size([3, 6, 6])
    """

    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    interpolation: str = "bilinear"
    background: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
    pad_value = 0

    def __post_init__(self) -> None:
        # Convert to plain ints, floats and tuples: JSON has no tuples, and `key` must not distinguish 1 from 1.0.
        object.__setattr__(self, "resize", _size("resize", self.resize))
        crop = _size("crop", self.crop)
        object.__setattr__(self, "crop", (crop, crop) if isinstance(crop, int) else crop)
        object.__setattr__(self, "mean", _channels("mean", self.mean))
        object.__setattr__(self, "std", _channels("std", self.std))
        if min(self.std) <= 0:
            raise InvalidParameterError(f"preprocess: std={self.std} must be greater than 0")
        if max(self.mean) > 1:
            raise InvalidParameterError(
                f"preprocess: mean={self.mean} must be at most 1, because images are in [0, 1]; divide mean and std "
                "by 255 if they are of 8-bit images"
            )
        if self.background is not None:
            object.__setattr__(self, "background", _channels("background", self.background))
            if not 0 <= min(self.background) <= max(self.background) <= 1:
                raise InvalidParameterError(f"preprocess: background={self.background} must be in [0, 1], or None")
        if self.interpolation not in _RESAMPLING:
            raise InvalidParameterError(
                f"preprocess: interpolation={self.interpolation!r} must be one of {tuple(_RESAMPLING)}"
            )

    @property
    def key(self) -> str:
        """JSON of all settings."""
        return json.dumps(asdict(self))

    def updated(self, changes: ImageTransform | Mapping[str, Any]) -> ImageTransform:
        """Return a transform with some settings changed.

        Parameters
        ----------
        changes : ImageTransform or mapping
            Another transform, or the settings to change by name.

        Returns
        -------
        transform : ImageTransform

        Raises
        ------
        InvalidParameterError
            If a name is not a setting, or a value is not valid.
        """
        if isinstance(changes, ImageTransform):
            return changes
        allowed = [field.name for field in fields(self)]
        if not isinstance(changes, Mapping):
            raise InvalidParameterError(
                f"preprocess={changes!r} must be 'auto', an ImageTransform or a dict of {allowed}"
            )
        for name in changes:
            if name not in allowed:
                raise InvalidParameterError(
                    f"preprocess: {name!r} is not a setting; allowed are {allowed}." + did_you_mean(str(name), allowed)
                )
        return replace(self, **changes)

    def __call__(self, samples: Sequence[Image.Image | np.ndarray]) -> list[Tensor]:
        """Return one float32 tensor (3, height, width) per image.

        Parameters
        ----------
        samples : sequence of PIL images in mode RGB, or arrays (height, width, 3) of floats
        """
        return [self._normalized(self._resized(image)) for image in samples]

    def _resized(self, image: Image.Image | np.ndarray) -> Tensor:
        image = self._trimmed(image)
        if isinstance(image, Image.Image):
            size = self.resized_size(image.height, image.width)
            if size != (image.height, image.width):
                image = image.resize((size[1], size[0]), _RESAMPLING[self.interpolation])
            pixels = torch.from_numpy(np.array(image))  # (height, width, 3), uint8
            return pixels.permute(2, 0, 1).float() / 255  # (3, height, width)
        # Floats stay floats: 8-bit pixels would round them, and flat rows may be outside [0, 1]. They are copied,
        # because torch warns of read-only arrays such as memory-mapped files.
        values = torch.from_numpy(np.array(image, dtype=np.float32, order="C")).permute(2, 0, 1)  # (3, height, width)
        size = self.resized_size(*values.shape[1:])
        if size == tuple(values.shape[1:]):
            return values
        if self.interpolation == "nearest":
            return F.interpolate(values[None], size, mode="nearest-exact")[0]  # (3, *size)
        mode = "bilinear" if self.interpolation == "bilinear" else "bicubic"
        if mode == "bilinear" or values.min() < 0 or values.max() > 1:
            return F.interpolate(values[None], size, mode=mode, antialias=True)[0]  # (3, *size)
        # Bicubic kernels overshoot. Values are clipped after each axis, as Pillow does with those of 8 bits.
        values = F.interpolate(values[None], (len(values[0]), size[1]), mode=mode, antialias=True).clamp_(0, 1)
        return F.interpolate(values, size, mode=mode, antialias=True)[0].clamp_(0, 1)  # (3, *size)

    def _trimmed(self, image: Image.Image | np.ndarray) -> Image.Image | np.ndarray:
        """Trim the ends of a very long strip, which the crop would remove after resizing.

        Resizing a strip of 1 x 20000 pixels by its shorter side takes gigabytes, and the crop keeps almost nothing.
        """
        height, width = (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]
        if self.crop is None or not isinstance(self.resize, int) or max(self.crop) > _STRIP * self.resize:
            return image
        if math.prod(self.resized_size(height, width)) <= _LARGEST:
            return image
        top, left = max(0, height - _STRIP * width) // 2, max(0, width - _STRIP * height) // 2
        if isinstance(image, Image.Image):
            return image.crop((left, top, width - left, height - top))
        return image[top : height - top, left : width - left]  # (height, width, 3), shorter

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width in pixels, before the crop, of an image of a given height and width."""
        if self.resize is None:
            return height, width
        if isinstance(self.resize, tuple):
            return self.resize
        if height <= width:
            return self.resize, max(1, int(self.resize * width / height))
        return max(1, int(self.resize * height / width)), self.resize

    def _normalized(self, values: Tensor) -> Tensor:
        if self.crop is not None:
            values = _centre_crop(values, *self.crop)  # (3, *crop)
        return (values - _colours(self.mean)) / _colours(self.std)

    def to_state(self) -> dict[str, Any]:
        """Return all settings."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ImageTransform:
        """Return the transform of a state.

        Raises
        ------
        LoadError
            If a setting is missing.
        InvalidParameterError
            If a setting is not allowed.
        """
        return cls(**{field.name: require_field(state, field.name, object) for field in fields(cls)})


@functools.lru_cache
def _colours(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1)


def _size(name: str, value: Any) -> Any:
    if value is None:
        return None
    is_pair = isinstance(value, (list, tuple))
    numbers = list(value) if is_pair else [value]
    if not all(is_int(n) and n > 0 for n in numbers) or (is_pair and len(numbers) != 2):
        allowed = "an int or (height, width) in pixels, of at least 1, or None"
        raise InvalidParameterError(f"preprocess: {name}={value!r} must be {allowed}")
    return tuple(map(int, numbers)) if is_pair else int(value)


def _channels(name: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)) or len(value) != 3 or not all(is_real(n) for n in value):
        raise InvalidParameterError(f"preprocess: {name}={value!r} must hold 3 numbers, one per colour channel")
    return tuple(map(float, value))


def _centre_crop(values: Tensor, height: int, width: int) -> Tensor:
    missing_rows, missing_columns = max(0, height - values.shape[1]), max(0, width - values.shape[2])
    if missing_rows or missing_columns:
        left, top = missing_columns // 2, missing_rows // 2
        values = F.pad(values, (left, missing_columns - left, top, missing_rows - top))
    top = round((values.shape[1] - height) / 2)
    left = round((values.shape[2] - width) / 2)
    return values[:, top : top + height, left : left + width]
