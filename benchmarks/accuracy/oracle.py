"""The best linear head on one or several layers, chosen on the samples that it is scored on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from sklearn.linear_model import LogisticRegression

__all__ = ["Oracle"]

STRENGTHS = np.logspace(-4, 2, 13)  # of ridge regressions, on features of total variance 1
CS = (10.0, 100.0)  # of logistic regressions, likewise
N_LOGISTIC = 2  # groups of layers that also get logistic regressions, best ridge regressions first
N_HALVES = 20
Block = tuple[np.ndarray, np.ndarray]


class Oracle:
    """Scores per test sample of many linear heads, each on one group of layers at one strength.

    The groups are each layer, the upper half of the layers, and all layers, for each pooling. Each layer is centred and
    divided by the root of its mean squared length. Each group gets ridge regressions of 13 strengths. The two best
    groups of labels also get logistic regressions of two strengths.

    Parameters
    ----------
    poolings : sequence of list of (ndarray, ndarray)
        For each pooling the features of training and test samples by layer, (n_samples, n_features) each.
    y : ndarray of shape (n_samples,)
        Labels or numbers of the training samples.
    y_test : ndarray of shape (n_test,)
        Those of the test samples.
    is_regression : bool
        Whether they are numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from benchmarks.accuracy.oracle import Oracle
    >>> Z = np.random.default_rng(0).normal(size=(60, 5))
    >>> Oracle([[(Z[:40], Z[40:])]], Z[:40, 0], Z[40:, 0], True).best() > 0.99
    True
    """

    def __init__(
        self, poolings: Sequence[Sequence[Block]], y: np.ndarray, y_test: np.ndarray, is_regression: bool
    ) -> None:
        self.y, self.y_test, self.is_regression = y, y_test, is_regression
        self._classes = np.unique(y)
        groups = []
        for blocks in poolings:
            layers = [_gram(train, test) for train, test in blocks]
            groups += [*([layer] for layer in layers), layers[len(layers) // 2 :], layers]
        rotated = [_rotated(group) for group in groups]
        by_ridge = [np.stack(list(self._ridge(*one))) for one in rotated]  # per group (n_strengths, n_test)
        by_logistic: list[np.ndarray] = []
        if not is_regression:
            order = np.argsort([-scores.mean(1).max() for scores in by_ridge])[:N_LOGISTIC]
            by_logistic = [self._logistic(*rotated[row], C) for row in order for C in CS]
        self.scores: np.ndarray = np.stack(list(chain(*by_ridge, by_logistic)))  # (n_heads, n_test)

    def best(self) -> float:
        """Return the score of the best head."""
        return float(self.scores.mean(1).max())

    def best_of_halves(self) -> float:
        """Return the mean score on one half of the test samples of the head that is best on the other, for 20 halves.

        It is free of the luck of the choice.
        """
        rng = np.random.default_rng(0)
        found = []
        for _ in range(N_HALVES):
            half = rng.permutation(self.scores.shape[1]) % 2 == 0
            found.append(self.scores[self.scores[:, half].mean(1).argmax(), ~half].mean())
        return float(np.mean(found))

    def _ridge(self, Z: np.ndarray, Z_test: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the scores per test sample of a ridge regression for each strength."""
        targets = (self.y if self.is_regression else self.y[:, None] == self._classes).astype(float)
        mean = targets.mean(0)
        targets = (targets - mean).reshape(len(Z), -1)  # (n_samples, n_outputs)
        squares = (Z**2).sum(0)  # (rank,): the columns of Z are orthogonal
        projected = Z.T @ targets  # (rank, n_outputs)
        for strength in STRENGTHS:
            yield self._score(Z_test @ (projected / (squares + strength)[:, None]) + mean)

    def _logistic(self, Z: np.ndarray, Z_test: np.ndarray, C: float) -> np.ndarray:
        head = LogisticRegression(C=C, max_iter=300).fit(Z, self.y)
        found: np.ndarray = head.predict(Z_test) == self.y_test
        return found.astype(float)

    def _score(self, outputs: np.ndarray) -> np.ndarray:
        """Return a value per test sample whose mean is the score."""
        if self.is_regression:
            scores: np.ndarray = 1 - (outputs[:, 0] - self.y_test) ** 2 / self.y_test.var()
            return scores
        return (self._classes[outputs.argmax(1)] == self.y_test).astype(float)


def _gram(train: np.ndarray, test: np.ndarray) -> Block:
    """Return the products of scaled training samples with themselves and of test samples with them."""
    train, test = train.astype(np.float64), test.astype(np.float64)
    mean = train.mean(0)
    train, test = train - mean, test - mean
    scale = np.mean((train**2).sum(1)) or 1.0
    return train @ train.T / scale, test @ train.T / scale


def _rotated(group: Sequence[Block]) -> Block:
    """Return orthogonal coordinates of the samples by the mean of Gram matrices, as many as the rank."""
    gram, cross = (np.mean(parts, axis=0) for parts in zip(*group, strict=True))
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-9 * values[-1]
    lengths = np.sqrt(values[kept])
    return vectors[:, kept] * lengths, cross @ (vectors[:, kept] / lengths)
