"""Vectors of words from those of tokens, and tables of words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score

from sktransfer import TokenFeaturizer, stack_words
from sktransfer.sentences.values import pool_words

FEATURES = [np.full((2, 3), 1, np.float32), np.empty((0, 3), np.float32), np.full((3, 3), 2, np.float32)]


@pytest.mark.parametrize(
    ("subword", "expected"), [("first", [1.0, 2.0, 4.0]), ("last", [1.0, 3.0, 6.0]), ("mean", [1.0, 2.5, 5.0])]
)
def test_pool_words_subword(subword, expected):
    values = torch.arange(8.0, dtype=torch.bfloat16)[:, None].expand(8, 2)
    vectors = pool_words(values, np.array([1, 2, 4]), np.array([1, 3, 6]), subword)
    assert vectors.dtype == torch.float32
    assert vectors[:, 1].tolist() == expected


def test_stack_words_stacks_values_and_groups():
    words, values, groups = stack_words(FEATURES, [["A", "B"], [], ["A", None, "C"]], return_groups=True)
    assert words.shape == (4, 3)
    assert words.dtype == np.float32
    assert values.tolist() == ["A", "B", "A", "C"]
    assert groups.tolist() == [0, 0, 2, 2]
    assert stack_words(FEATURES).shape == (5, 3)
    assert stack_words(FEATURES, return_groups=True)[1].tolist() == [0, 0, 2, 2, 2]


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan, pd.NA], ids=["None", "float", "numpy", "NA"])
def test_stack_words_leaves_out_missing_values(missing):
    words, values = stack_words(FEATURES[:1], [["A", missing]])
    assert values.tolist() == ["A"]
    assert len(words) == 1


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (FEATURES, [["A", "B"], [], ["A"]], "row 2: y has 1 value, and X has 3 words"),
        ([], None, "X has no sentences"),
        ([np.ones((2, 3)), np.ones((2, 4))], None, "same features"),
        ([np.ones(3)], None, r"arrays \(n_words, n_features\)"),
        ([["the", "film"]], None, r"holds words or tags; give the features"),
    ],
    ids=["lengths", "empty", "widths", "vector", "words"],
)
def test_stack_words_refuses(X, y, message):
    with pytest.raises(ValueError, match=message):
        stack_words(X, y)


def test_stack_words_feeds_cross_validation_with_groups():
    sentences = [["the", "film", "is", "good"], ["a", "bad", "play"], ["the", "plot"], ["good", "films"]] * 3
    tags = [[word in ("the", "a") for word in words] for words in sentences]
    features = TokenFeaturizer(layer=1).fit_transform(sentences)
    words, values, groups = stack_words(features, tags, return_groups=True)
    scores = cross_val_score(LogisticRegression(), words, values, groups=groups, cv=GroupKFold(3))
    assert scores.min() > 0.8
