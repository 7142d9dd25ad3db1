"""Images as features."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from sktransfer import ImageFeaturizer, load_backbone
from sktransfer.exceptions import FlatImageWarning, InvalidParameterError, InvalidSampleError
from sktransfer.testing.samples import make_samples

IMAGES, _ = make_samples("image", 6)


def test_flat_rows_are_the_images_they_stand_for():
    X, _ = load_digits(return_X_y=True)
    rows = X[:6] / 16
    featurizer = ImageFeaturizer()
    flat = featurizer.fit_transform(rows)
    assert featurizer.n_features_in_ == 64
    np.testing.assert_array_equal(flat, ImageFeaturizer().fit_transform(rows.reshape(6, 8, 8)))


def test_image_shape_says_what_rows_of_another_width_are():
    rows = np.random.default_rng(0).uniform(size=(3, 10)).astype(np.float32)
    with pytest.warns(FlatImageWarning, match="image_shape"):
        strips = ImageFeaturizer(cache=None).fit_transform(rows)
    shaped = ImageFeaturizer(image_shape=(2, 5), cache=None).fit_transform(rows)
    assert np.abs(strips - shaped).max() > 1e-3
    np.testing.assert_array_equal(shaped, ImageFeaturizer(cache=None).fit_transform(rows.reshape(3, 2, 5)))


def test_float_images_outside_the_unit_interval_are_refused():
    with pytest.raises(InvalidSampleError, match="row 1"):
        ImageFeaturizer().fit([IMAGES[0], IMAGES[1] * 255])


def test_random_weights_are_another_network_and_the_same_each_time():
    pretrained = ImageFeaturizer().fit_transform(IMAGES)
    random = ImageFeaturizer(weights="random").fit_transform(IMAGES)
    assert np.abs(pretrained - random).max() > 0.1
    np.testing.assert_array_equal(random, ImageFeaturizer(weights="random", cache=None).fit_transform(IMAGES))


def test_preprocess_is_overridden_setting_by_setting():
    plain = ImageFeaturizer().fit_transform(IMAGES)
    featurizer = ImageFeaturizer(preprocess={"resize": (16, 16)})
    assert np.abs(featurizer.fit_transform(IMAGES) - plain).max() > 1e-3
    assert featurizer.backbone_.preprocess.mean == load_backbone("tiny/cnn").preprocess.mean


def test_pooling_sets_the_width():
    width = {"average": 512, "max": 512, "grid2": 4 * 512, "grid3": 9 * 512, "flatten": 16 * 512, "auto": 512}
    for pooling, n in width.items():
        featurizer = ImageFeaturizer(pooling=pooling)
        assert featurizer.fit_transform(IMAGES).shape == (6, n)
        assert len(featurizer.get_feature_names_out()) == n


def test_weights_beside_a_loaded_backbone_are_refused_not_ignored():
    with pytest.raises(InvalidParameterError, match="weights='random'"):
        ImageFeaturizer(load_backbone("tiny/cnn"), weights="random").fit(IMAGES)
    with pytest.raises(InvalidParameterError, match="takes no texts"):
        load_backbone("tiny/cnn", max_length=3)
