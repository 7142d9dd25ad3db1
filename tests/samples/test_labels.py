"""Index labels of pandas objects in messages that name a row."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.model_selection import KFold, cross_validate

from sktransfer import (
    FineTuneClassifier,
    FineTuneRegressor,
    ImageFeaturizer,
    TextFeaturizer,
    WordEmbedder,
    find_bad_images,
)
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.workers import retry_on_oom
from sktransfer.exceptions import InvalidSample, InvalidSampleError, InvalidSampleWarning
from sktransfer.samples.base import Rows
from sktransfer.samples.labels import label_of, named_row, row_labels
from sktransfer.samples.texts import check_texts
from sktransfer.words.vectors import WordVectors


def vectors(word):
    return WordVectors([word], np.ones((1, 1), np.float32))


TEXTS = pd.Series(["good", "bad", None, "fine"], index=[10, 20, 30, 40])
IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (TEXTS, "row 2 (index label 30)"),
        (TEXTS.to_frame("text"), "row 2 (index label 30)"),
        (TEXTS.set_axis(["a", "b", "c", "d"]), "row 2 (index label 'c')"),
        (TEXTS.set_axis([7, 7, 7, 7]), "row 2 (index label 7)"),
        (TEXTS.set_axis([1.5, 2.5, 3.5, 4.5]), "row 2 (index label 3.5)"),
        (TEXTS.set_axis(pd.MultiIndex.from_product([["a", "b"], [1, 2]])), "row 2 (index label ('b', 1))"),
        (TEXTS.set_axis(pd.RangeIndex(1, 5)), "row 2 (index label 3)"),
        (TEXTS.set_axis(pd.RangeIndex(4)), "row 2"),
        (TEXTS.reset_index(drop=True), "row 2"),
        (pl.Series([1, 2, 3]), "row 2"),
        (pl.DataFrame({"index": [1, 2, 3]}), "row 2"),
        ([1, 2, 3], "row 2"),
        (np.arange(3), "row 2"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_named_row_of_pandas_objects_names_the_label(X, expected):
    assert named_row(X, 2) == expected


def test_row_labels_follow_a_subset():
    assert row_labels(TEXTS.iloc[[3, 2]]).tolist() == [40, 30]
    assert label_of(row_labels(TEXTS.reset_index(drop=True)), 2) is None
    rows = Rows(4)
    rows.labels = row_labels(TEXTS)
    assert rows.take([3, 2]).label(1) == 30


def test_invalid_sample_error_with_a_label_survives_pickling():
    error = InvalidSampleError(2, "is broken")
    error.set_label("c")
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.row, back.label) == ("row 2 (index label 'c'): is broken", 2, "c")


FAILING = {
    "missing text": (TextFeaturizer("tiny/bert"), TEXTS),
    "missing text in a frame": (TextFeaturizer("tiny/bert"), TEXTS.to_frame("text")),
    "missing token list": (WordEmbedder(vectors("good")), TEXTS),
    "missing token": (
        WordEmbedder(vectors("a")),
        pd.Series([["a"]] * 4, TEXTS.index).where(TEXTS.notna(), None),
    ),
    "no vector": (
        WordEmbedder(vectors("good"), oov="error", tokenizer=str.split),
        pd.Series(["good", "good", "bad", "good"], TEXTS.index),
    ),
    "tokenizer": (
        WordEmbedder(vectors("a"), tokenizer=lambda text: [1] if text == "b" else [text]),
        pd.Series(["a", "a", "b", "a"], TEXTS.index),
    ),
    "no file": (ImageFeaturizer("tiny/cnn"), pd.Series([IMAGE, IMAGE, "nowhere.png", IMAGE], TEXTS.index)),
    "damaged": (ImageFeaturizer("tiny/cnn"), pd.Series([b"GIF89a"] * 4, TEXTS.index).iloc[[2]]),
}


@pytest.mark.parametrize("case", FAILING)
def test_transform_names_the_index_label_of_a_bad_sample(case):
    estimator, X = FAILING[case]
    with pytest.raises(InvalidSampleError, match=rf"^row {min(2, len(X) - 1)} \(index label 30\): ") as caught:
        estimator.fit(X).transform(X)
    assert caught.value.label == 30
    default = X.reset_index(drop=True)
    with pytest.raises(InvalidSampleError, match=rf"^row {min(2, len(X) - 1)}: "):
        estimator.fit(default).transform(default)


def test_fit_in_a_cross_validation_names_the_index_label():
    texts = pd.Series([f"text {i}" for i in range(60)])
    texts[50] = None
    with pytest.raises(InvalidSampleError, match=r"^row 20 \(index label 50\): the text is missing"):
        cross_validate(
            FineTuneClassifier("tiny/bert", max_epochs=1), texts, [0, 1] * 30, cv=KFold(2), error_score="raise"
        )


@pytest.mark.parametrize(
    ("estimator", "missing", "what"), [(FineTuneClassifier, None, "label"), (FineTuneRegressor, np.nan, "target")]
)
def test_fit_names_the_index_label_of_a_missing_target(estimator, missing, what):
    y = pd.Series([0.0, 1.0, missing, 1.0], [10, 20, 30, 40], dtype=object)
    with pytest.raises(ValueError, match=rf"^y\.iloc\[2\] \(index label 30\) is .* no {what}"):
        estimator("tiny/bert", max_epochs=1).fit(["a", "b", "c", "d"], y)


def test_on_error_warns_with_the_index_label():
    X = pd.Series([IMAGE, np.zeros(3), IMAGE], index=["a", "b", "c"])
    with pytest.warns(InvalidSampleWarning, match=r"row 1 \(index label 'b'\): ") as caught:
        ImageFeaturizer("tiny/cnn", on_error="warn").fit_transform(X)
    assert [failure.label for failure in caught[0].message.failures] == ["b"]


def test_find_bad_images_has_a_column_of_index_labels():
    X = pd.Series([IMAGE, np.zeros(3), IMAGE], index=["a", "b", "c"])
    table = find_bad_images(X)
    assert table.columns.tolist() == ["row", "path", "reason", "label"]
    assert table["label"].tolist() == ["b"]
    assert find_bad_images(X.drop(table["label"])).empty
    assert find_bad_images(X.reset_index(drop=True)).columns.tolist() == ["row", "path", "reason"]


def test_retry_on_oom_names_the_index_label():
    def too_large(part):
        raise MemoryError("too large")

    samples = check_texts(["a", "b"])
    samples.labels = TEXTS.index
    inputs = PreprocessedSamples(samples, TextFeaturizer("tiny/bert").fit(["a"]).backbone_.preprocess)
    with pytest.raises(InvalidSampleError, match=r"^row 0 \(index label 10\): "), inputs.labelled_rows():
        retry_on_oom(too_large, range(2))


def test_invalid_sample_with_a_label_is_named_in_a_warning():
    assert str(InvalidSample(3, None, "is broken", "x")) == "row 3 (index label 'x'): is broken"
