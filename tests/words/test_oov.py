"""Policies, reports and warnings for out-of-vocabulary words."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from sktransfer.exceptions import InvalidParameterError, UnknownWordsWarning
from sktransfer.words.oov import report, resolve_policy, unknown_vector, warn_of_unknown
from sktransfer.words.subwords import Subwords
from sktransfer.words.vectors import WordVectors

ROWS = np.arange(40, dtype=np.float32).reshape(20, 2)
PLAIN = WordVectors([f"w{i}" for i in range(20)], ROWS)
PARTS = WordVectors(PLAIN.words, ROWS, subwords=Subwords(np.ones((10, 2), np.float32), 3, 6, 10))


def test_resolve_policy_of_auto_follows_the_vectors():
    assert resolve_policy("auto", PARTS) == "subword"
    assert resolve_policy("auto", PLAIN) == "skip"
    assert resolve_policy("unk", PARTS) == "unk"
    with pytest.raises(InvalidParameterError, match="needs vectors of n-grams"):
        resolve_policy("subword", PLAIN)
    with pytest.raises(InvalidParameterError, match="Did you mean 'skip'"):
        resolve_policy("skipp", PLAIN)
    with pytest.raises(InvalidParameterError, match="oov=None"):
        resolve_policy(None, PLAIN)


def test_unknown_vector_of_unk_is_the_mean_of_the_rarest_tenth():
    np.testing.assert_array_equal(unknown_vector(PLAIN, "unk"), ROWS[-2:].mean(0))
    np.testing.assert_array_equal(unknown_vector(WordVectors(["a"], ROWS[:1]), "unk"), ROWS[0])
    assert not unknown_vector(PLAIN, "zero").any()


def test_report_counts_tokens_types_and_texts():
    coverage = report([["w1", "w1", "x", "y"], ["x"], [], ["w2"]], PLAIN, k=1)
    assert (coverage.n_texts, coverage.n_tokens, coverage.n_types) == (4, 6, 4)
    assert coverage.unknown_tokens == 3 / 6
    assert coverage.unknown_types == 2 / 4
    assert coverage.nothing_known == 2 / 4
    assert coverage.most_frequent == [("x", 2)]
    assert str(coverage) == (
        "50.0% of 6 words and 50.0% of 4 different words are unknown; 50.0% of 4 texts hold no known word. "
        "Most frequent: x (2)"
    )
    assert "none" in str(report([["w1"]], PLAIN))


@pytest.mark.parametrize(
    ("n_unknown", "n_tokens", "policy", "warns"),
    [
        (21, 100, "skip", True),
        (20, 100, "skip", False),
        (99, 99, "skip", False),
        (100, 100, "subword", False),
        (21, 100, "unk", True),
        (21, 100, "zero", True),
    ],
)
def test_warn_of_unknown_above_a_fifth_of_a_hundred_words(n_unknown, n_tokens, policy, warns):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_unknown(n_unknown, n_tokens, policy, PARTS, lowercase=True)
    assert [w.category for w in caught] == [UnknownWordsWarning] * warns
    if warns:
        assert "continue_from" in str(caught[0].message)
        assert "lowercase=False" not in str(caught[0].message)


def test_warn_of_unknown_suggests_lowercase_for_cased_vectors():
    cased = WordVectors(["The", "cat"], ROWS[:2])
    with pytest.warns(UnknownWordsWarning, match="lowercase=False"):
        warn_of_unknown(50, 100, "skip", cased, lowercase=True)


@pytest.mark.parametrize(
    ("n_uncovered", "n_texts", "policy", "warns"),
    [
        (2, 9, "skip", True),
        (2, 10, "skip", False),
        (1, 1, "skip", False),
        (9, 9, "subword", False),
        (9, 9, "unk", True),
    ],
)
def test_warn_of_unknown_above_a_fifth_of_texts_without_a_known_word(n_uncovered, n_texts, policy, warns):
    of_texts = {"n_texts": n_texts, "n_uncovered": n_uncovered}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_unknown(n_uncovered, 20, policy, PARTS, lowercase=True, **of_texts)
    assert [w.category for w in caught] == [UnknownWordsWarning] * warns
    if warns:
        assert f"{n_uncovered} of {n_texts} texts hold no word" in str(caught[0].message)
