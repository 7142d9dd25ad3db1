"""Classification tasks: label smoothing, and labels that are not what they seem."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from torch.nn import functional

from sktransfer import FineTuneClassifier, MultiTaskFineTuner
from sktransfer.exceptions import TargetWarning
from sktransfer.tasks.classification import MultilabelIndicator, classification_task
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing_of_several_labels_equals_smoothed_targets(smoothing):
    logits, targets = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).float()
    expected = functional.binary_cross_entropy(
        logits.sigmoid(), targets.clamp(smoothing / 2, 1 - smoothing / 2), reduction="none"
    )
    loss = MultilabelIndicator(label_smoothing=smoothing).loss(logits, targets, torch.empty(5, 0))
    torch.testing.assert_close(loss, expected.mean(1))


def test_label_smoothing_makes_predictions_less_sure():
    options = {"max_epochs": 200, "freeze_depth": "all", "head_lr": 0.01, "random_state": 0}
    sure, unsure = (
        FineTuneClassifier(label_smoothing=smoothing, **options).fit(IMAGES, LABELS).predict_proba(IMAGES).max(1)
        for smoothing in (0.0, 0.2)
    )
    assert sure.min() > 0.99
    np.testing.assert_allclose(unsure, 0.9, atol=0.02)  # the target: 0.2 spread over both


ONE_HOT = np.eye(3, dtype=int)[np.arange(12) % 3]


@pytest.mark.parametrize(
    ("y", "remedy"),
    [
        (ONE_HOT, "np.asarray(y).argmax(1)"),
        (ONE_HOT.astype(float).tolist(), "np.asarray(y).argmax(1)"),
        (pd.DataFrame(ONE_HOT.astype(bool), columns=list("abc")), "y.idxmax(axis=1)"),
        (csr_array(ONE_HOT), "y.toarray().argmax(1)"),
    ],
    ids=["int", "float", "frame", "sparse"],
)
def test_classification_task_warns_once_of_one_hot_labels(y, remedy):
    with pytest.warns(TargetWarning) as caught:
        clf = FineTuneClassifier(max_epochs=0, random_state=0).fit(IMAGES, y)
    assert [str(one.message).split("pass ")[1] for one in caught] == [remedy]
    assert clf.predict(IMAGES).shape == (12, 3)
    labels = eval(remedy, {"np": np, "y": y})
    assert classification_task(labels).kind == "multiclass"
    assert np.array_equal(np.unique(labels, return_inverse=True)[1], np.arange(12) % 3)


@pytest.mark.parametrize(
    "y", [ONE_HOT[:9], ONE_HOT[:, :2] * [1, 0], np.vstack([ONE_HOT, [1, 1, 0]]), np.vstack([ONE_HOT, [0, 0, 0]])]
)
def test_classification_task_does_not_warn_of_other_indicators(y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert classification_task(y).kind == "multilabel-indicator"


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (np.arange(40) * 3, "holds 40 different numbers in 40 samples.*use FineTuneRegressor"),
        (np.repeat(np.arange(25) * 4.0, 4), "holds 25 different numbers in 100 samples.*use FineTuneRegressor"),
        ([f"a film of the year {year}" for year in range(30)], "holds 30 different labels in 30 samples.*and X, the"),
    ],
    ids=["most differ", "gaps", "texts"],
)
def test_multiclass_warns_once_of_numbers_and_of_labels_that_all_differ(y, match):
    images = [IMAGES[row % 12] for row in range(len(y))]
    with pytest.warns(UserWarning, match=match) as caught:
        FineTuneClassifier(max_epochs=0, random_state=0).fit(images, y)
    assert [one.category for one in caught] == [TargetWarning]


def test_multiclass_does_not_warn_of_validation_data_or_a_column_of_given_kind():
    images, y = [IMAGES[row % 12] for row in range(60)], np.arange(60) // 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FineTuneClassifier(max_epochs=0).fit(images, y, X_val=images[::2], y_val=y[::2])
        MultiTaskFineTuner(max_epochs=0, tasks={"price": "multiclass"}).fit(images, {"price": y * 100})


@pytest.mark.parametrize("y", [np.arange(60) // 2, np.repeat([0, 5, 100], 20), np.repeat(np.arange(30).astype(str), 2)])
def test_multiclass_does_not_warn_of_class_numbers(y):
    task = classification_task(y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.check(y)


@pytest.mark.parametrize("make", [list, np.array, pd.Series], ids=["list", "array", "Series"])
@pytest.mark.parametrize("labels", [["0", 1, 2, 1], [1, "0", 2, 1], ["a", 1.5] * 2, ["a", True] * 2])
def test_labels_of_several_types_are_refused(make, labels):
    y = make(labels * 3) if make is not np.array else np.array(labels * 3, dtype=object)
    with pytest.raises(
        ValueError, match=r"Unknown label type: y holds objects of type \w+ and \w+; labels are str, int"
    ):
        FineTuneClassifier(max_epochs=0).fit(IMAGES, y)


def test_labels_with_nan_in_a_list_of_strings_are_missing():
    with pytest.raises(ValueError, match=r"y\[1\] is nan: 6 of 12 samples have no label"):
        FineTuneClassifier(max_epochs=0).fit(IMAGES, ["a", float("nan")] * 6)
