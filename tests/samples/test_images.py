from __future__ import annotations

import io
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image

from sktransfer.exceptions import FlatImageWarning, InvalidParameterError, InvalidSampleError
from sktransfer.samples.images import ImageSamples, check_images

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (3, 5, 6, 3), dtype=np.uint8)  # (n, height, width, channels)


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    for i, pixels in enumerate(COLOURS):
        (tmp_path / f"{i}.png").write_bytes(encoded(pixels))
    return [str(tmp_path / f"{i}.png") for i in range(3)]


def objects(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def loaded(samples: ImageSamples) -> np.ndarray:
    images = [samples.load(row) for row in range(len(samples))]
    assert all(isinstance(image, Image.Image) and image.mode == "RGB" for image in images)
    return np.stack([np.asarray(image) for image in images])


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "objects": objects,
    "column of objects": lambda items: objects(items)[:, None],
    "pandas Series": lambda items: pd.Series(items, index=[5, 0, 1]),
    "pandas frame": lambda items: pd.DataFrame({"image": objects(items)}),
    "polars Series of objects": lambda items: pl.Series(items, dtype=pl.Object),
    "polars frame of objects": lambda items: pl.DataFrame({"image": pl.Series(items, dtype=pl.Object)}),
}
KINDS = {
    "path": lambda paths: paths,
    "Path": lambda paths: [Path(path) for path in paths],
    "bytes": lambda paths: [Path(path).read_bytes() for path in paths],
    "PIL": lambda paths: [Image.open(path) for path in paths],
    "array": lambda paths: list(COLOURS),
    "tensor": lambda paths: [torch.from_numpy(pixels).permute(2, 0, 1) for pixels in COLOURS],
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_check_images_gives_equal_pixels_for_every_kind_and_container(container: Any, kind: Any, paths: list[str]):
    items = kind(paths)
    samples = check_images(container(items))
    assert len(samples) == 3
    assert np.array_equal(loaded(samples), COLOURS)
    for item in items:
        if isinstance(item, Image.Image):
            item.close()


@pytest.mark.parametrize(
    "X",
    [
        COLOURS,
        np.asfortranarray(COLOURS),
        np.concatenate([COLOURS, np.full_like(COLOURS[..., :1], 255)], axis=3),
        torch.from_numpy(COLOURS),
        torch.from_numpy(COLOURS).permute(0, 3, 1, 2),
    ],
    ids=["array", "Fortran order", "opaque alpha", "tensor, channels last", "tensor, channels first"],
)
def test_check_images_of_one_array(X: Any):
    assert np.array_equal(loaded(check_images(X)), COLOURS)


def test_check_images_of_native_columns_of_pandas_and_polars(paths: list[str]):
    contents = [Path(path).read_bytes() for path in paths]
    columns = (np.array(paths), pd.Series(paths, dtype="string"), pl.Series(paths), pl.Series(contents))
    for X in (*columns, pl.DataFrame({"image": paths}), pl.DataFrame({"image": contents})):
        assert np.array_equal(loaded(check_images(X)), COLOURS)
    floats = COLOURS[..., 0] / 255
    samples = check_images(pl.Series(floats[:, :, :5]))
    assert np.allclose(samples.load(2)[:, :, 1], floats[2, :, :5], atol=1e-6)


def test_load_repeats_grey_stacks():
    grey = COLOURS[..., 0]
    expected = np.repeat(COLOURS[..., :1], 3, axis=3)
    for X in (grey, grey[..., None], torch.from_numpy(grey)[:, None], list(grey), list(torch.from_numpy(grey))):
        assert np.array_equal(loaded(check_images(X)), expected)


def test_load_of_float_and_uint16_returns_float32():
    for X in (COLOURS / 255, (COLOURS / 255).astype(np.float32), COLOURS.astype(np.uint16) * 257):
        for samples in (check_images(X), check_images(list(X))):
            image = samples.load(1)
            assert (image.dtype, image.shape) == (np.float32, (5, 6, 3))
            assert np.allclose(image, COLOURS[1] / 255, atol=1e-6)


def test_check_images_accepts_different_sizes_and_dtypes():
    X = [np.zeros((4, 6, 3), np.uint8), np.zeros((5, 5)), np.zeros((1, 2, 4), bool)]
    samples = check_images(X)
    assert samples.load(0).size == (6, 4)
    assert samples.load(1).shape == (5, 5, 3)
    assert samples.load(2).size == (2, 1)


def test_load_decodes_files_lazily(tmp_path: Path):
    (tmp_path / "a.jpg").write_text("<html>")
    samples = check_images([tmp_path / "a.jpg"])
    assert len(samples.key(0)) == 20
    with pytest.raises(InvalidSampleError, match=r"row 0: .*a\.jpg' is not an image .*HTML"):
        samples.load(0)


def test_take_errors_name_rows_of_the_original(tmp_path: Path, paths: list[str]):
    (tmp_path / "cut.png").write_bytes(Path(paths[0]).read_bytes()[:80])
    view = check_images([*paths, str(tmp_path / "cut.png")]).take([3, 1])
    assert np.array_equal(np.asarray(view.load(1)), COLOURS[1])
    with pytest.raises(InvalidSampleError, match=r"row 3: .*cut\.png' is damaged or cut off") as caught:
        view.load(0)
    assert caught.value.row == 3


@pytest.mark.parametrize("image_shape", [None, (4, 6), (4, 6, 3)])
def test_image_shape_of_flat_rows(image_shape: tuple[int, ...] | None):
    width = int(np.prod(image_shape)) if image_shape else 48
    X = RNG.random((5, width))
    image = check_images(X, image_shape=image_shape).load(4)
    shape = image_shape or (4, 4, 3)
    expected = X[4].reshape(shape).astype(np.float32)
    assert np.array_equal(image, expected if len(shape) == 3 else np.repeat(expected[:, :, None], 3, axis=2))


@pytest.mark.parametrize("to", [np.asarray, torch.from_numpy, pd.DataFrame, pl.DataFrame, list, lambda X: X.tolist()])
def test_check_images_of_flat_rows_in_every_container(to: Any):
    X = RNG.random((5, 16))
    samples = check_images(to(X))
    assert len(samples) == 5
    assert np.array_equal(samples.load(3)[:, :, 0], X[3].reshape(4, 4).astype(np.float32))


def test_check_images_warnings_point_at_the_caller():
    with pytest.warns(FlatImageWarning, match="image_shape") as caught:
        check_images(np.zeros((2, 50)))
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("X", [[np.zeros((4, 6))], np.zeros((2, 49))])
def test_image_shape_is_validated_for_every_x(X: Any):
    with pytest.raises(InvalidParameterError, match=r"image_shape=\(7,\) must be \(height, width\)"):
        check_images(X, image_shape=(7,))


def test_check_images_rejects_mixed_kinds_by_row(paths: list[str]):
    array, content = COLOURS[0], Path(paths[0]).read_bytes()
    for X, first, other in (
        ([paths[0], Path(paths[1]), array], "path", "array"),
        ([array, array, paths[2]], "array", "path"),
        ([array, array, torch.zeros(3, 4, 6)], "array", "tensor"),
        ([Image.fromarray(array), Image.fromarray(array), content], "PIL image", "bytes"),
    ):
        with pytest.raises(
            InvalidSampleError, match=f"row 2: .* is of kind {other}, row 0 of kind {first}; pass images of one kind"
        ):
            check_images(X)


def test_check_images_names_the_row_of_numbers_and_missing_values(paths: list[str]):
    with pytest.raises(InvalidSampleError, match=r"row 1: 3.5 is a float; an image is"):
        check_images([paths[0], 3.5])
    with pytest.raises(InvalidSampleError, match=r"row 0: 3.5 is a float; an image is"):
        check_images([3.5, paths[0]])
    for X in ([paths[0], None], pd.Series([paths[0], None]), pl.Series([paths[0], None]), [paths[0], np.nan]):
        with pytest.raises(InvalidSampleError, match=r"row 1: the image is missing .*drop this row"):
            check_images(X)
    with pytest.raises(InvalidSampleError, match="row 0: the image is missing"):
        check_images([None, None])


def test_check_images_names_the_row_of_an_invalid_image_in_a_stack():
    X = np.zeros((5, 4, 6, 3))
    X[3, 0, 0, 0] = 2
    with pytest.raises(InvalidSampleError, match=r"row 3: .*shape \(5, 4, 6, 3\) .*values from 0 to 2; .*x / 255"):
        check_images(X)
    X[3, 0, 0, 0] = np.nan
    with pytest.raises(InvalidSampleError, match=r"row 3: .*NaN"):
        check_images(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((2, 3, 40, 60)), r"channels seem to come first: move them, np\.moveaxis"),
        (np.zeros((2, 5, 4, 6, 3)), "Reshape it"),
        (np.zeros((2, 4, 6), dtype=np.int64), r"dtype int64; allowed are .*x\.astype\(np\.uint8\)"),
        (np.zeros((2, 4, 6), dtype=complex), "dtype complex128; allowed"),
        (np.zeros((2, 4, 6), dtype=object), "dtype object; allowed"),
        (np.zeros((2, 0, 6), dtype=np.uint8), "no pixel"),
        (torch.zeros(2, 5, 4, 6), "has shape .*pick the channels"),
        ([[[0, 1], [1, 0]]], r"is a list; .*np\.asarray"),
    ],
    ids=str,
)
def test_check_images_rejects_other_stacks(X: Any, message: str):
    with pytest.raises(InvalidSampleError, match=f"row 0: .*{message}"):
        check_images(X)


