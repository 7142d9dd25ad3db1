"""Vectors of n-grams that explain the vectors of words, by ridge regression."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

__all__ = ["fit_n_grams"]

_RIDGE = 0.01
_STEPS = 30


def fit_n_grams(n_grams: np.ndarray, lengths: np.ndarray, matrix: np.ndarray, n_rows: int) -> np.ndarray:
    """Return vectors of n-grams whose means come near the vectors of words.

    Where training starts at vectors that are there already, n-grams start at zero and learn what changes, not what the
    words mean: the mean of a new word's n-grams would lie far from words spelt alike. After this it lies among them.

    Parameters
    ----------
    n_grams : ndarray of shape (n_listed,), int
        The rows of the words' n-grams, word after word.
    lengths : ndarray of shape (n_words,), int
        How many of them each word has.
    matrix : ndarray of shape (n_words, n_dims)
        The vectors of the words.
    n_rows : int
        How many n-grams there are.

    Returns
    -------
    rows : ndarray of shape (n_rows, n_dims), float32
        Minimizes the squared distance of means and vectors plus 0.01 times the squares of `rows`, by 30 steps of
        conjugate gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.words.fitting import fit_n_grams
    >>> fit_n_grams(np.array([0, 1, 1]), np.array([2, 1]), np.array([[1.0], [2.0]]), 2).round(1).tolist()
    [[0.0], [2.0]]
    """
    ends = np.concatenate([[0], np.cumsum(lengths)])
    shares = np.repeat(1 / np.maximum(lengths, 1), lengths)
    means = csr_array((shares, n_grams, ends), shape=(len(lengths), n_rows))  # (n_words, n_rows)
    transposed = means.T.tocsr()
    found = np.zeros((n_rows, matrix.shape[1]))
    residual = transposed @ matrix.astype(np.float64)  # (n_rows, n_dims)
    direction, squares = residual.copy(), (residual**2).sum(axis=0)
    for _ in range(_STEPS):
        image = transposed @ (means @ direction) + _RIDGE * direction
        step = squares / np.maximum((direction * image).sum(axis=0), 1e-30)
        found += step * direction
        residual -= step * image
        before, squares = squares, (residual**2).sum(axis=0)
        direction = residual + squares / np.maximum(before, 1e-30) * direction
    return found.astype(np.float32)
