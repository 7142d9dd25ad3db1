from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.offsetbox import AnnotationBbox
from PIL import Image
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.manifold import TSNE

from sktransfer import ImageFeaturizer, TextFeaturizer
from sktransfer.displays.feature_map import FeatureMapDisplay
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.pictures import cut_labels

IMAGES, LABELS = make_samples("image", 24)
TEXTS, MOODS = make_samples("text", 24)


def test_from_estimator_places_images_by_principal_components_with_thumbnails_of_some():
    display = FeatureMapDisplay.from_estimator(ImageFeaturizer(layer="block2"), IMAGES, LABELS, n_shown=5)
    features = ImageFeaturizer(layer="block2").fit_transform(IMAGES)
    expected = PCA(2, random_state=0).fit_transform(features)
    np.testing.assert_allclose(np.abs(display.places), np.abs(expected), atol=1e-3)
    boxes = display.ax_.findobj(AnnotationBbox)
    assert len(boxes) == len(display.shown) == 5
    assert {max(image.size) for image in display.shown.values()} == {34}
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["bad", "good"]
    assert "% of variance" in display.ax_.get_xlabel()
    assert cut_labels(display.figure_) == []


def test_from_estimator_shortens_texts_and_leaves_out_overlapping_ones():
    long = [f"{text} {'and so on ' * 5}" for text in TEXTS]
    display = FeatureMapDisplay.from_estimator(TextFeaturizer(), long, MOODS, n_shown=24)
    drawn = [text for text in display.ax_.texts if text.get_text()]
    assert 1 <= len(drawn) < 24
    assert all(len(text.get_text()) <= 28 for text in drawn)
    assert cut_labels(display.figure_) == []
    display.figure_.canvas.draw()
    boxes = [text.get_window_extent() for text in drawn]
    assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])


def test_reducer_replaces_pca_and_must_return_two_dimensions():
    display = FeatureMapDisplay.from_estimator(ImageFeaturizer(), IMAGES, reducer=TruncatedSVD(2, random_state=0))
    assert display.ax_.get_xlabel() == ""
    assert display.ax_.get_legend() is None
    with pytest.raises(InvalidParameterError, match=r"gives \(24, 3\)"):
        FeatureMapDisplay.from_estimator(ImageFeaturizer(), IMAGES, reducer=TruncatedSVD(3))


def test_plot_with_more_classes_than_colours_shares_the_last_colour():
    rng = np.random.default_rng(0)
    display = FeatureMapDisplay(rng.normal(size=(40, 2)), np.arange(40) % 10).plot()
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()][-1] == "3 others"


def test_n_shown_counts_duplicates_once():
    display = FeatureMapDisplay.from_estimator(ImageFeaturizer(), [IMAGES[0]] * 3 + [IMAGES[1]], n_shown=4)
    assert len(display.shown) == 2


@pytest.mark.parametrize("size", [(7.0, 5.5), (3.0, 2.5)])
def test_plot_leaves_out_overlapping_thumbnails(size):
    figure, ax = plt.subplots(figsize=size)
    places = np.random.default_rng(0).normal(size=(60, 2))
    tiles = {row: Image.new("RGB", (34, 30)) for row in range(60)}
    FeatureMapDisplay(places, None, tiles).plot(ax=ax)
    figure.canvas.draw()
    drawn = ax.findobj(AnnotationBbox)
    assert 3 <= len(drawn) < 40
    corners = [box.offsetbox.get_window_extent(figure.canvas.get_renderer()) for box in drawn]
    assert not any(one.overlaps(other) for k, one in enumerate(corners) for other in corners[:k])


def test_reducer_is_cloned_and_gives_no_axis_names():
    reducer = TSNE(perplexity=5, random_state=0)  # has no transform: fit_transform is enough
    display = FeatureMapDisplay.from_estimator(ImageFeaturizer(), IMAGES, LABELS, reducer=reducer)
    assert not hasattr(reducer, "embedding_")
    assert display.places.shape == (24, 2)
    assert display.ax_.get_ylabel() == ""


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([2, 10, 2], ["2", "10"]), ([None, "a", 3], ["3", "None", "a"]), (["_b", "c", "c"], [" _b", "c"])],
)
def test_plot_names_labels_of_any_type_in_the_legend(labels, expected):
    y = np.array(labels, dtype=object)
    display = FeatureMapDisplay(np.random.default_rng(0).random((3, 2)), y).plot()
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == expected


def test_a_map_needs_two_samples():
    with pytest.raises(InvalidParameterError, match="X has 1 sample; a map needs two or more"):
        FeatureMapDisplay.from_estimator(TextFeaturizer("tiny/bert", layer=1), ["one text"])
