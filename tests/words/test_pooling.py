"""Lookup and poolings, compared with computation word by word."""

from __future__ import annotations

import numpy as np
import pytest

from sktransfer.exceptions import InvalidSampleError
from sktransfer.words.pooling import Lookup, idf_weights, pool, sif_weights, top_direction
from sktransfer.words.subwords import Subwords
from sktransfer.words.vectors import WordVectors

RNG = np.random.default_rng(0)
WORDS = [f"w{i}" for i in range(30)]
PARTS = Subwords(RNG.normal(size=(50, 4)).astype(np.float32), 2, 3, 50)
VECTORS = WordVectors(WORDS, RNG.normal(size=(30, 4)).astype(np.float32), subwords=PARTS)
TEXTS = [RNG.choice([*WORDS, "x", "yy", "zzz"], n).tolist() for n in (5, 0, 12, 1, 30)] + [["x", "yy"], []]
UNK = VECTORS.matrix[-3:].mean(0)


def by_hand(tokens, policy):
    stands = {"zero": lambda word: np.zeros(4), "unk": lambda word: UNK, "subword": lambda word: VECTORS[word]}
    if policy == "skip":
        tokens = [token for token in tokens if token in VECTORS]
    vectors = [VECTORS[token] if token in VECTORS else stands[policy](token) for token in tokens]
    return tokens, np.array(vectors, dtype=np.float64).reshape(-1, 4)


@pytest.mark.parametrize("policy", ["skip", "zero", "unk", "subword"])
@pytest.mark.parametrize("pooling", ["mean", "tfidf", "max", "mean+max", None])
def test_pool_equals_computation_by_hand(policy, pooling):
    lookup = Lookup(VECTORS, policy)
    weights = idf_weights(TEXTS[:4]) if pooling == "tfidf" else None
    pooled = pool(lookup, lookup(TEXTS), pooling, weights)
    for text, features in zip(TEXTS, pooled):
        tokens, values = by_hand(text, policy)
        if pooling is None:
            assert features.dtype == np.float32
            np.testing.assert_allclose(features, values, atol=1e-6)
            continue
        shares = np.ones(len(tokens)) if weights is None else weights.of(tokens)
        mean = shares @ values / shares.sum() if tokens else np.zeros(4)
        largest = values.max(0) if tokens else np.zeros(4)
        expected = {"max": largest, "mean+max": np.concatenate([mean, largest])}.get(pooling, mean)
        np.testing.assert_allclose(features, expected, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "max", "mean+max"])
@pytest.mark.parametrize("policy", ["skip", "unk", "subword"])
def test_pool_does_not_depend_on_other_texts(pooling, policy):
    lookup = Lookup(VECTORS, policy)
    together = pool(lookup, lookup(TEXTS), pooling, None)
    for text, expected in zip(TEXTS, together):
        np.testing.assert_array_equal(pool(lookup, lookup([text]), pooling, None)[0], expected)


def test_lookup_with_oov_error_names_word_and_row():
    with pytest.raises(InvalidSampleError, match=r"row 12: 'x' has no vector"):
        Lookup(VECTORS, "error")([["w1"], [], ["w2", "x"]], first_row=10)
    Lookup(VECTORS, "error")([["w1"], []])


def test_lookup_counts_unknown_words_before_skipping():
    block = Lookup(VECTORS, "skip")([["w1", "x"], ["yy"]])
    assert (block.n_unknown, block.n_seen, len(block.tokens), block.n_uncovered) == (2, 3, 1, 1)


def test_idf_weights_equal_scikit_learn():
    from sklearn.feature_extraction.text import TfidfVectorizer

    theirs = TfidfVectorizer(analyzer=lambda tokens: tokens).fit(TEXTS)
    ours = idf_weights(TEXTS)
    words = list(theirs.vocabulary_)
    np.testing.assert_allclose(ours.of(words), [theirs.idf_[theirs.vocabulary_[word]] for word in words], rtol=1e-12)
    assert ours.of(["never seen"])[0] == pytest.approx(np.log(len(TEXTS) + 1) + 1)


def test_sif_weights_decrease_with_frequency():
    weights = sif_weights([["the"] * 999, ["film"]])
    np.testing.assert_allclose(weights.of(["the", "film", "new"]), [0.001 / 1.0, 0.5, 1], rtol=1e-3)


def test_top_direction_is_the_first_singular_vector():
    features = RNG.normal(size=(50, 6)) + 3
    _, _, right = np.linalg.svd(features, full_matrices=False)
    assert abs(top_direction(features.astype(np.float32)) @ right[0]) == pytest.approx(1, abs=1e-6)
