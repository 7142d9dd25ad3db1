from __future__ import annotations

import numpy as np
import pytest

from sktransfer import find_bad_images
from tests.helpers.dirty_images import PICTURE, encoded


@pytest.mark.parametrize("n_jobs", [None, 2, -1])
def test_find_bad_images_lists_rows_in_order(tmp_path, n_jobs):
    paths = []
    for row in range(200):
        path = tmp_path / f"{row}.png"
        path.write_bytes(encoded(PICTURE, "PNG") if row % 7 else b"<html>")
        paths.append(path)
    table = find_bad_images(paths, n_jobs=n_jobs)
    assert table.columns.tolist() == ["row", "path", "reason"]
    assert table["row"].tolist() == list(range(0, 200, 7))
    assert table["path"].tolist() == [str(path) for path in paths[::7]]
    assert table["reason"].str.contains("is HTML or XML").all()
    good = np.delete(np.array(paths, dtype=object), table["row"])
    assert find_bad_images(good).empty


def test_find_bad_images_of_valid_images_is_an_empty_table():
    table = find_bad_images(np.zeros((3, 48)), image_shape=(6, 8))
    assert table.shape == (0, 3)
    assert table.columns.tolist() == ["row", "path", "reason"]


def test_find_bad_images_rejects_an_invalid_x():
    with pytest.raises(ValueError, match="wrap it in a list"):
        find_bad_images("a.png")
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        find_bad_images([])
