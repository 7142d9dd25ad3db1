"""ImageFeaturizer."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from sktransfer import ImageFeaturizer, load_backbone
from sktransfer.exceptions import FlatImageWarning, InvalidParameterError, InvalidSampleError
from sktransfer.testing.samples import make_samples

IMAGES, _ = make_samples("image", 6)


def test_fit_transform_of_flat_rows_equals_that_of_images():
    X, _ = load_digits(return_X_y=True)
    rows = X[:6] / 16
    featurizer = ImageFeaturizer()
    flat = featurizer.fit_transform(rows)
    assert featurizer.n_features_in_ == 64
    np.testing.assert_array_equal(flat, ImageFeaturizer().fit_transform(rows.reshape(6, 8, 8)))


def test_image_shape_reshapes_flat_rows():
    rows = np.random.default_rng(0).uniform(size=(4, 10)).astype(np.float32)
    with pytest.warns(FlatImageWarning, match="image_shape"):
        strips = ImageFeaturizer(cache=None).fit_transform(rows)
    shaped = ImageFeaturizer(image_shape=(2, 5), cache=None).fit_transform(rows)
    assert np.abs(strips - shaped).max() > 1e-3
    np.testing.assert_array_equal(shaped, ImageFeaturizer(cache=None).fit_transform(rows.reshape(4, 2, 5)))


def test_fit_rejects_float_images_outside_the_unit_interval():
    with pytest.raises(InvalidSampleError, match="row 1"):
        ImageFeaturizer().fit([IMAGES[0], IMAGES[1] * 255])


def test_weights_random_differ_from_pretrained_and_are_reproducible():
    pretrained = ImageFeaturizer().fit_transform(IMAGES)
    random = ImageFeaturizer(weights="random").fit_transform(IMAGES)
    assert np.abs(pretrained - random).max() > 0.1
    np.testing.assert_array_equal(random, ImageFeaturizer(weights="random", cache=None).fit_transform(IMAGES))


def test_preprocess_dict_changes_single_settings():
    plain = ImageFeaturizer().fit_transform(IMAGES)
    featurizer = ImageFeaturizer(preprocess={"resize": (16, 16)})
    assert np.abs(featurizer.fit_transform(IMAGES) - plain).max() > 1e-3
    assert featurizer.backbone_.preprocess.mean == load_backbone("tiny/cnn").preprocess.mean


def test_pooling_sets_the_number_of_features():
    width = {"average": 512, "max": 512, "grid2": 4 * 512, "grid3": 9 * 512, "flatten": 16 * 512, "auto": 512}
    for pooling, n in width.items():
        featurizer = ImageFeaturizer(pooling=pooling)
        assert featurizer.fit_transform(IMAGES).shape == (6, n)
        assert len(featurizer.get_feature_names_out()) == n


def test_get_feature_names_out_tells_the_layer_of_several():
    one = ImageFeaturizer().fit(IMAGES)
    assert list(one.get_feature_names_out()[[0, -1]]) == ["imagefeaturizer0", "imagefeaturizer511"]
    for fit in (ImageFeaturizer.fit, ImageFeaturizer.fit_transform):
        featurizer = ImageFeaturizer(layer=["block1", -1, "block1"]).set_output(transform="pandas")
        fit(featurizer, IMAGES)
        names = [f"imagefeaturizer_{stage}_{i}" for stage, n in (("block1", 64), ("top", 512)) for i in range(n)]
        names += [f"imagefeaturizer_block1_{64 + i}" for i in range(64)]
        assert list(featurizer.get_feature_names_out()) == names
        assert list(featurizer.transform(IMAGES).columns) == names
    bad = ImageFeaturizer(layer=[0, 1], on_error="nan")
    bad.fit_transform(["nowhere.png"])
    assert len(bad.get_feature_names_out()) == bad.transform(IMAGES).shape[1] == 32 + 64


def test_weights_and_max_length_are_rejected_if_they_have_no_effect():
    with pytest.raises(InvalidParameterError, match="weights='random'"):
        ImageFeaturizer(load_backbone("tiny/cnn"), weights="random").fit(IMAGES)
    with pytest.raises(InvalidParameterError, match="takes no texts"):
        load_backbone("tiny/cnn", max_length=3)
