"""TextFeaturizer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sktransfer import TextFeaturizer, load_backbone
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError, TruncatedTextWarning
from sktransfer.testing.samples import make_samples
from tests.helpers.small_bert import small_bert

TEXTS, _ = make_samples("text", 10)
BERT = "hf/" + small_bert()


@pytest.mark.parametrize("layer", [0, 2, -1, "layer1"])
def test_layer_gives_the_mean_over_unpadded_tokens(layer):
    backbone = load_backbone(BERT)
    features = TextFeaturizer(BERT, layer=layer, cache=None).fit_transform(TEXTS)
    for text, row in zip(TEXTS, features):
        ids = backbone.preprocess([text])[0][None]
        with torch.no_grad():
            values = list(backbone.run(ids, torch.ones_like(ids, dtype=torch.bool)))[backbone.position(layer)]
        np.testing.assert_allclose(row, values[0].mean(0).numpy(), atol=1e-5 * np.abs(features).max())


def test_batch_size_does_not_change_features():
    texts = [*TEXTS, " ".join(["good"] * 20)]
    expected = TextFeaturizer(BERT, cache=None, batch_size=1).fit_transform(texts)
    for batch_size in (2, 5, 64):
        features = TextFeaturizer(BERT, cache=None, batch_size=batch_size).fit_transform(texts)
        np.testing.assert_allclose(features, expected, atol=1e-5 * np.abs(expected).max())


def test_pooling_options_give_different_features():
    by_pooling = {
        p: TextFeaturizer(BERT, pooling=p).fit_transform(TEXTS) for p in ("mean", "class_token", "max", "last_token")
    }
    for one, other in zip(list(by_pooling.values())[:-1], list(by_pooling.values())[1:]):
        assert np.abs(one - other).max() > 0.01
    both = TextFeaturizer(BERT, pooling="mean+max").fit_transform(TEXTS)
    np.testing.assert_allclose(both, np.concatenate([by_pooling["mean"], by_pooling["max"]], axis=1), atol=1e-5)


def test_normalize_scales_features_to_length_one():
    features = TextFeaturizer(BERT, normalize=True).fit_transform(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    raw = TextFeaturizer(BERT).fit_transform(TEXTS)  # cached features are not normalized
    assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 0.01


def test_max_length_truncates_long_texts_with_a_warning():
    long = "good " * 60
    message = r"2 of 11 texts are longer than 24 tokens, the most that this model reads.* read\. Split the texts"
    with pytest.warns(TruncatedTextWarning, match=message):
        features = TextFeaturizer(BERT).fit_transform([long, *TEXTS[:9], long + "bad"])
    np.testing.assert_array_equal(features[0], features[-1])
    with pytest.warns(TruncatedTextWarning, match="than 4 tokens, and .* Set a larger max_length, up to 24, or split"):
        TextFeaturizer(BERT, max_length=4).fit_transform(TEXTS)


def test_transform_counts_equal_truncated_texts():
    long = "good " * 60
    with pytest.warns(TruncatedTextWarning, match="3 of 4 texts"):
        TextFeaturizer(BERT, cache=None).fit_transform([long, "bad", long, long])


def test_max_length_must_be_within_the_limit_of_the_model():
    with pytest.raises(InvalidParameterError, match="24"):
        TextFeaturizer(BERT, max_length=25).fit(TEXTS)
    with pytest.raises(InvalidParameterError, match="max_length"):
        TextFeaturizer(BERT, max_length=0).fit(TEXTS)


def test_fit_names_the_row_of_a_missing_text():
    with pytest.raises(InvalidSampleError, match=r"row 2"):
        TextFeaturizer(BERT).fit(["a", "b", None])


def test_missing_empty_gives_the_features_of_an_empty_text():
    featurizer = TextFeaturizer(BERT, missing="empty").fit(TEXTS)
    np.testing.assert_array_equal(featurizer.transform(["a", None]), featurizer.transform(["a", ""]))
    with pytest.raises(InvalidSampleError, match="row 1: the text is missing"):
        TextFeaturizer(BERT).fit(["a", None])
    with pytest.raises(InvalidParameterError, match=r"missing='drop' must be one of \('raise', 'empty'\)"):
        TextFeaturizer(BERT, missing="drop").fit(TEXTS)
