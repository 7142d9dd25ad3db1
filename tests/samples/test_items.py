from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.decoding import check_item, file_status


@pytest.fixture
def path(tmp_path: Path) -> str:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


def test_check_item_converts_paths_to_str(path: str):
    for item in (path, Path(path), np.str_(path)):
        assert check_item(item, 0) == ("path", path)


def test_check_item_does_not_decode_bytes():
    assert check_item(b"anything", 0) == ("bytes", b"anything")
    assert check_item(bytearray(b"anything"), 0) == ("bytes", b"anything")


def test_check_item_keeps_pil_images():
    image = Image.new("L", (6, 4))
    assert check_item(image, 0) == ("PIL image", image)


def test_check_item_keeps_arrays_and_moves_channels_of_tensors():
    array = np.zeros((4, 6, 3), np.uint8)
    kind, sample = check_item(array, 0)
    assert kind == "array"
    assert sample is array
    for shape, expected in (((3, 4, 6), (4, 6, 3)), ((5, 6, 3), (5, 6, 3)), ((5, 6), (5, 6))):
        kind, sample = check_item(torch.zeros(shape), 0)
        assert (kind, sample.shape) == ("tensor", expected)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (None, r"the image is missing \(None\); drop this row"),
        (float("nan"), r"the image is missing \(nan\); drop this row"),
        (pd.NA, r"the image is missing \(<NA>\); drop this row"),
        (3.5, "3.5 is a float; an image is a path, .*convert it, or drop this row"),
        (np.uint8(3), "is a uint8; an image is a path"),
        ([[0, 1], [1, 0]], r"is a list; .*\[np\.asarray\(x, dtype=np\.uint8\) for x in X\]"),
        ({"bytes": b"a"}, "is a dict; an image is a path"),
        (b"", "the image has 0 bytes; read it again"),
        (Image.new("RGB", (0, 4)), r"size \(0, 4\), no pixel; drop this row"),
        (np.zeros(64), r"the array has shape \(64,\); .*np\.stack"),
        (torch.zeros(2, 4, 6), r"the tensor of shape \(2, 4, 6\) has shape .*pick the channels"),
        (torch.zeros(4, 6, dtype=torch.int64), "the tensor .*dtype int64; allowed are uint8"),
        (torch.full((3, 4, 6), 9.0), "the tensor .*values from 9 to 9; floats must be in"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_check_item_rejects_other_types_with_row_and_remedy(item: object, message: str):
    with pytest.raises(InvalidSampleError, match=f"^row 4: .*{message}") as caught:
        check_item(item, 4)
    assert caught.value.row == 4


def test_check_item_of_a_missing_file_names_path_and_folder(tmp_path: Path):
    with pytest.raises(
        InvalidSampleError,
        match=rf"row 4: '{tmp_path}/b\.png' cannot be opened, there is no such file \(looked in '{tmp_path}'\)",
    ):
        check_item(tmp_path / "b.png", 4)


def test_check_item_of_a_relative_path_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidSampleError, match=rf"row 4: 'b\.png' .*looked in '{tmp_path}'\); check the path"):
        check_item("b.png", 4)


def test_check_item_rejects_a_folder(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    message = rf"row 4: '{tmp_path}/cat' is a folder; pass .*: X, y = load_image_folder\('{tmp_path}'\)"
    with pytest.raises(InvalidSampleError, match=message):
        check_item(tmp_path / "cat", 4)


def test_check_item_of_a_row_of_paths_suggests_one_column():
    for item in (["a.png", "b.png"], (b"a", b"b")):
        with pytest.raises(InvalidSampleError, match=r"row 4: .*pass \[x\[0\] for x in X\]"):
            check_item(item, 4)


def test_check_item_rejects_an_empty_file(tmp_path: Path):
    (tmp_path / "b.png").touch()
    with pytest.raises(InvalidSampleError, match=r"row 4: .*b\.png' has 0 bytes; get the file again, or drop this row"):
        check_item(tmp_path / "b.png", 4)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("https://example.org/a.png", "looks like a URL: download the image first"),
        ("a\0b.png", "cannot be opened .*null.*check the path"),
        ("a" * 5000, r"a\.\.\.a+' cannot be opened \(File name too long\); check the path"),
        ("", "is an empty path"),
    ],
    ids=["address", "null", "long", "empty"],
)
def test_check_item_rejects_invalid_paths(path: str, message: str):
    with pytest.raises(InvalidSampleError, match=f"row 4: .*{message}") as caught:
        check_item(path, 4)
    assert len(str(caught.value)) < 500


def test_file_status_is_that_of_the_file(path: str):
    assert file_status(path, 0).st_size == Path(path).stat().st_size
