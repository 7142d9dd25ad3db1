"""TokenFeaturizer."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import check_no_attributes_set_in_init, check_parameters_default_constructible

from sktransfer import Backbone, TokenFeaturizer, clear_cache, load_backbone, stack_words
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError
from sktransfer.testing.samples import make_samples
from tests.helpers.small_bert import small_bert
from tests.sentences.test_windows import random_words

TEXTS, _ = make_samples("text", 12)
SENTENCES = [[*text.split(), "unfilmable", ""] for text in TEXTS]
TAGS = [["short" if len(word) < 4 else "long" for word in words] for words in SENTENCES]
BERT = "hf/" + small_bert()


def assert_equal_lists(one, other):
    assert len(one) == len(other)
    for first, second in zip(one, other):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("subword", ["first", "last", "mean"])
@pytest.mark.parametrize("layer", [0, -1, "layer1"])
def test_transform_gives_the_values_of_the_tokens_of_words(layer, subword):
    backbone = load_backbone("tiny/bert")
    featurizer = TokenFeaturizer(backbone, layer=layer, subword=subword, cache=None)
    (features,) = featurizer.fit_transform([["good", "unfilmable"]])
    ids = backbone.preprocess(["good unfilmable"])[0][None]  # (1, n_tokens)
    with torch.no_grad():
        values = list(backbone.run(ids, torch.ones_like(ids, dtype=torch.bool)))[backbone.position(layer)][0].numpy()
    long = values[2:-1]  # (n_pieces, n_features)
    assert len(long) > 1
    expected = np.stack([values[1], {"first": long[0], "last": long[-1], "mean": long.mean(0)}[subword]])
    np.testing.assert_allclose(features, expected, atol=1e-5 * np.abs(values).max())
    assert features.dtype == np.float32


def test_subword_is_the_mean_by_default():
    by_default, *others = (
        TokenFeaturizer(layer=1, cache=None, **params).fit_transform([["good", "unfilmable"]])
        for params in ({}, {"subword": "mean"}, {"subword": "first"})
    )
    assert_equal_lists(by_default, others[0])
    assert (by_default[0][1] != others[1][0][1]).any()


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.UnknownWordsWarning")
def test_transform_loses_no_word():
    rng = random.Random(0)
    sentences = [random_words(rng, rng.randrange(12)) for _ in range(998)] + [random_words(rng, 2000), ["good"] * 2000]
    for backbone in (BERT, "tiny/bert"):
        features = TokenFeaturizer(backbone, layer=0, cache=None).fit_transform(sentences)
        assert [len(part) for part in features] == [len(words) for words in sentences]
        assert np.isfinite(np.concatenate(features)).all()


def test_transform_of_sentences_without_words():
    featurizer = TokenFeaturizer(layer=[1, 2]).fit([[], []])
    assert [part.shape for part in featurizer.transform([[], ["good"], []])] == [(0, 320), (1, 320), (0, 320)]
    assert [part.shape for part in TokenFeaturizer(layer=1).fit_transform([[]])] == [(0, 160)]


@pytest.mark.parametrize("batch_size", [1, 3, "auto"])
def test_transform_does_not_depend_on_batch_or_neighbours(batch_size):
    featurizer = TokenFeaturizer(BERT, layer=-1, cache=None, batch_size=batch_size).fit(SENTENCES)
    features = featurizer.transform(SENTENCES)
    assert_equal_lists(features, [featurizer.transform([words])[0] for words in SENTENCES])
    assert_equal_lists(features[::-1], featurizer.transform(SENTENCES[::-1]))


@pytest.mark.parametrize("cache", ["memory", "folder"])
@pytest.mark.parametrize("layer", [1, "auto"])
def test_transform_is_equal_with_and_without_cache(cache, layer, tmp_path):
    clear_cache()
    expected = TokenFeaturizer(BERT, layer=layer, cache=None).fit(SENTENCES, TAGS).transform(SENTENCES)
    store = "memory" if cache == "memory" else tmp_path
    for _ in range(2):  # the second time from the store
        assert_equal_lists(TokenFeaturizer(BERT, layer=layer, cache=store).fit_transform(SENTENCES, TAGS), expected)


def test_search_over_layer_subword_and_strength_runs_the_network_once():
    clear_cache()
    backbone, calls = load_backbone(BERT), []
    n_stages = len(backbone.stages)

    class Counting(torch.nn.Module):
        def __init__(self, stage, number):
            super().__init__()
            self.stage, self.number = stage, number

        def forward(self, values, mask):
            calls.append((self.number, len(values)))
            return self.stage(values, mask)

    counted = Backbone(
        name="mine/counted",
        modality="text",
        stages=[
            (name, Counting(stage, n)) for n, (name, stage) in enumerate(zip(backbone.stage_names, backbone.stages))
        ],
        preprocess=backbone.preprocess,
        pooling="mean",
    )
    distinct = len({tuple(words) for words in SENTENCES})
    for layer in (n_stages - 1, *range(n_stages), "all", "auto"):
        for subword in ("first", "last", "mean"):
            features = TokenFeaturizer(counted, layer=layer, subword=subword, batch_size=5).fit_transform(
                SENTENCES, TAGS
            )
            words, values = stack_words(features, TAGS)
            for strength in (0.1, 1.0):
                LogisticRegression(C=strength, max_iter=20, tol=1.0).fit(words, values)
    run = [sum(n for number, n in calls if number == stage) for stage in range(n_stages)]
    assert run == [distinct] * n_stages


def test_layer_auto_chooses_by_the_tags():
    featurizer = TokenFeaturizer("tiny/bert").fit(SENTENCES, TAGS)
    assert featurizer.layer_.sum() == pytest.approx(1)
    assert set(featurizer.layer_.index) <= set(featurizer.backbone_.stage_names)
    names = featurizer.get_feature_names_out()
    assert names[0] == f"tokenfeaturizer_{featurizer.layer_.index[0]}_0"
    words, values = stack_words(featurizer.transform(SENTENCES), TAGS)
    assert words.shape[1] == len(names)
    assert LogisticRegression(max_iter=1000).fit(words, values).score(words, values) > 0.95
    with pytest.raises(AttributeError, match="fit was called without y"):
        _ = TokenFeaturizer("tiny/bert").fit(SENTENCES).layer_


def test_layer_of_a_stage_that_pools():
    class Mean(torch.nn.Module):
        def forward(self, values, mask):
            return values.mean(1)  # (n, channels)

    small = load_backbone(BERT)
    stages = [*zip(small.stage_names, small.stages), ("mean", Mean())]
    pooling = Backbone(name="mine/pooling", modality="text", stages=stages, preprocess=small.preprocess, pooling="mean")
    for method in ("fit", "fit_transform"):
        with pytest.raises(InvalidParameterError, match=r"one vector per text.*a stage before those that pool"):
            getattr(TokenFeaturizer(pooling, layer=-1), method)(SENTENCES)
    assert "mean" not in TokenFeaturizer(pooling).fit(SENTENCES, TAGS).layer_.index
    assert_equal_lists(
        TokenFeaturizer(pooling, layer=-2).fit_transform(SENTENCES),
        TokenFeaturizer(small, layer=-1).fit_transform(SENTENCES),
    )


def test_verbose_shows_progress_in_words(capsys):
    TokenFeaturizer(layer=0, verbose=1).fit_transform(SENTENCES)
    n_words = sum(map(len, SENTENCES))
    assert f"{n_words}" in capsys.readouterr().err


def test_layer_auto_leaves_out_unknown_tags():
    some = [[tag if position else None for position, tag in enumerate(tags)] for tags in TAGS]
    featurizer = TokenFeaturizer(BERT).fit(SENTENCES, some)
    without = TokenFeaturizer(BERT).fit(SENTENCES, TAGS)
    assert featurizer.report_ != without.report_
    with pytest.raises(ValueError, match="y has no value that is known"):
        TokenFeaturizer(BERT).fit(SENTENCES, [[None] * len(words) for words in SENTENCES])


def test_fit_names_the_row_of_y():
    with pytest.raises(ValueError, match=f"row 3: y has 1 value, and X has {len(SENTENCES[3])} words"):
        TokenFeaturizer(BERT).fit(SENTENCES, [*TAGS[:3], ["short"], *TAGS[4:]])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"subword": "middle"}, "subword='middle' must be one of"),
        ({"backbone": "tiny/cnn"}, "takes images, TokenFeaturizer featurizes texts"),
        ({"layer": 9}, "layer=9"),
        ({"max_length": 2}, "max_length=2"),
        ({"cache": 5}, "cache"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_fit_refuses_parameters(parameters, message):
    with pytest.raises((InvalidParameterError, TypeError, ValueError), match=message):
        TokenFeaturizer(**{"backbone": BERT, "layer": -1, **parameters}).fit(SENTENCES)


def test_transform_names_the_row_of_a_text():
    featurizer = TokenFeaturizer(BERT, layer=1).fit(SENTENCES)
    with pytest.raises(InvalidSampleError, match=r"row 1 \(index label 'b'\): 'two words' is a str"):
        featurizer.transform(pd.Series([["a"], "two words"], index=["a", "b"]))


def test_get_feature_names_out_of_several_layers():
    featurizer = TokenFeaturizer(layer=[1, "layer2"]).fit(SENTENCES)
    names = featurizer.get_feature_names_out()
    assert (names[0], names[-1], len(names)) == ("tokenfeaturizer_layer1_0", "tokenfeaturizer_layer2_159", 320)
    assert TokenFeaturizer(layer=1).fit(SENTENCES).get_feature_names_out()[0] == "tokenfeaturizer0"


def test_clone_and_pickle_keep_features():
    featurizer = TokenFeaturizer(BERT, layer="auto", subword="mean").fit(SENTENCES, TAGS)
    expected = featurizer.transform(SENTENCES)
    assert_equal_lists(pickle.loads(pickle.dumps(featurizer)).transform(SENTENCES), expected)
    with pytest.raises(NotFittedError):
        clone(featurizer).transform(SENTENCES)
    assert clone(featurizer).get_params() == featurizer.get_params()
    assert_equal_lists(clone(featurizer).fit(SENTENCES, TAGS).transform(SENTENCES), expected)


@pytest.mark.parametrize("layer", [1, "auto"])
def test_fit_twice_equals_once(layer):
    once = TokenFeaturizer(BERT, layer=layer).fit(SENTENCES, TAGS)
    twice = TokenFeaturizer(BERT, layer=layer).fit(pd.DataFrame({"words": SENTENCES[:3]}), TAGS[:3])
    assert twice.fit(SENTENCES, TAGS) is twice
    assert not hasattr(twice, "feature_names_in_")
    assert_equal_lists(twice.transform(SENTENCES), once.transform(SENTENCES))
    assert_equal_lists(clone(once).fit_transform(SENTENCES, TAGS), once.transform(SENTENCES))


def test_init_only_stores_parameters():
    check_no_attributes_set_in_init("TokenFeaturizer", TokenFeaturizer())
    check_parameters_default_constructible("TokenFeaturizer", TokenFeaturizer())


@pytest.mark.parametrize(("precision", "atol"), [("float32", 1e-6), ("bfloat16", 0.1)])
def test_precision_gives_float32(precision, atol):
    expected = np.concatenate(TokenFeaturizer(BERT, layer=2, cache=None).fit_transform(SENTENCES))
    features = np.concatenate(TokenFeaturizer(BERT, layer=2, precision=precision).fit_transform(SENTENCES))
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, atol=atol * np.abs(expected).max())


def test_set_output_is_refused_for_lists():
    assert not hasattr(TokenFeaturizer(), "set_output")
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(TokenFeaturizer(layer=0).fit_transform(SENTENCES), list)


def test_html_lists_the_stages():
    assert "layer1" in TokenFeaturizer(layer=1).fit(SENTENCES)._repr_html_()
