from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from sktransfer import FineTuneClassifier, FineTuneSegmenter, MaskDisplay
from sktransfer.displays.axes import COLOURS
from sktransfer.exceptions import InvalidParameterError
from tests.helpers.pictures import cut_labels

IMAGES = np.random.default_rng(0).random((5, 16, 24)).astype(np.float32)
MASKS = (np.arange(24) // 8)[None, None].repeat(16, 1).repeat(5, 0) * 2  # classes 0, 2, 4 from left to right
MASKS[:, :4] = -1


def test_plot_draws_each_mask_over_its_image():
    images = np.repeat(IMAGES[..., None], 3, axis=3)
    display = MaskDisplay(images, {"mask": MASKS, "other": MASKS[:, ::-1]}).plot(n_columns=2, opacity=0.25)
    assert display.classes.tolist() == [0, 2, 4]
    drawn = [np.asarray(one.get_array()) for one in display.ax_.images]
    assert len(drawn) == 2 + 2 * 4  # two images, and each again below each of two kinds of masks
    np.testing.assert_allclose(drawn[0], images[0])
    mask = drawn[3]  # of the first image
    assert not mask[:4].any()  # unknown pixels are transparent
    for index, column in enumerate((0, 8, 16)):
        np.testing.assert_allclose(mask[10, column], (*to_rgb(COLOURS[index]), 0.25))
    assert [text.get_text() for text in display.ax_.texts] == ["image", "mask", "other"]
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["0", "2", "4"]
    assert not cut_labels(display.figure_)


def test_from_estimator_draws_given_and_predicted_masks():
    segmenter = FineTuneSegmenter(layer=0, random_state=0).fit(IMAGES, MASKS)
    display = MaskDisplay.from_estimator(segmenter, IMAGES, MASKS, n_columns=3)
    assert list(display.masks) == ["mask", "prediction"]
    np.testing.assert_array_equal(display.masks["prediction"], segmenter.predict(IMAGES)[:3])
    np.testing.assert_allclose(display.images[2][..., 0], IMAGES[2])
    _, ax = plt.subplots()
    assert MaskDisplay.from_estimator(segmenter, list(IMAGES), ax=ax).ax_ is ax


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"mask": MASKS[:4]}, "there are 5 images and 4 masks"),
        ({"mask": MASKS[:, :5]}, r"masks\['mask'\]\[0\] is of 5 x 24 pixels, and its image of 16 x 24"),
        (MASKS, "masks is a ndarray, and must be a dict"),
        ({}, "masks is empty, and must be a dict"),
    ],
    ids=["number", "size", "array", "none"],
)
def test_init_rejects_masks(masks, message):
    with pytest.raises(ValueError, match=message):
        MaskDisplay(IMAGES, masks)


def test_from_estimator_rejects_masks_of_another_size():
    segmenter = FineTuneSegmenter(layer=0, random_state=0).fit(IMAGES, MASKS)
    for masks in (MASKS[:, :5], MASKS[:4]):
        with pytest.raises(ValueError, match=r"5 x 24 pixels|5 images and 4 masks"):
            MaskDisplay.from_estimator(segmenter, IMAGES, masks)


def test_plot_shows_grey_images_in_grey():
    display = MaskDisplay(IMAGES, {"mask": MASKS})
    np.testing.assert_array_equal(display.images[1], np.stack([IMAGES[1]] * 3, -1))


@pytest.mark.parametrize("parameters", [{"opacity": 0}, {"opacity": 2}, {"n_columns": 0}])
def test_plot_rejects_parameters(parameters):
    display = MaskDisplay(np.zeros((1, 4, 4, 3)), {"mask": [np.eye(4, dtype=int)]})
    with pytest.raises(InvalidParameterError, match=next(iter(parameters))):
        display.plot(**parameters)


def test_masks_come_from_a_segmenter():
    X = np.zeros((4, 8, 8, 3), np.uint8)
    clf = FineTuneClassifier("tiny/cnn", freeze_depth="all", max_epochs=0, layer=1).fit(X, [0, 1, 0, 1])
    with pytest.raises(InvalidParameterError, match="FineTuneClassifier predicts no masks; pass a FineTuneSegmenter"):
        MaskDisplay.from_estimator(clf, X)
