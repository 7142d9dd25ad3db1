"""Frozen joined backbones as a transformer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sktransfer import Backbone, ImageFeaturizer, JoinedFeaturizer, TextFeaturizer
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError
from sktransfer.testing.samples import make_samples
from tests.helpers.estimators import BERT

IMAGES, Y = make_samples("image", 12)
TEXTS, _ = make_samples("text", 12)
FRAME = pd.DataFrame({"image": IMAGES, "text": TEXTS})
PARTS = FRAME.assign(text=[None, *TEXTS[1:]], image=[*IMAGES[:-1], None])
TOWERS = {"text": BERT, "image": "tiny/cnn"}
ZERO = Backbone.join(TOWERS, missing="zero")


def test_transform_scales_the_features_of_each_tower():
    features = JoinedFeaturizer(ZERO, layer=-1).fit_transform(FRAME)
    alone = [
        TextFeaturizer(BERT, layer=-1).fit_transform(TEXTS),
        ImageFeaturizer("tiny/cnn", layer=-1).fit_transform(IMAGES),
    ]
    n_text, n_features = alone[0].shape[1], features.shape[1]
    for part, one in zip(np.split(features, [n_text], axis=1), alone, strict=True):
        centred = one - one.mean(0)
        scale = np.sqrt((centred**2).sum(1).mean() / (n_features / 2))
        assert np.allclose(part, centred / scale, atol=1e-4)


@pytest.mark.parametrize("layer", [-1, "auto"])
def test_transform_gives_zeros_for_a_missing_column(layer):
    featurizer = JoinedFeaturizer(ZERO, layer=layer)
    features = featurizer.fit_transform(PARTS, Y)
    names = featurizer.get_feature_names_out()
    of_text = np.array([name.startswith("joinedfeaturizer_text.") for name in names])
    assert not features[0, of_text].any()
    assert features[0, ~of_text].any()
    assert not features[-1, ~of_text].any()
    assert np.allclose(features[1:, of_text].mean(0), 0, atol=1e-4)  # the mean of those that have a text
    assert np.array_equal(featurizer.transform(PARTS[::-1])[::-1], features)


def test_layer_auto_gives_all_towers_the_same_share():
    featurizer = JoinedFeaturizer(ZERO).fit(FRAME, Y)
    shares = featurizer.layer_.groupby(lambda name: name[0].split(".")[0]).sum()
    assert shares.to_dict() == pytest.approx({"text": 0.5, "image": 0.5})
    assert "with 'text' alone" in featurizer.report_
    assert "with 'image' alone" in featurizer.report_


def test_layer_pooling_and_max_length_by_tower():
    featurizer = JoinedFeaturizer(
        ZERO,
        layer={"text": [0, -1], "image": "block2"},
        pooling={"text": "max", "image": "average"},
        max_length=20,
        preprocess={"image": {"resize": 16}},
    ).fit(FRAME)
    assert [(one.tower, one.pooling) for one in featurizer._layers()] == [
        ("text", "max"),
        ("text", "max"),
        ("image", "average"),
    ]
    assert featurizer.backbone_.towers["text"].preprocess.limit == 20
    assert featurizer.backbone_.towers["image"].preprocess.resize == 16
    names = featurizer.get_feature_names_out()
    assert len(set(names)) == len(names) == featurizer.transform(FRAME).shape[1]


def test_fit_transform_equals_fit_and_transform_in_a_pipeline():
    featurizer = JoinedFeaturizer(ZERO)
    features = featurizer.fit_transform(PARTS, Y)
    assert np.array_equal(clone(featurizer).fit(PARTS, Y).transform(PARTS), features)
    frame = clone(featurizer).set_output(transform="pandas").fit_transform(PARTS, Y)
    assert frame.columns.tolist() == featurizer.get_feature_names_out().tolist()
    pipeline = make_pipeline(JoinedFeaturizer(ZERO), LogisticRegression()).fit(PARTS, Y)
    assert pipeline.predict(FRAME[["text", "image"]]).shape == (12,)


def test_missing_samples_are_refused_unless_joined_with_zero():
    with pytest.raises(InvalidSampleError, match="row 0: column 'text': the text is missing"):
        JoinedFeaturizer(Backbone.join(TOWERS)).fit(PARTS)
    fitted = JoinedFeaturizer(ZERO, layer=-1).fit(FRAME)
    with pytest.raises(InvalidSampleError, match="row 1: all of the columns"):
        fitted.transform(pd.DataFrame({"text": ["a", None], "image": [None, None]}))
    with pytest.raises(ValueError, match=r"lacks \['image'\]"):
        fitted.transform(FRAME[["text"]])


@pytest.mark.parametrize("backbone", ["tiny/cnn", BERT], ids=["image", "text"])
def test_backbone_must_be_joined(backbone):
    with pytest.raises(InvalidParameterError, match=r"Backbone\.join"):
        JoinedFeaturizer(backbone).fit(FRAME)
