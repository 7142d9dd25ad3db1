"""A class per pixel."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.metrics import jaccard_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils._metadata_requests import UnsetMetadataPassedError
from torch import nn

from sktransfer import EMA, Backbone, FineTuneSegmenter, cache_info, clear_cache, load, load_backbone, save
from sktransfer.exceptions import InvalidParameterError, TargetWarning, ValidationWarning
from tests.helpers.toys import image_backbone, token_backbone

SIZE = (24, 32)


def squares(n=6, size=SIZE):
    """Return noise with a bright square, and the masks of the squares with classes 3 and 7."""
    rng = np.random.default_rng(0)
    images, masks = rng.random((n, *size)).astype(np.float32) / 2, np.full((n, *size), 3)
    for image, mask in zip(images, masks):
        top, left = rng.integers(0, size[0] - 12), rng.integers(0, size[1] - 12)
        image[top : top + 12, left : left + 12] += 0.5
        mask[top : top + 12, left : left + 12] = 7
    return images, masks


IMAGES, MASKS = squares()
SCRIBBLES = np.where(np.random.default_rng(1).random(MASKS.shape) < 0.2, MASKS, -1)


def quick(**parameters):
    return FineTuneSegmenter(**{"layer": "block2", "random_state": 0, **parameters})


def trained(**parameters):
    return quick(**{"freeze_depth": -1, "max_epochs": 2, "lr": 1e-3, **parameters})


@pytest.fixture(scope="module")
def fitted():
    return quick().fit(IMAGES[:4], SCRIBBLES[:4])


def test_fit_learns_from_scribbles(fitted):
    assert fitted.score(IMAGES[4:], MASKS[4:]) > 0.85
    assert fitted.classes_.tolist() == [3, 7]
    assert (fitted.n_iter_, fitted.freeze_depth_) == (0, 3)
    assert not fitted.stages_["trained"].any()


def test_report_names_the_fixed_strength_of_the_probe(fitted):
    assert fitted.report_ == "layer='block2' is fixed, and so is the strength of the probe, C=1.0"
    other = quick(head_init="random", max_epochs=1, lr=1e-3).fit(IMAGES[:2], SCRIBBLES[:2])
    assert other.report_ == "layer='block2' is fixed, and the head did not start as a probe"


def test_layer_auto_weighs_stages_by_their_pixels(tmp_path):
    segmenter = quick(layer="auto").fit(IMAGES[:4], SCRIBBLES[:4])
    assert segmenter.layer_.sum() == pytest.approx(1)
    assert (segmenter.layer_ > 0).any()
    assert segmenter.strength_ > 0
    assert segmenter.report_.count("\n") > 0
    assert segmenter.score(IMAGES[4:], MASKS[4:]) > 0.85
    weaker = quick(layer="auto", C=1e-6).fit(IMAGES[:4], SCRIBBLES[:4])
    assert np.std(weaker.predict_proba(IMAGES)) < 0.8 * np.std(segmenter.predict_proba(IMAGES))
    save(segmenter, tmp_path / "own.skt")
    np.testing.assert_array_equal(load(tmp_path / "own.skt").predict(IMAGES), segmenter.predict(IMAGES))


def test_predict_keeps_the_size_of_each_image(fitted):
    images = [squares(1, size)[0][0] for size in ((24, 32), (13, 70), (33, 14))] + [np.ones((1, 1))]
    masks, probabilities = fitted.predict(images), fitted.predict_proba(images)
    assert [mask.shape for mask in masks] == [image.shape for image in images]
    assert [one.shape for one in probabilities] == [(*image.shape, 2) for image in images]
    for mask, one in zip(masks, probabilities):
        np.testing.assert_array_equal(mask, fitted.classes_[one.argmax(2)])
        np.testing.assert_allclose(one.sum(2), 1, atol=1e-6)


def test_predict_gives_one_array_for_one_array(fitted):
    assert fitted.predict(IMAGES).shape == MASKS.shape
    assert fitted.predict_proba(IMAGES).shape == (*MASKS.shape, 2)
    listed = fitted.predict(list(IMAGES))
    assert isinstance(listed, list)
    np.testing.assert_array_equal(np.stack(listed), fitted.predict(IMAGES))


def test_predict_gives_a_list_for_a_column_of_images_of_different_sizes():
    images = [image[: 20 + row] for row, image in enumerate(IMAGES)]
    masks = [mask[: 20 + row] for row, mask in enumerate(MASKS)]
    column = np.empty((len(images), 1), object)
    column[:, 0] = images
    for X in (pd.DataFrame({"image": images}), column):
        segmenter = quick().fit(X, masks)
        assert [mask.shape for mask in segmenter.predict(X)] == [mask.shape for mask in masks]
        assert segmenter.score(X, masks) > 0.85


def test_predict_refuses_one_image_as_flat_rows(fitted):
    with pytest.raises(ValueError, match=r"shape \(24, 32\), .*pass X\[None\] for one grey image"):
        fitted.predict(IMAGES[0])
    flat = IMAGES.reshape(len(IMAGES), -1)
    segmenter = quick(image_shape=SIZE).fit(IMAGES, SCRIBBLES)
    np.testing.assert_array_equal(segmenter.predict(flat), segmenter.predict(IMAGES))


def test_fit_warns_of_255_as_a_class():
    with pytest.warns(TargetWarning, match=r"255 besides the classes \[3, 7\]"):
        quick().fit(IMAGES, SCRIBBLES.astype(np.uint8))


def test_predict_of_an_image_does_not_depend_on_others(fitted):
    images = [IMAGES[5], squares(1, (40, 20))[0][0], IMAGES[4]]
    together = fitted.predict_proba(images)
    for image, one in zip(images, together):
        np.testing.assert_array_equal(fitted.predict_proba([image])[0], one)


def test_max_pixels_changes_no_prediction():
    images, masks = squares(5, (30, 150))
    whole, tiled = (quick(max_pixels=number).fit(images[:4], masks[:4]) for number in ("auto", 64 * 64))
    # Places of tiles are on the grid of the maps, and block2 reads 8 pixels to each side.
    np.testing.assert_allclose(
        whole.predict_proba(images[4:]), clone_with(whole, max_pixels=64 * 64).predict_proba(images[4:]), atol=1e-5
    )
    assert tiled.score(images[4:], masks[4:]) > 0.85


def clone_with(estimator, **parameters):
    return pickle.loads(pickle.dumps(estimator)).set_params(**parameters)


def test_fit_takes_images_of_different_sizes():
    images, masks = zip(
        *((image, mask) for size in ((24, 32), (40, 20), (17, 60)) for image, mask in zip(*squares(2, size)))
    )
    segmenter = quick().fit(list(images), list(masks))
    assert segmenter.score(list(images), list(masks)) > 0.85


def test_fit_reads_files(tmp_path):
    for name, pixels in (("image", (IMAGES * 255).astype(np.uint8)), ("mask", (MASKS - 3).astype(np.uint8))):
        for row, one in enumerate(pixels):
            Image.fromarray(one).save(tmp_path / f"{name}{row}.png")
    images, masks = ([str(tmp_path / f"{name}{row}.png") for row in range(6)] for name in ("image", "mask"))
    segmenter = quick().fit(images[:4], masks[:4])
    assert segmenter.classes_.tolist() == [0, 4]
    assert segmenter.score(images[4:], masks[4:]) > 0.85


def test_score_is_the_mean_iou_of_known_pixels(fitted):
    known = SCRIBBLES >= 0
    expected = jaccard_score(SCRIBBLES[known], fitted.predict(IMAGES)[known], average="macro")
    assert fitted.score(IMAGES, SCRIBBLES) == pytest.approx(expected)
    weights = [0, 0, 0, 0, 0, 2]
    assert fitted.score(IMAGES, MASKS, weights) == pytest.approx(fitted.score(IMAGES[5:], MASKS[5:]))


@pytest.mark.parametrize("make", [quick, trained])
def test_fit_ignores_images_without_known_pixels_or_weight(make):
    unknown = np.concatenate([SCRIBBLES[:4], np.full((2, *SIZE), -1)])
    expected = make().fit(IMAGES[:4], SCRIBBLES[:4]).predict_proba(IMAGES)
    np.testing.assert_array_equal(make().fit(IMAGES, unknown).predict_proba(IMAGES), expected)
    weighted = make().fit(IMAGES, np.concatenate([SCRIBBLES[:4], SCRIBBLES[4:] * 0 + 3]), [5, 5, 5, 5, 0, 0])
    np.testing.assert_array_equal(weighted.predict_proba(IMAGES), expected)


@pytest.mark.parametrize("make", [quick, trained])
def test_fit_twice_equals_fit_once_with_and_without_cache(make):
    segmenter = make().fit(IMAGES, SCRIBBLES)
    expected = segmenter.predict_proba(IMAGES)
    np.testing.assert_array_equal(segmenter.fit(IMAGES, SCRIBBLES).predict_proba(IMAGES), expected)
    np.testing.assert_array_equal(make(cache=None).fit(IMAGES, SCRIBBLES).predict_proba(IMAGES), expected)


def test_freeze_depth_trains_the_stages_above():
    segmenter = trained(max_epochs=4).fit(IMAGES[:4], MASKS[:4])
    losses = segmenter.history_["train_loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    assert segmenter.stages_["trained"].tolist() == [False, False, True]
    source = load_backbone("tiny/cnn")
    assert segmenter.backbone_.fingerprint(2) == source.fingerprint(2)
    assert segmenter.backbone_.fingerprint(3) != source.fingerprint(3)
    assert segmenter.score(IMAGES[4:], MASKS[4:]) > 0.85


def test_early_stopping_records_loss_and_iou():
    segmenter = trained(early_stopping=True, validation_fraction=0.3).fit(IMAGES, MASKS)
    assert {"valid_loss", "valid_iou"} <= set(segmenter.history_)
    given = trained().fit(IMAGES[:4], MASKS[:4], X_val=IMAGES[4:], y_val=MASKS[4:])
    # The weights of the last epoch are those of the estimator.
    expected = given.score(IMAGES[4:], MASKS[4:])
    assert given.history_["valid_iou"].iloc[-1] == pytest.approx(expected, abs=1e-3)


def test_early_stopping_does_not_separate_tiles_of_an_image():
    images, masks = squares(5, (30, 150))
    split = {}

    class Recorded(FineTuneSegmenter):
        def _run(self, *arguments):
            run = super()._run(*arguments)
            split["groups"] = run.groups.tolist()
            return run

    Recorded(layer=0, freeze_depth=0, max_pixels=64 * 64, max_epochs=0, random_state=0).fit(images, masks)
    assert len(split["groups"]) > 5
    assert set(split["groups"]) == set(range(5))


def test_class_weight_balanced_finds_more_of_the_rare_class():
    rare = [(quick(class_weight=one).fit(IMAGES, SCRIBBLES).predict(IMAGES) == 7).mean() for one in (None, "balanced")]
    assert rare[1] > rare[0]
    with pytest.raises(InvalidParameterError, match=r"class_weight=.*must hold finite numbers"):
        quick(class_weight={3: 0, 7: 0}).fit(IMAGES, SCRIBBLES)


def test_head_continues_a_fitted_head(fitted):
    segmenter = quick(head=fitted.head_, max_epochs=0).fit(IMAGES[:4], MASKS[:4])
    np.testing.assert_array_equal(segmenter.predict_proba(IMAGES), fitted.predict_proba(IMAGES))


def test_grid_search_over_layer_and_C_runs_the_network_once():
    clear_cache()
    grid = {"layer": ["block1", "block2"], "C": [0.1, 1.0]}
    search = GridSearchCV(quick(), grid, cv=2).fit(list(IMAGES), list(SCRIBBLES))
    assert search.best_score_ > 0.8
    entries = cache_info().n_entries
    search.best_estimator_.fit(list(IMAGES), list(SCRIBBLES))
    assert cache_info().n_entries == entries
    assert len(cross_val_score(quick(), IMAGES, SCRIBBLES, cv=3)) == 3


def test_clone_and_pickle(fitted):
    unfitted = clone(fitted)
    assert not hasattr(unfitted, "classes_")
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copied.predict_proba(IMAGES), fitted.predict_proba(IMAGES))
    assert "block2" in fitted._repr_html_()


def test_metadata_routing_takes_groups_and_weights():
    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_val_score(quick(), IMAGES, SCRIBBLES, cv=2, params={"groups": np.arange(6)})
        assert len(scores) == 2
        with pytest.raises(UnsetMetadataPassedError):
            cross_val_score(quick(), IMAGES, SCRIBBLES, cv=2, params={"sample_weight": np.ones(6)})
        weighted = quick().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        assert len(cross_val_score(weighted, IMAGES, SCRIBBLES, cv=2, params={"sample_weight": np.ones(6)})) == 2


def test_layer_reads_patches_of_a_network_of_one_size():
    segmenter = FineTuneSegmenter(token_backbone(), layer="patches", random_state=0).fit(IMAGES, SCRIBBLES)
    assert segmenter._grid[2] == 4
    assert segmenter.predict(IMAGES).shape == MASKS.shape
    assert segmenter.score(IMAGES, MASKS) > 0.6
    again = FineTuneSegmenter(segmenter.backbone_, layer="patches", random_state=0).fit(IMAGES, SCRIBBLES)
    np.testing.assert_array_equal(again.predict(IMAGES), segmenter.predict(IMAGES))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"backbone": "tiny/bert"}, "backbone='tiny/bert' reads texts"),
        ({"preprocess": {"resize": 32}}, "preprocess: resize=32 changes the size of images"),
        ({"max_pixels": 0}, "max_pixels=0"),
        ({"C": 0}, "C=0"),
        ({"layer": "block9"}, "layer='block9' is not a stage"),
    ],
)
def test_fit_rejects_parameters(parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        quick(**parameters).fit(IMAGES, MASKS)


def test_fit_rejects_a_layer_without_map():
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = Backbone.from_modules([("maps", nn.Conv2d(3, 4, 3)), ("vectors", pooled)])
    with pytest.raises(InvalidParameterError, match=r"layer='vectors' of own/network gives one vector per image"):
        FineTuneSegmenter(network, layer="vectors").fit(IMAGES, MASKS)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (MASKS[:5], "there are 6 images and 5 masks"),
        ([*MASKS[:5], MASKS[5][:20]], r"masks\[5\] is of 20 x 32 pixels, and its image of 24 x 32"),
        (MASKS / 2, r"masks\[0\] is of float64"),
        (MASKS * 0 - 1, "all pixels of the 6 masks are unknown"),
        (MASKS * 0, "the known pixels of all masks are of one class, 0"),
        (None, "it holds one mask per image"),
    ],
)
def test_fit_rejects_masks(masks, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(IMAGES, masks)


def test_fit_rejects_classes_of_validation_masks_that_are_new():
    with pytest.raises(ValueError, match=r"validation data .*masks hold \[9\], which are not among the classes"):
        trained().fit(IMAGES, MASKS, X_val=IMAGES[:2], y_val=np.where(MASKS[:2] == 7, 9, 3))


def test_score_counts_a_new_class_as_wrong(fitted):
    with pytest.warns(ValidationWarning, match=r"classes that the training did not have, \[9\]"):
        assert fitted.score(IMAGES, np.where(MASKS == 7, 9, 3)) < 0.5


def test_fit_learns_with_other_backbones_of_maps():
    segmenter = FineTuneSegmenter(image_backbone(), layer="all", random_state=0).fit(IMAGES, SCRIBBLES)
    assert segmenter._grid == (4, 32, None)
    assert segmenter.score(IMAGES, MASKS) > 0.7


@pytest.mark.parametrize(
    "recipe",
    [
        {"callbacks": [EMA()]},
        {"unfreezing": "gradual", "freeze_depth": 0, "max_epochs": 4},
        {"l2_sp": 0.1, "layer_lr_decay": 2.0, "freeze_depth": 1},
        {"head_init": "class_means"},
        {"precision": "bfloat16"},
    ],
    ids=lambda recipe: next(iter(recipe)),
)
def test_fit_takes_recipes_of_fine_tuning(recipe):
    segmenter = trained(**recipe).fit(IMAGES[:4], MASKS[:4])
    assert segmenter.score(IMAGES[4:], MASKS[4:]) > 0.8
    depth = segmenter.freeze_depth_
    assert segmenter.backbone_.fingerprint(depth) == load_backbone("tiny/cnn").fingerprint(depth)


def test_warm_start_continues_backbone_and_head():
    segmenter = trained(warm_start=True).fit(IMAGES[:4], MASKS[:4])
    first = segmenter.history_["train_loss"].iloc[0]
    assert segmenter.fit(IMAGES[:4], MASKS[:4]).history_["train_loss"].iloc[0] < first


def test_layer_mix_weighs_stages():
    generator = torch.Generator().manual_seed(0)
    convolutions = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, 2, 1)
    for one in convolutions:
        nn.init.normal_(one.weight, std=0.3, generator=generator)
    network = Backbone.from_modules([("a", convolutions[0]), ("b", nn.Sequential(nn.ReLU(), convolutions[1]))])
    segmenter = FineTuneSegmenter(network, layer="mix", max_epochs=2, lr=1e-3, random_state=0).fit(IMAGES, MASKS)
    assert segmenter.layer_weights_.sum() == pytest.approx(1)
    assert segmenter.score(IMAGES, MASKS) > 0.7
