"""The benchmark of defaults: its oracle, its count of losses, its draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from benchmarks.accuracy.defaults import gain_table, losses
from benchmarks.accuracy.oracle import CS, STRENGTHS, Oracle


def scaled(Z, Z_test):
    mean = Z.mean(0)
    scale = np.sqrt(np.mean(((Z - mean) ** 2).sum(1)))
    return (Z - mean) / scale, (Z_test - mean) / scale


@pytest.fixture
def blocks():
    rng = np.random.default_rng(0)
    return [(one[:40], one[40:]) for one in (rng.normal(size=(70, 3)), rng.normal(size=(70, 60)))]


def test_oracle_of_numbers_equals_ridge(blocks):
    y = blocks[1][0][:, 0] + blocks[0][0][:, 0]
    y_test = blocks[1][1][:, 0] + blocks[0][1][:, 0]
    expected = []
    both = [np.concatenate(parts, axis=1) / np.sqrt(2) for parts in zip(*(scaled(*one) for one in blocks), strict=True)]
    for Z, Z_test in (*(scaled(*one) for one in blocks), both):
        expected += [Ridge(alpha=alpha).fit(Z, y).score(Z_test, y_test) for alpha in STRENGTHS]
    oracle = Oracle([blocks], y, y_test, True)
    scores = oracle.scores.mean(1)
    assert len(scores) == 4 * len(STRENGTHS)  # the upper half of two layers is the second alone
    np.testing.assert_allclose(np.unique(scores.round(6)), np.unique(np.round(expected, 6)), atol=2e-6)
    assert oracle.best() == pytest.approx(max(expected))


def test_oracle_of_labels_includes_logistic_regressions(blocks):
    y, y_test = (np.where(one[:, 0] > 0, "up", "down") for one in blocks[0])
    oracle = Oracle([blocks[:1]], y, y_test, False)
    Z, Z_test = scaled(*blocks[0])
    expected = [LogisticRegression(C=C, max_iter=300).fit(Z, y).score(Z_test, y_test) for C in CS]
    np.testing.assert_allclose(oracle.scores[-len(CS) :].mean(1), expected)
    assert oracle.best() >= max(expected)
    assert oracle.best() > 0.9


def test_oracle_chosen_on_halves_has_no_luck():
    rng = np.random.default_rng(0)
    blocks = [(one[:30], one[30:]) for one in rng.normal(size=(20, 1030, 4))]
    y = rng.permutation(1030) % 2  # labels that no feature predicts
    oracle = Oracle([blocks], y[:30], y[30:], False)
    assert oracle.best() > 0.525
    assert oracle.best_of_halves() < 0.51


def test_losses_counts_means_and_clear_sizes():
    index = pd.MultiIndex.from_product(
        [["choose"], ["a", "b"], ["net"], [30, 100], [0, 1]], names=["half", "task", "network", "size", "draw"]
    )
    differences = pd.Series([-3.0, -3.1, 2.0, 2.0, -9.0, 5.0, -3.0, -3.0], index)
    text = losses(differences)
    assert text.startswith("1 of 2 in the mean of the sizes (b, net -2.5)")
    assert text.endswith("2 of 4 at one size, beyond noise (a, net, 30 -3.0, b, net, 100 -3.0)")
    table = gain_table(pd.DataFrame({"before": 50.0, "frozen": 50.0 + differences}))
    assert table.loc[("choose", "b", "net")].tolist() == ["50.0 -2.0", "50.0 -3.0"]