def test_check_images_of_a_single_sample_suggests_a_list(paths: list[str]):
    for X in (paths[0], Path(paths[0]), b"content", Image.new("RGB", (6, 4))):
        with pytest.raises(ValueError, match=r"not a list of images: wrap it in a list, \[X\]"):
            check_images(X)


def test_check_images_of_texts_names_a_backbone_of_texts():
    for X in (["a good film", "dull", "see e.g. this"], np.array(["a good film"]), ["a good film", "x y" * 5000]):
        with pytest.raises(
            ValueError, match=r"X holds texts, such as 'a good film', .* backbones of texts, .*tiny/bert"
        ):
            check_images(X)


@pytest.mark.parametrize("first", ["photo", "a photo.jpg", "a photo.heic", "my photos/1", "/a photo", "http://a/a b"])
def test_check_images_of_missing_paths_names_the_first_row(first: str):
    with pytest.raises(InvalidSampleError, match=r"row 0: .* cannot be opened"):
        check_images([first, "a film"])


def test_check_images_of_paths_with_blanks_and_no_suffix(tmp_path: Path, paths: list[str], monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    Path(paths[0]).rename("my photo")
    assert len(check_images(["my photo"])) == 1
    with pytest.raises(InvalidSampleError, match="row 1: 'no photo' cannot be opened"):
        check_images(["my photo", "no photo"])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_check_images_of_one_array_suggests_an_axis(channels: int):
    with pytest.raises(ValueError, match=rf"shape \(8, 8, {channels}\): one image .*X\[None\] .*X\[\.\.\., None\]"):
        check_images(np.zeros((8, 8, channels)))
    assert len(check_images(np.zeros((8, 8, channels))[None])) == 1
    assert len(check_images(np.zeros((8, 8, channels))[..., None])) == 8


def test_check_images_of_one_tensor_suggests_an_axis():
    with pytest.raises(ValueError, match=r"shape \(3, 8, 8\): one colour image .*X\[None\] .*X\[:, None\]"):
        check_images(torch.zeros(3, 8, 8))
    assert len(check_images(torch.zeros(3, 8, 8)[None])) == 1
    assert len(check_images(torch.zeros(3, 8, 8)[:, None])) == 3
    assert len(check_images(torch.zeros(5, 8, 8))) == 5


@pytest.mark.parametrize(
    "X", [[], np.zeros((0, 8, 8)), np.zeros((0, 9)), torch.zeros(0, 3, 8, 8), pd.Series([], dtype=object)]
)
def test_check_images_rejects_no_images(X: Any):
    with pytest.raises(ValueError, match=r"0 sample\(s\) .*minimum of 1 is required"):
        check_images(X)


@pytest.mark.parametrize("library", [pd, pl])
def test_check_images_rejects_several_columns_by_name(library: Any):
    with pytest.raises(
        ValueError, match=r"2 columns, \['path', 'id'\]; images must be in one column\. Select it, X\[\['path'\]\]"
    ):
        check_images(library.DataFrame({"path": ["a.png"], "id": ["b"]}))


@pytest.mark.parametrize(
    "X", [None, {"a": 1}, (i for i in range(3)), pl.LazyFrame({"path": ["a.png"]})], ids=lambda X: type(X).__name__
)
def test_check_images_rejects_other_containers(X: Any):
    with pytest.raises(ValueError, match=f"X is a {type(X).__name__}; images come as a list"):
        check_images(X)


def test_key_depends_on_content_dtype_shape_and_kind():
    ones = np.ones((2, 6), np.uint8)
    samples = [
        check_images([ones]),
        check_images([ones * 2]),
        check_images([ones.reshape(3, 4)]),
        check_images([ones.astype(np.float32)]),
        check_images([ones.astype(bool)]),
        check_images([Image.fromarray(ones)]),
        check_images([encoded(ones)]),
        check_images(ones.reshape(1, 12), image_shape=(2, 6)),
    ]
    keys = {one.key(0) for one in samples}
    assert len(keys) == len(samples)
    assert {len(key) for key in keys} == {20}


def test_key_of_equal_content_is_equal(paths: list[str]):
    stack, single, tensors = (
        check_images(COLOURS),
        check_images([COLOURS[1].copy()]),
        check_images(torch.from_numpy(COLOURS)),
    )
    assert stack.key(1) == single.key(0) == tensors.key(1) == stack.take([1]).key(0)
    assert check_images(paths).key(2) == check_images([Path(paths[2])]).key(0)
    flat = RNG.random((3, 16))
    assert check_images(flat).key(1) == check_images(flat[1:]).key(0)


def test_key_of_flat_rows_depends_on_image_shape():
    X = RNG.random((1, 36))
    assert len({check_images(X, image_shape=shape).key(0) for shape in ((6, 6), (4, 9), (3, 4, 3))}) == 3


def test_key_of_pil_images_depends_on_palette_and_orientation():
    images = [Image.new("P", (6, 4)) for _ in range(3)]
    images[0].putpalette([255, 0, 0])
    images[1].putpalette([0, 255, 0])
    images[2].putpalette([0, 255, 0])
    keys = [check_images([image]).key(0) for image in images]
    assert keys[0] != keys[1] == keys[2]
    turned = Image.fromarray(COLOURS[0])
    before = check_images([turned]).key(0)
    turned.getexif()[0x0112] = 3
    assert check_images([turned]).key(0) != before


def test_key_of_a_file_depends_on_time_size_and_path(paths: list[str]):
    def key(path: str) -> bytes:
        return check_images([path]).key(0)

    keys = [key(paths[0])]
    status = Path(paths[0]).stat()
    os.utime(paths[0], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    keys.append(key(paths[0]))
    with Path(paths[0]).open("ab") as file:
        file.write(b"\0")
    os.utime(paths[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    keys.append(key(paths[0]))
    keys.append(key(paths[1]))
    assert len(set(keys)) == 4


def test_key_of_a_link_and_a_relative_path_is_that_of_the_file(paths: list[str], monkeypatch: pytest.MonkeyPatch):
    folder = Path(paths[0]).parent
    (folder / "link.png").symlink_to(paths[0])
    monkeypatch.chdir(folder)
    keys = {check_images([path]).key(0) for path in (paths[0], "0.png", "./0.png", "link.png")}
    assert len(keys) == 1


def test_load_and_key_of_a_deleted_file_name_its_row(paths: list[str]):
    samples = check_images(paths)
    Path(paths[1]).unlink()
    for ask in (samples.key, samples.load):
        with pytest.raises(InvalidSampleError, match=f"row 1: .*{re.escape(paths[1])}"):
            ask(1)


def test_pickle_of_image_samples_loads_equal_samples(paths: list[str]):
    for X in (paths, COLOURS, RNG.random((3, 48)), [Image.fromarray(pixels) for pixels in COLOURS]):
        samples = check_images(X)
        again = pickle.loads(pickle.dumps(samples.take([2, 0])))
        assert again.key(0) == samples.key(2)
        assert np.array_equal(np.asarray(again.load(1)), np.asarray(samples.load(0)))


def test_check_images_does_not_change_x():
    X = (COLOURS / 255).astype(np.float32)
    before = X.copy()
    samples = check_images(X)
    samples.load(0)[:] = 0
    assert np.array_equal(X, before)


@pytest.mark.process
def test_check_images_does_not_import_torch():
    code = "import sys; from sktransfer.samples import images, texts, folders; assert 'torch' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
