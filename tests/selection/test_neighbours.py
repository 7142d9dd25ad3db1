from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import r2_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection import neighbours
from sktransfer.selection.neighbours import knn


def sample(n=61, d=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 2)
    return rng.normal(size=(n, d)) + 1.0 * y[:, None], y


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 5])
def test_it_is_leave_one_out_of_scikit_learn(distance, k, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", 17)  # blocks that do not divide the samples
    Z, y = sample()
    predicted = cross_val_predict(KNeighborsClassifier(k, metric=distance), Z, y, cv=LeaveOneOut())
    assert knn(Z, y, k=k, distance=distance) == pytest.approx(np.mean(predicted == y))
    target = Z @ np.arange(4.0) + 0.1 * y
    predicted = cross_val_predict(KNeighborsRegressor(k, metric=distance), Z, target, cv=LeaveOneOut())
    assert knn(Z, target, k=k, distance=distance) == pytest.approx(r2_score(target, predicted))


def test_columns_of_labels_score_the_mean_of_their_accuracies():
    Z, y = sample()
    both = np.stack([y, (Z[:, 0] > 1).astype(int)], axis=1)
    assert knn(Z, both) == pytest.approx((knn(Z, both[:, 0]) + knn(Z, both[:, 1])) / 2)


def test_votes_that_tie_are_shared_whatever_the_classes_are_called():
    Z = np.array([[1.0], [1.1], [0.9]])
    assert knn(Z, [0, 1, 2], k=2, distance="euclidean") == 0
    assert knn(Z, [0, 0, 1], k=2, distance="euclidean") == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert knn(Z, [1, 1, 0], k=2, distance="euclidean") == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_length_does_not_matter_to_cosine_nor_shift_to_euclidean_distance():
    Z, y = sample()
    lengths = np.random.default_rng(1).uniform(0.1, 10, (61, 1))
    assert knn(Z * lengths, y) == knn(Z, y)
    assert knn(Z + 1e6, y, distance="euclidean") == knn(Z, y, distance="euclidean")
    assert 0 <= knn(np.zeros((6, 2)), [0, 1, 0, 1, 0, 1]) <= 1  # no direction at all


@pytest.mark.parametrize(("options", "match"), [({"k": 0}, "k=0"), ({"k": True}, "k=True"), ({"distance": "l1"}, "l1")])
def test_parameters_are_checked(options, match):
    with pytest.raises(InvalidParameterError, match=match):
        knn(*sample(), **options)
    with pytest.raises(InvalidParameterError, match="one sample has no neighbours"):
        knn([[1.0]], ["a"])


def test_more_neighbours_than_others_are_all_others():
    assert knn([[1, 0], [0, 1], [1, 1]], ["a", "b", "b"], k=50) == pytest.approx((0 + 0.5 + 0.5) / 3)


def test_no_sample_is_its_own_neighbour_however_far_the_others_are():
    assert knn([[1, 0], [-1, 0], [-1, 0.1]], ["a", "b", "b"], k=2) == pytest.approx((0 + 0.5 + 0.5) / 3)
