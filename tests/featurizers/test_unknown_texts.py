"""Texts in a script that the model does not know: every estimator of texts tells of them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from sktransfer import (
    ContrastiveFineTuner,
    FineTuneClassifier,
    FineTuneRegressor,
    TextFeaturizer,
    WordEmbedder,
    ZeroShotClassifier,
    rank_backbones,
)
from sktransfer.exceptions import UnknownWordsWarning

BERT = "tiny/bert"
SCRIPTS = {
    "Arabic": ["هذا فيلم جميل جدا", "كتاب سيئ"],
    "Hebrew": ["סרט טוב מאוד", "ספר רע"],
    "Chinese": ["这部电影很好", "书不好看"],
    "Hindi": ["यह फिल्म अच्छी है", "किताब खराब"],
    "Thai": ["ภาพยนตร์ดีมาก", "หนังสือแย่"],
    "Korean": ["영화가 정말 좋다", "책이 나쁘다"],
    "Greek": ["πολύ καλή ταινία", "κακό βιβλίο"],
    "emoji": ["\U0001f600\U0001f600", "\U0001f621"],
}
TEXTS, LABELS = SCRIPTS["Thai"] * 4, np.array(["good", "bad"] * 4)
QUICK = {"max_epochs": 1, "random_state": 0}


def told(act):
    """Return the messages about unknown texts."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act()
    return [str(one.message) for one in caught if one.category is UnknownWordsWarning]


@pytest.mark.parametrize("script", SCRIPTS)
def test_transform_warns_of_texts_in_an_unknown_script(script):
    (message,) = told(lambda: TextFeaturizer(BERT, cache=None).fit_transform(SCRIPTS[script]))
    assert message.startswith("2 of 2 texts consist mostly of tokens unknown")
    for remedy in ("'hf/", 'WordEmbedder(model="fasttext")', 'TfidfVectorizer(analyzer="char_wb")'):
        assert remedy in message


def test_transform_is_silent_about_known_texts_with_an_emoji():
    texts = ["a good film \U0001f600", "what a bad, bad plot", "naïve café: the best in town", "12,50 €", "", "ok"]
    assert told(lambda: TextFeaturizer(BERT, cache=None).fit_transform(texts)) == []


def test_transform_tells_of_cached_texts_only_when_they_are_read():
    featurizer = TextFeaturizer(BERT).fit(TEXTS)
    texts = [f"{text} {text}" for text in SCRIPTS["Thai"]]
    assert len(told(lambda: featurizer.transform(texts))) == 1
    assert told(lambda: featurizer.transform(texts)) == []
    (message,) = told(lambda: featurizer.transform([*texts, "good", SCRIPTS["Hebrew"][0]]))
    assert message.startswith("1 of 4 texts")


def test_transform_counts_equal_texts_of_an_unknown_script():
    thai, hebrew = SCRIPTS["Thai"][0], SCRIPTS["Hebrew"][0]
    (message,) = told(lambda: TextFeaturizer(BERT, cache=None).fit_transform([thai, "good", thai, "good", hebrew]))
    assert message.startswith("3 of 5 texts")


@pytest.mark.parametrize(
    "act",
    [
        lambda: FineTuneClassifier(BERT, freeze_depth=-1, **QUICK).fit(TEXTS, LABELS),
        lambda: FineTuneRegressor(BERT, freeze_depth="all", **QUICK).fit(TEXTS, np.arange(8.0)),
        lambda: ContrastiveFineTuner(BERT, **QUICK).fit(TEXTS, LABELS),
        lambda: ZeroShotClassifier(BERT, labels=["good", "bad"], cache=None).predict(TEXTS),
        lambda: ZeroShotClassifier(BERT, labels=SCRIPTS["Thai"], cache=None).predict(["good", "bad"]),
        lambda: rank_backbones([BERT], TEXTS, LABELS, cv=2, cache=None),
        lambda: WordEmbedder("word2vec", min_count=1).fit(["good", "bad"]).transform(TEXTS),
    ],
    ids=["classifier", "regressor", "contrastive", "zero_shot", "labels", "rank_backbones", "words"],
)
def test_fit_and_predict_warn_once_of_unknown_texts(act):
    assert len(told(act)) == 1
