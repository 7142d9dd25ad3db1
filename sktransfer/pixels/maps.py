"""Backbones that read images at their own size, and the values that their stages have at each pixel."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.exceptions import InvalidParameterError
from sktransfer.pixels.tiles import Grid

__all__ = ["at_own_size", "find_grid", "read_at_own_size", "to_pixels"]

_MARGIN = 32  # pixels; the stages of tiny/cnn up to block4 read 22 pixels to each side
_TRIED = 64  # side of the image that a backbone of any size is tried with


def read_at_own_size(backbone: Backbone, preprocess: Any, layer: Any) -> tuple[Backbone, Grid]:
    """Return a backbone that reads images at their own size, or in tiles of its only size, and its grid.

    Parameters
    ----------
    backbone : Backbone
        Backbone of images.
    preprocess, layer
        Parameters of the estimator.

    Raises
    ------
    InvalidParameterError
        If the backbone has no maps, or a parameter is not allowed.
    """
    own_size = at_own_size(backbone, preprocess)
    several = isinstance(layer, str) and layer in ("mix", "auto")
    stops = [position + 1 for position in backbone.positions("all" if several else layer)]
    source: Any = backbone.preprocess
    grid = find_grid(own_size, source, stops, layer)
    if grid.side is None:
        return own_size, grid
    return own_size.with_preprocess(dataclasses.replace(source, resize=None, crop=(grid.side, grid.side))), grid


def at_own_size(backbone: Backbone, preprocess: Any = "auto") -> Backbone:
    """Return a backbone that reads images at their own size, without resizing and cropping.

    Parameters
    ----------
    backbone : Backbone
        Backbone of images.
    preprocess : "auto", ImageTransform or mapping, default="auto"
        Parameter of the estimator that the preprocessing of the backbone comes from.

    Raises
    ------
    InvalidParameterError
        If the backbone reads no images, or the preprocessing is no `ImageTransform`, or the parameter resizes or crops.

    Examples
    --------
    >>> from sktransfer import load_backbone
    >>> from sktransfer.pixels.maps import at_own_size
    >>> at_own_size(load_backbone("tiny/cnn")).preprocess.resize is None
    True
    """
    transform = backbone.preprocess
    if backbone.modality != "image" or not isinstance(transform, ImageTransform):
        raise InvalidParameterError(
            f"backbone={backbone.name!r} reads {backbone.modality}s, prepared by {type(transform).__name__}; a class "
            "per pixel needs a backbone of images whose preprocessing is an ImageTransform, such as 'tiny/cnn'"
        )
    given = {"resize": None, "crop": None}
    if isinstance(preprocess, ImageTransform):
        given = {name: getattr(preprocess, name) for name in given}
    elif isinstance(preprocess, Mapping):
        given = {name: preprocess.get(name) for name in given}
    for name, value in given.items():
        if value is not None:
            raise InvalidParameterError(
                f"preprocess: {name}={value!r} changes the size of images, and masks have theirs; leave it out, or "
                "resize images and masks before, masks with the nearest pixel"
            )
    return backbone.with_preprocess(dataclasses.replace(transform, resize=None, crop=None))


def find_grid(backbone: Backbone, source: ImageTransform, stops: list[int], layer: Any) -> Grid:
    """Return the sizes of images that some stages read, as found by passes over blank images.

    Parameters
    ----------
    backbone : Backbone
        Backbone of images.
    source : ImageTransform
        Preprocessing that the weights were trained with, whose size networks of one size have.
    stops : list of int
        Numbers of stages that run for each layer that is read.
    layer : int, str or list of these
        Parameter of the estimator, for messages.

    Raises
    ------
    InvalidParameterError
        If a layer has no map.

    Examples
    --------
    >>> from sktransfer import load_backbone
    >>> from sktransfer.pixels.maps import find_grid
    >>> backbone = load_backbone("tiny/cnn")
    >>> find_grid(backbone, backbone.preprocess, [3, 5], ["block2", "block4"])
    Grid(stride=4, margin=32, side=None)
    """
    size = source.crop or source.resize or _TRIED
    side = max(size) if isinstance(size, tuple) else size
    # A network of any size reads a strip as well. Sequences hold the patches of a square.
    for shape in ((_TRIED, 2 * _TRIED), (side, side)):
        try:
            outputs = _outputs(backbone, shape, stops)
        except (AssertionError, RuntimeError, ValueError) as error:
            failure = error
            continue
        if any(one.ndim == 3 for one in outputs) and shape[0] != shape[1]:
            continue
        return _grid(backbone, outputs, shape, layer, is_only=shape[0] == shape[1])
    raise InvalidParameterError(
        f"backbone={backbone.name!r} reads no images of {side} x {side} pixels: {failure}"
    ) from failure


def _outputs(backbone: Backbone, shape: tuple[int, int], stops: list[int]) -> list[Tensor]:
    with torch.no_grad():
        passed = list(backbone.run(torch.zeros(1, 3, *shape), None, stop=max(stops)))
    return [passed[stop - 1] for stop in stops]


def _grid(backbone: Backbone, outputs: list[Tensor], shape: tuple[int, int], layer: Any, *, is_only: bool) -> Grid:
    if any(one.ndim == 2 for one in outputs):
        raise InvalidParameterError(
            f"layer={layer!r} of {backbone.name} gives one vector per image, and a class per pixel needs a map; choose "
            f"lower stages of {backbone.stage_names}"
        )
    if is_only:
        return Grid(1, min(_MARGIN, shape[0] // 4), shape[0])
    stride = max(round(shape[0] / one.shape[2]) for one in outputs)
    return Grid(stride, max(_MARGIN, 2 * stride))


def to_pixels(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (n, channels, *size) interpolated to the pixels of a tile.

    A linear head gives the same on interpolated maps, because the weights of an interpolation sum to one.

    Parameters
    ----------
    maps : Tensor of shape (n, channels, height, width)
        Maps of tiles, or outputs of a head on them.
    size : (int, int)
        Height and width of the tiles.
    """
    return functional.interpolate(maps, size, mode="bilinear")  # (n, channels, *size)
