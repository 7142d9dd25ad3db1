"""Comparison with tf-idf or raw pixels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from sktransfer import (
    FineTuneClassifier,
    ImageFeaturizer,
    MultiTaskFineTuner,
    TextFeaturizer,
    compare_with_baseline,
    make_transfer_pipeline,
)
from sktransfer.exceptions import InvalidParameterError

X, y = load_digits(return_X_y=True)
IMAGES = (X.reshape(-1, 8, 8) / 16)[:60]
TEXTS = [f"{['good', 'bad'][i % 2]} film number {i}" for i in range(24)]
MOODS = np.array(["up", "down"] * 12)


def test_baseline_of_texts_is_tf_idf_on_the_same_folds():
    folds = StratifiedKFold(3)
    model = make_pipeline(TextFeaturizer(), LogisticRegression())
    comparison = compare_with_baseline(model, TEXTS, MOODS, cv=folds)
    peer = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(max_iter=1000))
    names = ["fold0", "fold1", "fold2"]
    assert comparison.loc["baseline", names].tolist() == cross_val_score(peer, TEXTS, MOODS, cv=folds).tolist()
    assert comparison.loc["estimator", names].tolist() == cross_val_score(model, TEXTS, MOODS, cv=folds).tolist()
    assert comparison["mean"].tolist() == pytest.approx(comparison[names].mean(axis=1).tolist())


def test_report_names_what_is_ahead():
    report = compare_with_baseline(DummyClassifier(), TEXTS, MOODS, cv=3, random_state=0).attrs["report"]
    assert report.startswith("tf-idf is ahead of estimator by 0.5")
    model = make_pipeline(ImageFeaturizer(), LogisticRegression(max_iter=1000))
    report = compare_with_baseline(model, IMAGES[:40], y[:40] > 4, cv=2, random_state=0).attrs["report"]
    assert "raw pixels" in report


def test_baseline_of_numbers_and_of_several_labels():
    numbers = compare_with_baseline(make_pipeline(ImageFeaturizer(), Ridge()), IMAGES, IMAGES.mean((1, 2)), cv=2)
    assert numbers.loc["baseline", "mean"] > 0.5
    several = np.stack([y[:60] > 4, y[:60] % 2], 1).astype(int)
    model = DummyClassifier()
    assert compare_with_baseline(model, IMAGES, several, cv=2).shape == (2, 4)


def test_folds_depend_on_the_seed_alone():
    labels = np.random.default_rng(0).permutation(MOODS)
    first, again, other = (compare_with_baseline(DummyClassifier(), TEXTS, labels, random_state=s) for s in (0, 0, 1))
    assert first.equals(again)
    assert not first.loc["baseline"].equals(other.loc["baseline"])


def test_compare_with_baseline_refuses_other_input():
    with pytest.raises(InvalidParameterError, match="cv=1"):
        compare_with_baseline(DummyClassifier(), TEXTS, MOODS, cv=1)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        compare_with_baseline(DummyClassifier(), TEXTS, MOODS[:5])
    with pytest.raises(InvalidParameterError, match="X has 3 columns"):
        compare_with_baseline(DummyClassifier(), np.ones((10, 3)), np.arange(10) % 2)


@pytest.mark.parametrize("library", [pd, pl], ids=["pandas", "polars"])
def test_baseline_of_a_table_reads_texts_by_tf_idf_and_the_other_columns_as_numbers(library):
    numbers = [5 * (mood == "up") + i % 3 / 10 for i, mood in enumerate(MOODS)]
    words = library.DataFrame({"text": TEXTS, "noise": [i % 3 for i in range(24)]})
    stars = library.DataFrame({"text": [*["the same words"] * 23, None], "stars": numbers})
    for table, output in ((words, "default"), (stars, "pandas")):
        with config_context(transform_output=output):
            comparison = compare_with_baseline(
                DummyClassifier(), table, MOODS, kinds={"text": "text"}, cv=3, random_state=0
            )
        assert comparison.loc["baseline", "mean"] == 1.0
        assert comparison.attrs["report"].startswith("tf-idf with the other columns is ahead of estimator by 0.5")


def test_kinds_of_compare_with_baseline_are_those_of_the_columns():
    table = pd.DataFrame({"text": TEXTS, "noise": [i % 3 for i in range(24)]})
    kinds = {"noise": "drop", "text": "text"}
    comparison = compare_with_baseline(DummyClassifier(), table, MOODS, kinds=kinds, cv=3, random_state=0)
    assert comparison.attrs["report"].startswith("tf-idf is ahead")
    with pytest.raises(InvalidParameterError, match=r"none of texts or images.*kinds=\{'text': 'text'\}"):
        compare_with_baseline(DummyClassifier(), table, MOODS, kinds={"text": "drop"})


def test_baseline_of_a_table_reads_images_as_pixels_and_leaves_gaps():
    images = [*np.where(np.arange(24)[:, None, None] % 2, 0.9, 0.1) * np.ones((24, 8, 8))]
    table = pd.DataFrame({"image": [None, *images[1:]], "number": [i % 3 for i in range(24)]})
    model = make_transfer_pipeline(table, MOODS)
    comparison = compare_with_baseline(model, table, MOODS, cv=2, random_state=0)
    assert comparison.loc["baseline", "mean"] > 0.9
    assert "raw pixels with the other columns" in comparison.attrs["report"]


def test_compare_with_baseline_refuses_columns_without_names_with_what_to_pass():
    array = pd.DataFrame({"text": TEXTS, "stars": [5.0] * len(TEXTS)}).to_numpy()
    with pytest.raises(InvalidParameterError, match=r"X has 2 columns without names.*reshape\(-1, height, width\)"):
        compare_with_baseline(DummyClassifier(), array, MOODS, cv=2)


def test_compare_with_baseline_refuses_missing_labels_and_several_tasks():
    frozen = FineTuneClassifier(freeze_depth="all", max_epochs=0)
    with pytest.raises(ValueError, match=r"y\[23\] is None: 1 of 24 samples has no label"):
        compare_with_baseline(frozen, TEXTS, [*MOODS[:-1], None], cv=2)
    tasks = pd.DataFrame({"mood": MOODS, "again": MOODS})
    with pytest.raises(InvalidParameterError, match="MultiTaskFineTuner has a score for each task"):
        compare_with_baseline(make_pipeline(MultiTaskFineTuner()), TEXTS, tasks, cv=2)


@pytest.mark.parametrize("given", [lambda y: y, lambda y: y.to_numpy(), lambda y: y.tolist()])
def test_compare_with_baseline_refuses_a_table_with_the_target(given):
    table = pd.DataFrame({"text": TEXTS, "n": [i % 7 for i in range(24)]})
    model, leaky = make_transfer_pipeline(table, MOODS), table.assign(mood=MOODS)
    with pytest.raises(InvalidParameterError, match=r"y is the column 'mood' of X"):
        compare_with_baseline(model, leaky, given(leaky["mood"]), cv=2)
