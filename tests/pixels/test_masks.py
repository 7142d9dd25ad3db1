"""Masks as users pass them, and their intersection over union."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

from sktransfer.exceptions import TargetWarning
from sktransfer.pixels.masks import check_masks, check_sizes, mean_iou, refuse_all_unknown, warn_of_255

MASK = np.arange(6).reshape(2, 3) % 3


@pytest.mark.parametrize("mode", ["L", "P", "I"])
def test_check_masks_reads_paths(tmp_path, mode):
    path = tmp_path / ("mask.tif" if mode == "I" else "mask.png")
    if mode == "P":
        image = Image.fromarray(MASK.astype(np.uint8)).convert("P")
        image.putdata(MASK.ravel().tolist())
        image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    else:
        image = Image.fromarray(MASK.astype(np.uint8 if mode == "L" else np.int32))
    image.save(path)
    for given in ([path], [str(path)], pd.Series([str(path)]), pd.DataFrame({"mask": [path]}), [image]):
        (mask,) = check_masks(given)
        np.testing.assert_array_equal(mask, MASK)


@pytest.mark.parametrize(
    "masks", [[MASK, MASK[:1]], np.stack([MASK, MASK]), torch.as_tensor(np.stack([MASK, MASK])), [MASK.tolist()]]
)
def test_check_masks_returns_integer_arrays(masks):
    checked = check_masks(masks)
    assert len(checked) == len(masks)
    np.testing.assert_array_equal(checked[0], MASK)


def test_check_masks_takes_bools_as_0_and_1():
    (mask,) = check_masks([MASK > 1])
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, MASK > 1)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([MASK, MASK / 2], r"masks\[1\] is of float64, and a mask holds ints; convert it by mask.astype\(int\)"),
        ([MASK, MASK[..., None]], r"masks\[1\] has shape \(2, 3, 1\).*pass mask\[..., 0\]"),
        ([MASK[None]], r"masks\[0\] has shape \(1, 2, 3\).*pass mask\[0\]"),
        ([np.eye(3, dtype=int)[MASK]], r"masks\[0\] has shape \(2, 3, 3\).*take mask.argmax\(-1\)"),
        ([np.stack([MASK * 255] * 3, -1)], r"masks\[0\] has shape \(2, 3, 3\).*are grey, so pass mask\[..., 0\]"),
        ([np.stack([MASK, MASK, 9 - MASK], -1)], r"masks\[0\] has shape \(2, 3, 3\).*give each colour a number"),
        ([np.where(MASK, MASK, np.nan)], r"masks\[0\] is of float64, .*np.where\(np.isnan\(mask\), -1, mask\)"),
        ([MASK.astype(str)], r"masks\[0\] is of <U.*give each class a number"),
        ([MASK[0]], r"masks\[0\] has shape \(3,\)"),
        ([MASK - 2], r"masks\[0\] holds -2; classes are ints from 0"),
        (MASK, r"masks is an array of shape \(2, 3\): pass masks\[None\]"),
        ("mask.png", "masks is a single str"),
        (3, "masks is a single int"),
        (["no.png"], r"masks\[0\], 'no.png', is not an existing file"),
        ([Image.new("RGB", (3, 2))], "image of mode RGB.*give each colour a number"),
        (pd.Series([MASK, MASK / 2], index=[5, 7]), r"masks.iloc\[1\] \(index label 7\) is of float64"),
    ],
)
def test_check_masks_rejects(masks, message):
    with pytest.raises(ValueError, match=message):
        check_masks(masks)


def test_check_masks_rejects_jpeg(tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray((MASK > 0).astype(np.uint8)).save(path, format="JPEG")
    with Image.open(path) as image:
        for given in (path, image):
            with pytest.raises(ValueError, match=r"masks\[0\].* is a JPEG, .*save masks as PNG"):
                check_masks([given])


def test_warn_of_255_needs_two_small_classes():
    for other in ([0, 255], [0, 127, 255], [0, 1], [-1, 255]):
        warn_of_255([np.array([other])])
    with pytest.warns(TargetWarning, match=r"255 besides the classes \[0, 1\]"):
        warn_of_255([np.array([[0, 255]], np.uint8), np.array([[1]])])


def test_check_masks_rejects_a_file_that_is_no_image(tmp_path):
    path = tmp_path / "mask.png"
    path.write_text("no image")
    with pytest.raises(ValueError, match=r"masks\[0\].*is not an image"):
        check_masks([path])


def test_check_sizes_names_the_row_and_both_sizes():
    check_sizes([MASK], [(2, 3)])
    with pytest.raises(ValueError, match="there are 1 images and 2 masks"):
        check_sizes([MASK, MASK], [(2, 3)])
    with pytest.raises(ValueError, match=r"masks\[1\] is of 2 x 3 pixels, and its image of 4 x 5"):
        check_sizes([MASK, MASK], [(2, 3), (4, 5)])
    with pytest.raises(ValueError, match=r"masks\[0\] is of 2 x 3 pixels, .*pass mask.T"):
        check_sizes([MASK], [(3, 2)])


def test_refuse_all_unknown():
    refuse_all_unknown([np.full((2, 2), -1), MASK])
    with pytest.raises(ValueError, match="all pixels of the 1 masks are unknown"):
        refuse_all_unknown([np.full((2, 2), -1)])


@pytest.mark.parametrize("n_classes", [2, 4])
def test_mean_iou_equals_jaccard_score(n_classes):
    rng = np.random.default_rng(0)
    true = [rng.integers(-1, n_classes, size) for size in ((8, 9), (5, 4))]
    predicted = [rng.integers(0, n_classes + 1, mask.shape) for mask in true]
    known = [mask >= 0 for mask in true]
    for weight in (np.ones(2), np.array([1.0, 3.0])):
        y_true, y_pred, of_pixels = (
            np.concatenate([one[where] for one, where in zip(some, known)])
            for some in (true, predicted, [np.full(mask.shape, w) for mask, w in zip(true, weight)])
        )
        expected = jaccard_score(y_true, y_pred, average="macro", sample_weight=of_pixels)
        assert mean_iou(true, predicted, weight) == pytest.approx(expected)


def test_mean_iou_leaves_out_absent_classes():
    mask = np.array([[0, 0, 3, 3]])
    assert mean_iou([mask], [mask], np.ones(1)) == 1.0  # classes 1 and 2 are not among them
    with pytest.raises(ValueError, match="nothing to score"):
        mean_iou([mask * 0 - 1], [mask], np.ones(1))


def test_a_missing_mask_is_named():
    with pytest.raises(ValueError, match=r"masks\[1\] is None; drop the image"):
        check_masks([np.zeros((4, 4), int), None])
