from __future__ import annotations

import fractions
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.utils.validation import check_array

from sktransfer.exceptions import FlatImageWarning, InvalidParameterError, InvalidSampleError
from sktransfer.samples.flat import check_flat, check_image_shape, flat_to_rgb, is_flat

IMAGE = np.zeros((8, 6, 3))


class OnlyArray:
    """Array-like with `__array__` only."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.array, dtype=dtype)


def objects(*items: object) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


FLAT = {
    "float array": np.zeros((4, 9)),
    "bool array": np.zeros((4, 9), dtype=bool),
    "one column": np.zeros((4, 1)),
    "no rows": np.zeros((0, 9)),
    "complex array": np.zeros((4, 9), dtype=complex),
    "one row forgotten": np.zeros(9),
    "0-d array": np.array(3.0),
    "number": 3,
    "numpy number": np.float32(3),
    "numpy bool": np.bool_(True),
    "array-like": OnlyArray(np.zeros((4, 9))),
    "memoryless view": np.broadcast_to(0.5, (4, 9)),
    "tensor": torch.zeros(4, 9),
    "1-d tensor": torch.zeros(9),
    "sparse matrix": scipy.sparse.csr_matrix(np.eye(4)),
    "sparse array": scipy.sparse.coo_array(np.eye(4)),
    "list of lists": [[0.0, 0.5], [1.0, 0.5]],
    "ragged lists": [[0.0], [1.0, 0.5]],
    "list of empty lists": [[], []],
    "tuple of tuples": ((0.0, 0.5), (1.0, 0.5)),
    "list of 1-d arrays": [np.zeros(4), np.zeros(4)],
    "list of 1-d tensors": [torch.zeros(4), torch.zeros(4)],
    "list of numbers": [0.0, 0.5, np.nan],
    "list of fractions": [fractions.Fraction(1, 2)],
    "numbers with a gap": [0.0, None],
    "2-d objects": np.zeros((4, 9), dtype=object),
    "2-d objects with strings": np.array([["a.png", 1]], dtype=object),
    "2-d strings": np.array([["a", "b"]]),
    "one column of numbers as objects": np.zeros((4, 1), dtype=object),
    "numbers as objects": np.zeros(4, dtype=object),
    "pandas frame": pd.DataFrame({"a": [0.5], "b": [True]}),
    "pandas column of numbers": pd.DataFrame({"a": [0.5]}),
    "pandas column of numbers as objects": pd.DataFrame({"a": [0.5]}, dtype=object),
    "pandas frame of several kinds": pd.DataFrame({"path": ["a.png"], "b": [1]}),
    "pandas frame with a name twice": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "pandas frame without columns": pd.DataFrame(index=[0]),
    "pandas Series of numbers": pd.Series([0.5, 1.0]),
    "pandas Series of bools": pd.Series([True]),
    "pandas nullable numbers": pd.Series([1, None], dtype="Int64"),
    "polars frame": pl.DataFrame({"a": [0.5], "b": [True]}),
    "polars column of numbers": pl.DataFrame({"a": [0.5]}),
    "polars Series of bools": pl.Series([True]),
}
NOT_FLAT = {
    "grey stack": np.zeros((4, 8, 6)),
    "colour stack": np.zeros((4, 8, 6, 3), np.uint8),
    "object stack": np.zeros((4, 8, 6), dtype=object),
    "colour tensor": torch.zeros(4, 3, 8, 6),
    "grey tensor": torch.zeros(4, 8, 6),
    "array-like stack": OnlyArray(np.zeros((4, 8, 6))),
    "list of images": [IMAGE, IMAGE],
    "list of grey images": [IMAGE[:, :, 0], IMAGE[:, :, 0]],
    "list of image tensors": [torch.zeros(3, 8, 6)],
    "objects": objects(IMAGE, IMAGE[1:]),
    "column of objects": objects(IMAGE, IMAGE)[:, None],
    "list of str": ["a.png", "b.png"],
    "list of Path": [Path("a.png")],
    "list of bytes": [b"a", b"b"],
    "list of PIL": [Image.new("RGB", (8, 6))],
    "array of str": np.array(["a.png"]),
    "column of str": np.array([["a.png"], ["b.png"]]),
    "pandas Series of str": pd.Series(["a.png"]),
    "pandas Series of images": pd.Series([IMAGE, IMAGE]),
    "pandas Series of 1-d arrays": pd.Series([np.zeros(4), np.zeros(4)]),
    "pandas column of str": pd.DataFrame({"path": ["a.png"]}),
    "polars Series of bytes": pl.Series([b"a"]),
    "polars column of str": pl.DataFrame({"path": ["a.png"]}),
    "polars arrays": pl.Series(np.zeros((4, 8, 6))),
    "a gap, then a path": [np.nan, "a.png"],
    "a number, then a path": [1.0, "a.png"],
    "only gaps": [None, None],
    "empty list": [],
    "one path": "a.png",
    "one Path": Path("a.png"),
    "bytes": b"a",
    "one PIL image": Image.new("RGB", (8, 6)),
    "nothing": None,
    "generator": (i for i in range(3)),
    "0-d str": np.array("a.png"),
}


@pytest.mark.parametrize("X", FLAT.values(), ids=FLAT)
def test_is_flat_of_valid_and_invalid_tables(X: object):
    assert is_flat(X) is True


@pytest.mark.parametrize("X", NOT_FLAT.values(), ids=NOT_FLAT)
def test_is_flat_is_false_for_images(X: object):
    assert is_flat(X) is False


@pytest.mark.parametrize(
    "name", ["float array", "tensor", "list of lists", "list of 1-d arrays", "pandas frame", "polars frame"]
)
def test_is_flat_agrees_with_check_array(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FlatImageWarning)
        assert np.array_equal(check_flat(FLAT[name], None), check_flat(check_array(FLAT[name]), None))


@pytest.mark.parametrize(
    ("width", "shape"),
    [(1, (1, 1)), (64, (8, 8)), (784, (28, 28)), (3, (1, 1, 3)), (3072, (32, 32, 3)), (12, (2, 2, 3))],
)
def test_check_flat_infers_squares(width: int, shape: tuple[int, ...]):
    assert check_flat(np.zeros((2, width)), None).shape == (2, *shape)


def test_check_flat_squares_are_unambiguous():
    squares = {n * n for n in range(1, 2000)}
    assert not squares & {3 * n * n for n in range(1, 2000)}


def test_check_flat_warns_of_strips_and_names_image_shape():
    with pytest.warns(
        FlatImageWarning, match=r"rows of 50 values are not squares .*strips .*image_shape=\(height, width\)"
    ):
        assert check_flat(np.zeros((2, 50)), None).shape == (2, 1, 50)


@pytest.mark.parametrize("shape", [(8, 6), (6, 8), (4, 4, 3), (4, 12, 1), (3, 4, 4), [8, 6], (np.int64(8), 6)])
def test_check_flat_follows_image_shape(shape: Any):
    assert check_flat(np.zeros((2, 48)), shape).shape == (2, *shape)


def test_check_flat_reads_rows_columns_channels():
    image = np.arange(48).reshape(4, 4, 3) / 48
    assert np.array_equal(check_flat(image.reshape(1, -1), None)[0], image)


def test_image_shape_that_does_not_match_names_both_numbers():
    with pytest.raises(InvalidParameterError, match=r"image_shape=\(8, 8\) has 64 values, a row of X has 48; .*agree"):
        check_flat(np.zeros((2, 48)), (8, 8))


@pytest.mark.parametrize(
    "image_shape", [8, "88", (8,), (8, 6, 2), (8, 6, 3, 1), (0, 6), (-8, -6), (8.0, 6.0), (True, 8)]
)
def test_image_shape_that_is_invalid_lists_allowed_values(image_shape: Any):
    with pytest.raises(
        InvalidParameterError, match=r"image_shape=.* must be \(height, width\) or .*or None for squares"
    ):
        check_image_shape(image_shape)


def test_check_flat_warns_once_of_values_out_of_range():
    X, _ = load_digits(return_X_y=True)
    with pytest.warns(
        FlatImageWarning, match=r"run from 0 to 16 and are not rescaled; .*divide by the largest"
    ) as caught:
        images = check_flat(X[:5], None)
    assert len(caught) == 1
    assert np.array_equal(flat_to_rgb(images[0])[:, :, 1], X[0].reshape(8, 8))


@pytest.mark.parametrize(("low", "high"), [(-0.5, 1), (0, 1.5)])
def test_check_flat_warns_of_values_out_of_range_on_one_side(low: float, high: float):
    with pytest.warns(FlatImageWarning, match=f"run from {low:g} to {high:g}"):
        check_flat(np.array([[low, 0, 0, high]]), None)


def test_check_flat_joins_both_warnings():
    with pytest.warns(FlatImageWarning, match=r"strips .*Moreover, values run from -1 to 2") as caught:
        check_flat(np.array([[-1.0, 2.0]]), None)
    assert len(caught) == 1


@pytest.mark.parametrize("dtype", ["uint8", "bool"])
def test_check_flat_does_not_warn_of_uint8_and_bool(dtype: str):
    assert check_flat(np.array([[0, 1, 0, 255]]).astype(dtype), None).shape == (1, 2, 2)


def test_flat_to_rgb_divides_uint8_by_255():
    images = check_flat(np.array([[0, 51, 102, 255]], np.uint8), None)
    assert np.allclose(flat_to_rgb(images[0])[:, :, 2], [[0, 0.2], [0.4, 1]])
    for dtype in ("bool", "float64", "int64"):
        image = flat_to_rgb(check_flat(np.array([[0, 1, 1, 0]]).astype(dtype), None)[0])
        assert (image.dtype, image.shape) == (np.float32, (2, 2, 3))
        assert image[:, :, 0].tolist() == [[0, 1], [1, 0]]


def test_flat_to_rgb_blends_alpha_with_the_background():
    X = np.arange(16).reshape(1, -1) / 16
    (image,) = check_flat(X, (2, 2, 4))
    colours, alpha = image[:, :, :3], image[:, :, 3:]
    assert np.array_equal(flat_to_rgb(image, background=None), colours.astype(np.float32))
    np.testing.assert_allclose(flat_to_rgb(image), colours * alpha + 1 - alpha, atol=1e-6)
    with pytest.warns(FlatImageWarning, match="values run from 0 to 255"):
        (image,) = check_flat(np.full((1, 16), 255.0) - np.eye(1, 16) * 255, (2, 2, 4))
    assert np.array_equal(flat_to_rgb(image), image[:, :, :3])  # alpha of 255 is opaque in rows that are not rescaled


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_check_flat_names_the_row_of_values_that_are_not_finite(value: float):
    X = np.zeros((5, 4))
    X[3, 2] = value
    with pytest.raises(
        InvalidSampleError, match=r"row 3: the row holds NaN, infinity .*fill it, or drop this row"
    ) as caught:
        check_flat(X, None)
    assert caught.value.row == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sparse matrix", r"sparse matrix; images are dense: pass X\.toarray"),
        ("one row forgotten", r"shape \(9,\).*\(n, n_pixels\)\. Reshape your data"),
        ("number", r"shape \(\).*Reshape your data"),
        ("complex array", "dtype complex128; .*Convert X to float"),
        ("2-d strings", r"array of 2 columns; images must be in one column\. Select it, X\[:, 0\]"),
        ("no rows", r"0 sample\(s\) \(shape=\(0, 9\)\)"),
        ("list of empty lists", r"0 feature\(s\) \(shape=\(2, 0\)\)"),
        (
            "pandas frame of several kinds",
            r"2 columns, \['path', 'b'\]; images must be in one column\. Select it, X\[\['path'\]\]",
        ),
    ],
)
def test_check_flat_rejects_other_tables(name: str, message: str):
    with pytest.raises(ValueError, match=message):
        check_flat(FLAT[name], None)


def test_check_flat_converts_numbers_stored_as_objects():
    assert check_flat(np.array([[0, 0.5, 1, True]], dtype=object), None).dtype == np.float64


def test_check_flat_collects_invalid_rows():
    X = np.full((5, 4), 0.5)
    X[3, 2], X[4] = np.nan, np.inf
    invalid: dict[int, str] = {}
    assert check_flat(X, None, invalid).shape == (5, 2, 2)
    assert sorted(invalid) == [3, 4]
    assert check_flat(np.full((2, 4), np.nan), None, invalid).shape == (2, 2, 2)
    with pytest.warns(FlatImageWarning, match="values run from 0.5 to 9 "):  # of the valid rows
        check_flat(np.vstack([X, np.full((1, 4), 9.0)]), None, invalid)
