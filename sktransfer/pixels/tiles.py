"""Tiles of images: which ones a network reads, and which pixels each of them answers for."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from sktransfer.pixels.masks import UNKNOWN
from sktransfer.samples.base import Rows, content_hash
from sktransfer.samples.images import ImageSamples
from sktransfer.samples.labels import label_of

__all__ = ["Grid", "Tile", "Tiles", "image_sizes", "tile_shape", "tiles_of"]

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Grid:
    """Sizes of images that the stages of a backbone read, and how tiles of them overlap.

    Parameters
    ----------
    stride : int
        Pixels from one position of the coarsest map to the next one. Sides and places of tiles are multiples of it, so
        that the maps of a tile lie on the grid of the whole image.
    margin : int
        Pixels at a border between two tiles for which the other tile answers.
    side : int or None
        Side of the only size of image that the stages read; None for any.
    """

    stride: int
    margin: int
    side: int | None = None


@dataclasses.dataclass(frozen=True)
class Tile:
    """A tile of an image, and the part of it that no other tile answers for.

    Parameters
    ----------
    image : int
        Row of the image.
    top, left : int
        Place of the tile in the image. It may reach beyond the lower and the right border.
    shape : (int, int)
        Height and width.
    rows, columns : (int, int)
        First pixel of the image that the tile answers for, and the one after the last, per axis.
    """

    image: int
    top: int
    left: int
    shape: Size
    rows: Size
    columns: Size

    def in_image(self) -> tuple[slice, slice]:
        """Return the slices of the image that the tile answers for."""
        return slice(*self.rows), slice(*self.columns)

    def in_tile(self) -> tuple[slice, slice]:
        """Return the slices of the tile that hold the same pixels."""
        (top, bottom), (left, right) = self.rows, self.columns
        return slice(top - self.top, bottom - self.top), slice(left - self.left, right - self.left)


def tile_shape(size: Size, grid: Grid, max_pixels: int) -> Size:
    """Return height and width of the tiles of an image: the image as a whole, or as much of it as is allowed.

    Parameters
    ----------
    size : (int, int)
        (height, width) of the image.
    grid : Grid
        Sizes that the stages read.
    max_pixels : int
        Largest number of pixels of a tile.

    Examples
    --------
    >>> from sktransfer.pixels.tiles import Grid, tile_shape
    >>> tile_shape((30, 50), Grid(8, 16), 10_000), tile_shape((30, 5000), Grid(8, 16), 10_000)
    ((32, 56), (32, 312))
    """
    if grid.side is not None:
        return grid.side, grid.side
    height, width = (_ceil(length, grid.stride) for length in size)
    if height * width <= max_pixels:
        return height, width
    least = _ceil(4 * grid.margin, grid.stride)  # narrower tiles would be all margin
    side = math.isqrt(max_pixels)
    height = min(height, max(least, _floor(max(side, max_pixels // width), grid.stride)))
    return height, min(width, max(least, _floor(max_pixels // height, grid.stride)))


def tiles_of(image: int, size: Size, shape: Size, grid: Grid) -> list[Tile]:
    """Return the tiles of an image. Each pixel belongs to the tile whose border is farthest from it.

    Parameters
    ----------
    image : int
        Row of the image.
    size, shape : (int, int)
        (height, width) of the image and of the tiles.
    grid : Grid
        Sizes that the stages read.

    Examples
    --------
    >>> from sktransfer.pixels.tiles import Grid, tiles_of
    >>> [(tile.left, tile.columns) for tile in tiles_of(0, (32, 100), (32, 64), Grid(4, 8))]
    [(0, (0, 50)), (36, (50, 100))]
    """
    (tops, rows), (lefts, columns) = (_places(length, tile, grid) for length, tile in zip(size, shape))
    return [
        Tile(image, top, left, shape, own_rows, own_columns)
        for top, own_rows in zip(tops, rows)
        for left, own_columns in zip(lefts, columns)
    ]


def _places(length: int, tile: int, grid: Grid) -> tuple[list[int], list[Size]]:
    """Return the first pixel of each tile along one axis, and the pixels that it answers for."""
    last = _ceil(max(0, length - tile), grid.stride)  # place of the last tile
    step = max(grid.stride, _floor(tile - 2 * min(grid.margin, tile // 4), grid.stride))
    n = -(-last // step) + 1
    starts = [round(index * last / max(1, n - 1) / grid.stride) * grid.stride for index in range(n)]
    borders = [(start + tile + after) // 2 for start, after in itertools.pairwise(starts)]  # middle of each overlap
    return starts, list(zip([0, *borders], [*borders, length]))


def image_sizes(samples: ImageSamples) -> list[Size]:
    """Return (height, width) of each image. Files are decoded.

    Parameters
    ----------
    samples : ImageSamples
        Images.
    """
    return [_size(samples.load(row)) for row in range(len(samples))]


def _size(image: Image.Image | np.ndarray) -> Size:
    return (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]


class Tiles(Rows):
    """Tiles of images as samples. Pixels beyond an image mirror those at its border.

    Parameters
    ----------
    images : ImageSamples
        Images, on the background that their transparent pixels shall have.
    tiles : sequence of Tile
        Tiles.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.pixels.tiles import Grid, Tiles, tiles_of
    >>> from sktransfer.samples.images import check_images
    >>> tiles = Tiles(check_images(np.zeros((1, 20, 100))), tiles_of(0, (20, 100), (32, 64), Grid(4, 8)))
    >>> len(tiles), tiles.load(0).shape
    (2, (32, 64, 3))
    """

    def __init__(self, images: ImageSamples, tiles: Sequence[Tile]) -> None:
        super().__init__(len(tiles))
        self.images, self.tiles = images, list(tiles)
        self._last: tuple[int, Any] = (-1, None)  # the image of the tile that was loaded last

    def _load(self, row: int) -> Image.Image | np.ndarray:
        tile = self.tiles[row]
        number, image = self._last
        if number != tile.image:
            image = self.images.load(tile.image)
            self._last = tile.image, image
        height, width = _size(image)
        bottom, right = tile.top + tile.shape[0], tile.left + tile.shape[1]
        if isinstance(image, Image.Image) and bottom <= height and right <= width:
            return image.crop((tile.left, tile.top, right, bottom))
        pixels = np.asarray(image)[tile.top : bottom, tile.left : right]  # (<= height, <= width, 3)
        beyond = (tile.shape[0] - pixels.shape[0], tile.shape[1] - pixels.shape[1])
        padded = np.pad(pixels, ((0, beyond[0]), (0, beyond[1]), (0, 0)), mode="symmetric")  # (height, width, 3)
        return Image.fromarray(padded) if isinstance(image, Image.Image) else padded

    def _hash(self, row: int) -> bytes:
        tile = self.tiles[row]
        return content_hash("tile", self.images.key(tile.image), f"{tile.top} {tile.left} {tile.shape}")

    def path(self, row: int) -> str | None:
        """Return the path of the image of a tile.

        Parameters
        ----------
        row : int
            Position in this subset.
        """
        return self.images.path(self.tiles[int(self._rows[row])].image)

    def label(self, row: int) -> Any:
        """Return the index label of the image of a tile, or None if X has no labels.

        Parameters
        ----------
        row : int
            Position in this subset.
        """
        return label_of(self.images.labels, self.tiles[int(self._rows[row])].image)

    def cut(self, masks: Sequence[np.ndarray]) -> np.ndarray:
        """Return the masks of tiles (n_tiles, height, width). Pixels that another tile answers for are unknown.

        Parameters
        ----------
        masks : sequence of ndarray of shape (height, width)
            Mask of each image. Tiles have one shape.
        """
        cut = np.full((len(self.tiles), *self.tiles[0].shape), UNKNOWN, np.int32)  # (n_tiles, height, width)
        for of_tile, tile in zip(cut, self.tiles):
            of_tile[tile.in_tile()] = masks[tile.image][tile.in_image()]
        return cut


def _ceil(length: int, step: int) -> int:
    return -(-length // step) * step


def _floor(length: int, step: int) -> int:
    return length // step * step
