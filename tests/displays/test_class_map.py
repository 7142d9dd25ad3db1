from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from sktransfer import (
    Backbone,
    ClassMapDisplay,
    FineTuneClassifier,
    ImageFeaturizer,
    PretrainedClassifier,
    ZeroShotClassifier,
    as_module,
)
from sktransfer.exceptions import InvalidParameterError
from tests.helpers.pictures import cut_labels

RNG = np.random.default_rng(0)
PLACES = RNG.integers(0, 24, (40, 2))
LABELS = np.array(["blue", "red", "yellow", "green"])[np.arange(40) % 4]
COLOURS = {"blue": (0, 0, 1), "red": (1, 0, 0), "yellow": (1, 1, 0), "green": (0, 1, 0)}


def images():
    """Return noise in which one patch of 8 x 8 pixels has the colour of the class."""
    X = RNG.uniform(0.4, 0.6, (40, 32, 32, 3)).astype(np.float32)
    for image, (row, column), label in zip(X, PLACES, LABELS):
        image[row : row + 8, column : column + 8] = COLOURS[label]
    return X


X = images()


def on_features(layer="block4", **params):
    return make_pipeline(ImageFeaturizer(layer=layer, **params), LogisticRegression(max_iter=2000)).fit(X, LABELS)


class Tokens(nn.Module):
    """Stage from maps to tokens, of which the first is that of the class."""

    def forward(self, values):
        patches = values.flatten(2).transpose(1, 2)  # (n, tokens, channels)
        return patches - patches.mean(1, keepdim=True).tanh()


def test_from_estimator_adds_up_to_the_logit_of_a_linear_head():
    clf = make_pipeline(ImageFeaturizer(layer="block4"), StandardScaler(), LogisticRegression()).fit(X, LABELS)
    for pooling, layer in (("average", "block4"), ("grid2", "top")):
        clf.set_params(imagefeaturizer__pooling=pooling, imagefeaturizer__layer=layer).fit(X, LABELS)
        display = ClassMapDisplay.from_estimator(clf, X[:8], target="red")
        logits = clf.decision_function(X[:8])[:, 2]  # of blue, green, red, yellow
        constants = logits - display.maps.sum((1, 2))
        assert display.is_exact
        np.testing.assert_allclose(constants, constants[0], atol=1e-3)
        assert logits.std() > 0.5


def test_from_estimator_finds_the_patch_that_decides():
    clf, random = on_features(), on_features(weights="random")
    display = ClassMapDisplay.from_estimator(clf, X)
    assert display.targets == LABELS.tolist()
    strongest = display.maps.reshape(40, -1).argmax(1)
    cells = np.stack(np.unravel_index(strongest, (8, 8)), 1) * 4  # (40, 2), in pixels
    hits = ((cells + 4 > PLACES) & (cells < PLACES + 8)).all(1)
    assert hits.mean() > 0.9  # of random positions 0.14 are hits
    others = ClassMapDisplay.from_estimator(random, X, target=LABELS)
    pairs = zip(display.maps.reshape(40, -1), others.maps.reshape(40, -1))
    assert np.mean([np.corrcoef(one, other)[0, 1] for one, other in pairs]) < 0.7


@pytest.mark.parametrize(
    "estimator",
    [
        FineTuneClassifier(max_epochs=0),
        make_pipeline(ImageFeaturizer(), LogisticRegression()),
        make_pipeline(ImageFeaturizer(layer=["block1", "top"], pooling="grid3"), StandardScaler(), LinearSVC()),
    ],
    ids=["fine-tuned", "featurizer", "grids"],
)
def test_from_estimator_adds_up_the_maps_of_all_layers(estimator):
    clf = clone(estimator).fit(X, LABELS)
    display = ClassMapDisplay.from_estimator(clf, X[:8], target="red")
    constants = clf.decision_function(X[:8])[:, 2] - display.maps.sum((1, 2))  # of blue, green, red, yellow
    assert display.is_exact
    assert display.layer.endswith("top")
    np.testing.assert_allclose(constants, constants[0], atol=2e-3)


def test_from_estimator_of_default_layers_finds_the_patch_that_decides():
    clf = FineTuneClassifier(max_epochs=0).fit(X, LABELS)
    display = ClassMapDisplay.from_estimator(clf, X)
    read = clf.layer_.index.get_level_values("layer")
    assert display.layer == " + ".join(read)
    size = 32 // display.maps.shape[1]  # pixels per cell
    strongest = display.maps.reshape(40, -1).argmax(1)
    cells = np.stack(np.unravel_index(strongest, display.maps.shape[1:]), 1) * size  # (40, 2)
    assert ((cells + size > PLACES) & (cells < PLACES + 8)).all(1).mean() > 0.9


def test_from_estimator_shares_coarse_cells_by_area():
    stages = [("six", nn.AdaptiveAvgPool2d(6)), ("four", nn.AdaptiveAvgPool2d(4))]
    backbone = Backbone.from_modules(stages, input_size=(12, 12))
    clf = make_pipeline(ImageFeaturizer(backbone, layer="all"), LogisticRegression()).fit(X, LABELS)
    both = ClassMapDisplay.from_estimator(clf, X[:2], target="red")
    weights = clf[-1].coef_[2].reshape(2, 3)  # one per layer and colour
    pixels = as_module(clf).preprocess(X[:2])
    maps = [nn.functional.adaptive_avg_pool2d(pixels, 6)]
    maps.append(nn.functional.adaptive_avg_pool2d(maps[0], 4))
    six, four = (np.einsum("c,nchw->nhw", one, map_) / map_[0, 0].numel() for one, map_ in zip(weights, maps))
    fine = four.repeat(3, 1).repeat(3, 2).reshape(2, 6, 2, 6, 2).sum((2, 4)) / 9  # halves of cells
    np.testing.assert_allclose(both.maps, six + fine, atol=1e-4)


