"""Scores of pretrained heads: LEEP and NCE."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.head_scores import leep, nce


def sample(n=40, n_categories=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(n_categories, 0.5), n), rng.permutation(np.arange(n) % 3)


def test_leep_equals_the_definition_term_by_term():
    P, y = sample()
    n, n_categories = P.shape
    joint = {(c, z): sum(P[i, z] for i in range(n) if y[i] == c) / n for c in range(3) for z in range(n_categories)}
    marginal = {z: sum(joint[c, z] for c in range(3)) for z in range(n_categories)}
    expected = sum(math.log(sum(joint[y[i], z] / marginal[z] * P[i, z] for z in range(n_categories))) for i in range(n))
    assert leep(P, y) == pytest.approx(expected / n)


def test_nce_is_the_negative_conditional_entropy_of_counts():
    P, y = sample()
    z = P.argmax(1)
    pairs = list(zip(y.tolist(), z.tolist()))
    expected = sum(
        pairs.count(pair) / len(pairs) * math.log(pairs.count(pair) / z.tolist().count(pair[1])) for pair in set(pairs)
    )
    assert nce(P, y) == pytest.approx(expected)


def test_leep_equals_nce_for_hard_predictions_only():
    P, y = sample()
    hard = np.eye(6)[P.argmax(1)]
    assert leep(hard, y) == pytest.approx(nce(hard, y))
    assert leep(P, y) != pytest.approx(nce(P, y))


def test_leep_and_nce_range_from_minus_the_entropy_of_the_labels_to_zero():
    _, y = sample()
    assert leep(np.eye(3)[y], y) == nce(np.eye(3)[y], y) == 0
    entropy = -sum(share * math.log(share) for share in np.bincount(y) / len(y))
    flat = np.full((40, 6), 1 / 6)
    assert leep(flat, y) == pytest.approx(-entropy)
    assert nce(flat, y) == pytest.approx(-entropy)


def test_leep_and_nce_ignore_order_of_samples_and_categories_and_label_names():
    P, y = sample()
    order = np.random.default_rng(1).permutation(40)
    for score in (leep, nce):
        assert score(P[order], y[order]) == pytest.approx(score(P, y))
        assert score(P[:, ::-1], y) == pytest.approx(score(P, y))
        assert score(P, np.array(["c", "a", "b"])[y]) == pytest.approx(score(P, y))
        assert score(np.c_[P, np.zeros(40)], y) == pytest.approx(score(P, y))  # a category that never occurs


@pytest.mark.parametrize("score", [leep, nce])
def test_leep_and_nce_check_probabilities(score):
    P, y = sample()
    with pytest.raises(InvalidParameterError, match="sum to 1"):
        score(np.log(P), y)
    with pytest.raises(InvalidParameterError, match="sum to 1"):
        score(P / 2, y)
