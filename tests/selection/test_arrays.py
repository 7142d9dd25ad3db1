from __future__ import annotations

import numpy as np
import pytest

from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.arrays import as_features, as_labels, as_targets, kind_of


def test_the_kind_of_targets_is_told_as_scikit_learn_tells_it():
    assert kind_of(["a", "b"]) == kind_of([1, 2, 3]) == kind_of([1.0, 2.0]) == kind_of([True, False]) == "classes"
    assert kind_of([0.5, 1.0]) == kind_of([[0.5, 1.0], [1.0, 2.0]]) == kind_of([np.nan, 1.0]) == "numbers"
    assert kind_of([[0, 1], [1, 1]]) == kind_of(np.eye(3, dtype=bool)) == "multilabel"
    for wrong in (np.zeros((2, 2, 2)), [["a", "b"], ["c", "d"]]):
        with pytest.raises(InvalidParameterError, match="is no target that is scored"):
            kind_of(wrong)


def test_labels_become_a_column_each_and_numbers_columns():
    targets, kind = as_targets(["b", "a", "b"], 3)
    assert kind == "classes"
    assert targets.tolist() == [[0, 1], [1, 0], [0, 1]]
    assert as_targets([0.5, 1, 2], 3)[0].shape == (3, 1)
    with pytest.raises(InvalidParameterError, match="must hold finite numbers for 3 samples"):
        as_targets([0.5, np.inf, 2], 3)
    with pytest.raises(InvalidParameterError, match="must hold finite numbers for 4 samples"):
        as_targets([0.5, 1, 2], 4)


def test_features_and_labels_are_checked():
    assert as_features(np.ones((2, 3), np.float32)).dtype == np.float64
    assert as_labels(["b", "a", "b"], 3)[0].tolist() == [1, 0, 1]
    with pytest.raises(InvalidParameterError, match="not empty"):
        as_features(np.ones((0, 3)))
    with pytest.raises(InvalidParameterError, match="one class only"):
        as_labels(["a", "a"], 2)