def test_from_estimator_of_other_heads_and_lower_layers_is_grad_cam():
    clf = FineTuneClassifier(layer="all", max_epochs=0).fit(X, LABELS)
    display = ClassMapDisplay.from_estimator(clf, X[:2], target=["red", "blue"], layer="top")
    assert (display.layer, display.is_exact, display.maps.shape) == ("top", False, (2, 4, 4))
    lower = ClassMapDisplay.from_estimator(clf, X[:2], layer="block1")
    assert (lower.layer, lower.is_exact, lower.maps.shape) == ("block1", False, (2, 16, 16))
    maximum = ClassMapDisplay.from_estimator(on_features(pooling="max"), X[:2])
    assert not maximum.is_exact
    pretrained = ClassMapDisplay.from_estimator(PretrainedClassifier(), X[:2])
    assert pretrained.is_exact


def test_from_estimator_of_numbers_names_the_prediction():
    number = make_pipeline(ImageFeaturizer(), Ridge()).fit(X, np.arange(40))
    display = ClassMapDisplay.from_estimator(number, X[:2])
    assert display.targets is None
    assert display.ax_.get_title().startswith("orange raises the prediction, blue lowers it (")
    assert not display.ax_.texts
    numbers = make_pipeline(ImageFeaturizer(), Ridge()).fit(X, np.arange(80).reshape(40, 2))
    display = ClassMapDisplay.from_estimator(numbers, X[:2], target=1)
    assert display.targets == [1, 1]
    assert [text.get_text() for text in display.ax_.texts] == ["prediction 1", "prediction 1"]


def test_from_estimator_of_tokens_leaves_out_the_class_token():
    stages = [("patches", nn.Conv2d(3, 8, 4, 4)), ("tokens", Tokens()), ("more", nn.Linear(8, 8))]
    backbone = Backbone.from_modules(stages, input_size=(16, 16))
    display = ClassMapDisplay.from_estimator(FineTuneClassifier(backbone, layer=-1, max_epochs=0).fit(X, LABELS), X[:3])
    assert (display.maps.shape, display.is_exact, display.layer) == ((3, 4, 4), True, "more")
    for prefix_tokens, shape in ((7, (3, 3, 3)), (1, (3, 15, 1))):  # 9 of 16 tokens are a square, and 15 a strip
        backbone.prefix_tokens = prefix_tokens
        display = ClassMapDisplay.from_estimator(
            FineTuneClassifier(backbone, layer=-1, max_epochs=0).fit(X, LABELS), X[:3]
        )
        assert display.maps.shape == shape
    token = FineTuneClassifier(backbone, layer=-1, pooling="class_token", max_epochs=0).fit(X, LABELS)
    below = ClassMapDisplay.from_estimator(token, X[:3])
    assert (below.layer, below.is_exact) == ("tokens", False)


def test_target_and_layer_that_do_not_exist_are_named():
    clf = on_features()
    with pytest.raises(InvalidParameterError, match=r"target='pink' must be one of \['blue', 'green', 'red'"):
        ClassMapDisplay.from_estimator(clf, X[:2], target="pink")
    with pytest.raises(InvalidParameterError, match="for each of 2 samples"):
        ClassMapDisplay.from_estimator(clf, X[:2], target=["red"] * 3)
    with pytest.raises(InvalidParameterError, match="layer='top' is above the last stage that is read, 'block4'"):
        ClassMapDisplay.from_estimator(clf, X[:2], layer="top")


def test_from_estimator_refuses_texts_features_and_vectors():
    texts = ZeroShotClassifier("tiny/bert", ["sports", "food"])
    with pytest.raises(InvalidParameterError, match=r"ZeroShotClassifier reads texts, and these .* of images"):
        ClassMapDisplay.from_estimator(texts, ["a"])
    with pytest.raises(InvalidParameterError, match="gives features, and an attribution explains a class"):
        ClassMapDisplay.from_estimator(ImageFeaturizer().fit(X), X)
    vectors = Backbone.from_modules([("flat", nn.Flatten())], input_size=(8, 8))
    with pytest.raises(InvalidParameterError, match="layer='flat' gives one vector per image, without positions"):
        ClassMapDisplay.from_estimator(FineTuneClassifier(vectors, layer=-1, max_epochs=0).fit(X, LABELS), X[:2])


def test_plot_draws_image_and_map_of_each_sample():
    maps = np.array([[[2.0, -1.0], [0.0, 1.0]]] * 3)
    display = ClassMapDisplay(maps, np.full((3, 8, 4, 3), 0.25), ["$a", "b", "c"], "top", True).plot(n_columns=2)
    drawn = display.ax_.images
    assert len(drawn) == 9
    overlay = drawn[2].get_array()
    np.testing.assert_allclose(overlay[..., 3], [[0.8, 0.4], [0.0, 0.4]])
    assert [to_hex(colour).upper() for colour in (overlay[0, 0, :3], overlay[0, 1, :3])] == ["#D55E00", "#0072B2"]
    left, right, bottom, top = drawn[0].get_extent()
    assert (top - bottom) / (right - left) == pytest.approx(2)  # images are twice as high as wide
    assert [text.get_text() for text in display.ax_.texts] == ["$a", "b", "c"]
    assert display.ax_.get_title() == "orange for the class, blue against it (top, 2x2, adds up to the output)"
    assert cut_labels(display.figure_) == []


def test_n_columns_must_be_positive():
    with pytest.raises(InvalidParameterError, match="n_columns=0 must be an int of at least 1"):
        ClassMapDisplay(np.zeros((1, 2, 2)), np.zeros((1, 4, 4, 3))).plot(n_columns=0)
