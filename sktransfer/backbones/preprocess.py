"""From a validated sample to what the first stage takes. Preprocessing is data, and belongs to the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sktransfer._validation import require_field
from sktransfer.exceptions import InvalidParameterError, did_you_mean

__all__ = ["ImageTransform", "Preprocess", "TextPreprocess"]

_LARGEST = 2**24  # pixels that an image is resized to; strips that would get more are trimmed first
_STRIP = 16  # times as long as wide is what is left of them
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Preprocess(Protocol):
    """What a backbone asks of its preprocessing: samples in, one tensor a sample out.

    Attributes
    ----------
    pad_value : int
        What fills up the shorter sequences of a batch.
    """

    pad_value: int

    @property
    def key(self) -> str:
        """Return what tells this preprocessing from any other that gives other tensors."""

    def __call__(self, samples: Sequence[Any]) -> list[Tensor]:
        """Return one tensor a sample."""


@runtime_checkable
class TextPreprocess(Preprocess, Protocol):
    """What is asked of the preprocessing of texts beyond that."""

    @property
    def limit(self) -> int:
        """The most tokens that are read of a text."""

    def tokenize(self, texts: Sequence[str]) -> tuple[list[Tensor], list[bool]]:
        """Return token ids (tokens,) of each text, and whether it was cut."""

    def with_max_length(self, max_length: int | None) -> TextPreprocess:
        """Return a preprocessing that keeps another number of tokens."""


@dataclass(frozen=True)
class ImageTransform:
    """Resize, crop at the centre, normalise: what an image network expects of its input.

    Parameters
    ----------
    resize : int or (int, int), default=None
        Pixels of the shorter side (the ratio of the sides is kept), or (height, width); None leaves the size.
    crop : int or (int, int), default=None
        Side of a square, or (height, width), cut out at the centre, with black borders where the image is smaller; None
        for no crop. An int is kept as the pair that it stands for.
    mean, std : (float, float, float)
        Subtracted from, and divided into, the three colours in [0, 1].
    interpolation : {"bilinear", "bicubic", "nearest", "lanczos"}, default="bilinear"
        How images are resized, with antialiasing (but for "nearest"). Arrays of floats know no "lanczos": they get
        "bicubic".

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
    pad_value = 0

    def __post_init__(self) -> None:
        # Plain ints, floats and tuples, whatever came: JSON knows no tuples, and `key` must not tell 1 from 1.0.
        object.__setattr__(self, "resize", _size("resize", self.resize))
        crop = _size("crop", self.crop)
        object.__setattr__(self, "crop", (crop, crop) if isinstance(crop, int) else crop)
        object.__setattr__(self, "mean", _colours("mean", self.mean))
        object.__setattr__(self, "std", _colours("std", self.std))
        if min(self.std) <= 0:
            raise InvalidParameterError(f"preprocess: std={self.std} must be greater than 0")
        if self.interpolation not in _RESAMPLING:
            raise InvalidParameterError(
                f"preprocess: interpolation={self.interpolation!r} must be one of {tuple(_RESAMPLING)}"
            )

    @property
    def key(self) -> str:
        """All settings as JSON."""
        return json.dumps(asdict(self))

    def updated(self, changes: ImageTransform | Mapping[str, Any]) -> ImageTransform:
        """Return a transform with some settings changed.

        Parameters
        ----------
        changes : ImageTransform or mapping
            A whole transform, or the settings to change by name.

        Raises
        ------
        InvalidParameterError
            If a name is not a setting, or a value is not allowed.
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
        """Return one float32 tensor (3, height, width) an image.

        Parameters
        ----------
        samples : sequence of PIL images in mode RGB, or arrays (height, width, 3) of floats
        """
        return [self._normalized(self._resized(image)) for image in samples]

    def _resized(self, image: Image.Image | np.ndarray) -> Tensor:
        image = self._trimmed(image)
        if isinstance(image, Image.Image):
            size = self._target(image.height, image.width)
            if size != (image.height, image.width):
                image = image.resize((size[1], size[0]), _RESAMPLING[self.interpolation])
            pixels = torch.from_numpy(np.array(image))  # (height, width, 3), uint8
            return pixels.permute(2, 0, 1).float() / 255  # (3, height, width)
        # Floats stay floats: going through 8-bit pixels would round them, and flat rows may leave [0, 1].
        # The copy is torch's own: an array that is mapped from a file cannot be written to, which torch warns of.
        values = torch.from_numpy(np.array(image, dtype=np.float32, order="C")).permute(2, 0, 1)  # (3, height, width)
        size = self._target(*values.shape[1:])
        if size == tuple(values.shape[1:]):
            return values
        if self.interpolation == "nearest":
            return F.interpolate(values[None], size, mode="nearest-exact")[0]  # (3, *size)
        mode = "bilinear" if self.interpolation == "bilinear" else "bicubic"
        return F.interpolate(values[None], size, mode=mode, antialias=True)[0]  # (3, *size)

    def _trimmed(self, image: Image.Image | np.ndarray) -> Image.Image | np.ndarray:
        """Return an image without the ends that the crop will cut off anyway, where it is a very long strip.

        To resize a strip of 1 x 20000 pixels by its shorter side takes gigabytes, of which the crop leaves next to
        nothing.
        """
        height, width = (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]
        if self.crop is None or not isinstance(self.resize, int) or max(self.crop) > _STRIP * self.resize:
            return image
        if math.prod(self._target(height, width)) <= _LARGEST:
            return image
        top, left = max(0, height - _STRIP * width) // 2, max(0, width - _STRIP * height) // 2
        if isinstance(image, Image.Image):
            return image.crop((left, top, width - left, height - top))
        return image[top : height - top, left : width - left]  # (height, width, 3), shorter

    def _target(self, height: int, width: int) -> tuple[int, int]:
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
        mean, std = (torch.tensor(colours, dtype=torch.float32).view(3, 1, 1) for colours in (self.mean, self.std))
        return (values - mean) / std

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


def _size(name: str, value: Any) -> Any:
    if value is None:
        return None
    several = isinstance(value, (list, tuple))
    numbers = list(value) if several else [value]
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) > 0 for n in numbers)
    if not whole or (several and len(numbers) != 2):
        allowed = "an int or (height, width) in pixels, of at least 1, or None"
        raise InvalidParameterError(f"preprocess: {name}={value!r} must be {allowed}")
    return tuple(map(int, numbers)) if several else int(value)


def _colours(name: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)) or len(value) != 3 or not all(isinstance(n, Real) for n in value):
        raise InvalidParameterError(f"preprocess: {name}={value!r} must hold 3 numbers, one a colour")
    return tuple(map(float, value))


def _centre_crop(values: Tensor, height: int, width: int) -> Tensor:
    missing_rows, missing_columns = max(0, height - values.shape[1]), max(0, width - values.shape[2])
    if missing_rows or missing_columns:
        left, top = missing_columns // 2, missing_rows // 2
        values = F.pad(values, (left, missing_columns - left, top, missing_rows - top))
    top = round((values.shape[1] - height) / 2)
    left = round((values.shape[2] - width) / 2)
    return values[:, top : top + height, left : left + width]
