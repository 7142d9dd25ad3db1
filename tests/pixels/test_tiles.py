"""Tiles of images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sktransfer.pixels.tiles import Grid, Tiles, image_sizes, tile_shape, tiles_of
from sktransfer.samples.images import check_images

GRID = Grid(4, 8)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (31, 32), (100, 33), (64, 500), (301, 299)])
@pytest.mark.parametrize("max_pixels", [1, 1024, 5000, 10**6])
def test_tiles_of_cover_each_pixel_once(size, max_pixels):
    shape = tile_shape(size, GRID, max_pixels)
    tiles = tiles_of(0, size, shape, GRID)
    times = np.zeros(size, int)
    for tile in tiles:
        times[tile.in_image()] += 1
        inside = np.zeros(shape, bool)
        inside[tile.in_tile()] = True
        assert inside.sum() == times[tile.in_image()].size
        assert tile.top % GRID.stride == tile.left % GRID.stride == 0
        (top, bottom), (left, right) = tile.rows, tile.columns
        near = [top - tile.top, tile.top + shape[0] - bottom, left - tile.left, tile.left + shape[1] - right]
        at_border = [top == 0, bottom == size[0], left == 0, right == size[1]]
        assert all(distance >= GRID.margin or border for distance, border in zip(near, at_border))
    assert (times == 1).all()


@pytest.mark.parametrize("size", [(30, 50), (512, 512), (4000, 20), (700, 900)])
def test_tile_shape_is_at_most_max_pixels(size):
    shape = tile_shape(size, GRID, 10_000)
    assert shape[0] * shape[1] <= 10_000
    assert shape[0] % 4 == shape[1] % 4 == 0
    assert tile_shape(size, Grid(1, 8, side=224), 10_000) == (224, 224)


@pytest.mark.parametrize("kind", ["PIL", "float"])
def test_tiles_load_parts_of_the_image(kind):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    samples = check_images([Image.fromarray(pixels)] if kind == "PIL" else [pixels / 255])
    shape = (40, 48)
    cut = tiles_of(0, (40, 90), shape, GRID)
    tiles = Tiles(samples, cut)
    padded = np.pad(pixels, ((0, 0), (0, 60), (0, 0)), mode="symmetric")
    for row, tile in enumerate(cut):
        loaded = np.asarray(tiles.load(row)) * (1 if kind == "PIL" else 255)
        np.testing.assert_allclose(loaded, padded[:, tile.left : tile.left + 48], atol=1e-4)
    assert len({tiles.key(row) for row in range(len(tiles))}) == len(cut) > 1


def test_tiles_mirror_images_smaller_than_a_tile():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    tiles = Tiles(check_images([image]), tiles_of(0, (3, 4), (8, 8), GRID))
    expected = np.pad(image, ((0, 5), (0, 4)), mode="symmetric")
    np.testing.assert_array_equal(np.asarray(tiles.load(0))[..., 0], expected)


def test_tiles_cut_masks_so_that_each_pixel_is_known_once():
    masks = [np.arange(40 * 90).reshape(40, 90), np.full((20, 30), 7)]
    samples = check_images([np.zeros(mask.shape, np.uint8) for mask in masks])
    sizes = image_sizes(samples)
    assert sizes == [(40, 90), (20, 30)]
    cut = [tile for row, size in enumerate(sizes) for tile in tiles_of(row, size, (40, 48), GRID)]
    of_tiles = Tiles(samples, cut).cut(masks)
    known = np.sort(of_tiles[of_tiles >= 0])
    np.testing.assert_array_equal(known, np.sort(np.concatenate([mask.ravel() for mask in masks])))


def test_tiles_take_keeps_path_and_label(tmp_path):
    Image.new("L", (90, 40)).save(tmp_path / "a.png")
    samples = check_images([str(tmp_path / "a.png")])
    tiles = Tiles(samples, tiles_of(0, (40, 90), (40, 48), GRID)).take([1])
    assert tiles.path(0) == str(tmp_path / "a.png")
    assert tiles.label(0) is None
    assert tiles.load(0).size == (48, 40)
