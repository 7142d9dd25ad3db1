"""Labels, indicators and numbers as targets of a choice of layers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

from sktransfer.engine.choice_targets import ChoiceTargets

ONE_HOT = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]])


@pytest.mark.parametrize("target", ["auto", "classes", "numbers"])
def test_of_target(target):
    stars = [1, 5, 3, 1, 5]
    found = ChoiceTargets.of(stars, target)
    assert found.n_classes == (None if target == "numbers" else 3)
    assert ChoiceTargets.of([0.5, 1.5], target).n_classes == (2 if target == "classes" else None)


def test_of_target_numbers_names_a_label():
    with pytest.raises(ValueError, match=r"the target of row 1 is 'good', and target='numbers' takes numbers"):
        ChoiceTargets.of(np.array([1, "good"], dtype=object), "numbers")


@pytest.mark.parametrize(
    "y",
    [
        ["b", "a", "b", "a"],
        np.array(["b", "a", "b", "a"], dtype=object),
        pd.Series(["b", "a", "b", "a"], index=[5, 6, 7, 8], dtype="category"),
        [7, 3, 7, 3],
        [1.0, 0.0, 1.0, 0.0],
        np.array([True, False, True, False]),
        torch.tensor([1, 0, 1, 0]),
        [[1], [0], [1], [0]],
    ],
    ids=["list", "object", "category", "int", "whole floats", "bool", "tensor", "column"],
)
def test_of_labels(y):
    targets = ChoiceTargets.of(y)
    assert targets.n_classes == 2
    assert np.array_equal(targets.values, ONE_HOT) or np.array_equal(targets.values, 1 - ONE_HOT)


@pytest.mark.parametrize("wrap", [np.asarray, csr_matrix, pd.DataFrame])
def test_of_indicators(wrap):
    targets = ChoiceTargets.of(wrap(np.array([[1, 0], [0, 0], [1, 1]])))
    assert (targets.n_classes, targets.values.shape) == (2, (3, 4))


@pytest.mark.parametrize(
    "y", [[0.5, 2.5, 9.0], np.array([0.5, 2.5, 9.0], dtype=object), pd.Series([0.5, 2.5, 9.0], dtype="Float64")]
)
def test_of_numbers(y):
    targets = ChoiceTargets.of(y)
    assert targets.n_classes is None
    np.testing.assert_allclose([targets.values.mean(), targets.values.std()], [0, 1], atol=1e-12)


def test_of_whole_numbers_of_many_values():
    assert ChoiceTargets.of(np.arange(60)).n_classes is None
    assert ChoiceTargets.of(np.repeat(np.arange(60), 5)).n_classes == 60
    assert ChoiceTargets.of(np.arange(60) % 20).n_classes == 20
    assert ChoiceTargets.of(np.stack([np.arange(60), np.arange(60) % 3], axis=1)).values.shape == (60, 2)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (["a", None], "target of row 1"),
        (pd.Series([1.5, np.nan], index=["s", "t"]), "index label 't'"),
        ([0.5, np.inf], "infinite"),
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
    ],
)
def test_of_refuses(y, match):
    with pytest.raises(ValueError, match=match):
        ChoiceTargets.of(y)


def test_are_equal():
    assert ChoiceTargets.of(["a", "a"]).are_equal
    assert not ChoiceTargets.of(["a", "b"]).are_equal
    assert ChoiceTargets.of(["a", "b", "a"]).take(np.array([0, 2])).are_equal
