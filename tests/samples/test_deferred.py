"""Images that cannot be used, told of when they are asked for and not at once."""

from __future__ import annotations

import numpy as np
import pytest

from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.images import check_images
from tests.helpers.dirty_images import PICTURE, encoded


@pytest.fixture
def paths(tmp_path):
    for row in range(3):
        (tmp_path / f"{row}.png").write_bytes(encoded(PICTURE, "PNG"))
    return [str(tmp_path / f"{row}.png") for row in range(3)]


def test_defer_raises_on_load_and_key(paths):
    X = [paths[0], "nowhere.png", None, b"bytes", np.zeros(3), paths[2]]
    samples = check_images(X, defer=True)
    assert len(samples) == len(X)
    assert [samples.path(row) for row in range(6)] == [paths[0], "nowhere.png", None, None, None, paths[2]]
    for row, message in ((1, "no such file"), (2, "is missing"), (3, "is of kind bytes, row 0"), (4, "shape")):
        for view, place in ((samples, row), (samples.take([5, row]).take([1]), 0)):
            for ask in (view.load, view.key):
                with pytest.raises(InvalidSampleError, match=f"row {row}: .*{message}"):
                    ask(place)
    assert np.array_equal(np.asarray(samples.load(5)), PICTURE)


def test_defer_takes_the_kind_of_the_first_valid_sample(paths):
    samples = check_images([None, paths[0], b"bytes"], defer=True)
    assert samples.kind == "path"
    with pytest.raises(InvalidSampleError, match=r"row 2: .*of kind bytes, row 1 of kind path"):
        samples.load(2)


@pytest.mark.parametrize("flat", [False, True])
def test_defer_of_arrays_raises_per_row(flat):
    X = np.zeros((4, 5, 5))
    X[1, 2, 2], X[3, 0, 0] = np.nan, np.inf
    samples = check_images(X.reshape(4, 25) if flat else X, defer=True)
    for row in (1, 3):
        with pytest.raises(InvalidSampleError, match=f"row {row}: .*NaN"):
            samples.load(row)
    assert samples.load(2).shape == (5, 5, 3)


def test_defer_does_not_apply_to_errors_of_all_rows():
    with pytest.raises(InvalidSampleError, match="dtype int64"):
        check_images(np.zeros((4, 5, 5), int), defer=True)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        check_images([], defer=True)
