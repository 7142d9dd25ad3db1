"""Validation of features and targets."""

from __future__ import annotations

import numpy as np
import pytest

from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.validation import check_features, encode_labels, encode_targets, resolve_target_type


def test_resolve_target_type_reads_whole_numbers_as_classes():
    assert (
        resolve_target_type(["a", "b"])
        == resolve_target_type([1, 2, 3])
        == resolve_target_type([1.0, 2.0])
        == resolve_target_type([True, False])
        == "multiclass"
    )
    assert (
        resolve_target_type([0.5, 1.0])
        == resolve_target_type([[0.5, 1.0], [1.0, 2.0]])
        == resolve_target_type([np.nan, 1.0])
        == "continuous"
    )
    assert resolve_target_type([[0, 1], [1, 1]]) == resolve_target_type(np.eye(3, dtype=bool)) == "multilabel-indicator"
    for wrong in (np.zeros((2, 2, 2)), [["a", "b"], ["c", "d"]]):
        with pytest.raises(InvalidParameterError, match="cannot be scored: pass labels"):
            resolve_target_type(wrong)


def test_encode_targets_encodes_labels_one_hot_and_numbers_as_columns():
    targets, target_type = encode_targets(["b", "a", "b"], 3)
    assert target_type == "multiclass"
    assert targets.tolist() == [[0, 1], [1, 0], [0, 1]]
    assert encode_targets([0.5, 1, 2], 3)[0].shape == (3, 1)
    with pytest.raises(InvalidParameterError, match="must hold finite numbers for 3 samples"):
        encode_targets([0.5, np.inf, 2], 3)
    with pytest.raises(InvalidParameterError, match="must hold finite numbers for 4 samples"):
        encode_targets([0.5, 1, 2], 4)


def test_check_features_and_encode_labels_check_their_arguments():
    assert check_features(np.ones((2, 3), np.float32)).dtype == np.float64
    assert encode_labels(["b", "a", "b"], 3)[0].tolist() == [1, 0, 1]
    with pytest.raises(InvalidParameterError, match="not empty"):
        check_features(np.ones((0, 3)))
    with pytest.raises(InvalidParameterError, match="one class only"):
        encode_labels(["a", "a"], 2)


def test_resolve_target_type_checks_the_parameter_target():
    assert resolve_target_type([1, 2], "numbers") == "continuous"
    with pytest.raises(InvalidParameterError, match=r"target='words' must be one of \('auto', 'classes'"):
        resolve_target_type([1, 2], "words")
    with pytest.raises(InvalidParameterError, match=r"y of shape \(2,\) cannot hold target='multilabel'"):
        resolve_target_type([1, 2], "multilabel")
