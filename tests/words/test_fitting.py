"""Vectors of n-grams fitted to those of words."""

from __future__ import annotations

import numpy as np

from sktransfer.words.fitting import fit_n_grams


def flat(n_grams):
    return np.array([row for rows in n_grams for row in rows]), np.array([len(rows) for rows in n_grams])


def test_the_solution_is_that_of_ridge_regression():
    rng = np.random.default_rng(0)
    n_grams = [rng.choice(12, n, replace=False).tolist() for n in (3, 5, 1, 4, 6, 2, 3, 3)] + [[]]
    matrix = rng.normal(size=(9, 4)).astype(np.float32)
    means = np.zeros((9, 12))
    for row, some in enumerate(n_grams):
        means[row, some] = 1 / max(len(some), 1)
    expected = np.linalg.solve(means.T @ means + 0.01 * np.eye(12), means.T @ matrix)
    found = fit_n_grams(*flat(n_grams), matrix, 12)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.dtype == np.float32


def test_a_word_without_a_vector_of_its_own_lies_among_words_spelt_alike():
    rng = np.random.default_rng(0)
    stems = rng.choice(200, (20, 6))  # twenty stems of six n-grams, each with its own meaning
    meanings = rng.normal(size=(20, 10))
    words = [[*stem, 200 + ending] for stem in stems for ending in range(5)]
    rows = fit_n_grams(*flat(words), np.repeat(meanings, 5, axis=0).astype(np.float32), 206)
    for stem, meaning in zip(stems, meanings):
        new = rows[[*stem, 205]].mean(0)  # with an ending that no word had
        assert new @ meaning / np.linalg.norm(new) / np.linalg.norm(meaning) > 0.9
