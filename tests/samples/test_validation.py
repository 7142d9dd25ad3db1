"""The door through which X comes in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator

from sktransfer.samples.validation import check_samples


def test_check_samples_stores_and_compares_columns():
    estimator = BaseEstimator()
    check_samples(estimator, np.zeros((2, 9)), "image", reset=True)
    assert estimator.n_features_in_ == 9
    with pytest.raises(ValueError, match="expecting 9 features"):
        check_samples(estimator, np.zeros((2, 4)), "image", reset=False)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_check_samples_stores_the_column_name_of_a_frame(frame):
    estimator = BaseEstimator()
    samples = check_samples(estimator, frame({"text": ["a", "b"]}), "text", reset=True)
    assert [samples.load(0), samples.load(1)] == ["a", "b"]
    assert list(estimator.feature_names_in_) == ["text"]
    with pytest.raises(ValueError, match="feature names"):
        check_samples(estimator, frame({"other": ["a"]}), "text", reset=False)


def test_check_samples_of_a_list_removes_stored_columns():
    estimator = BaseEstimator()
    check_samples(estimator, pd.DataFrame({"text": ["a"]}), "text", reset=True)
    check_samples(estimator, ["a"], "text", reset=True)
    assert not hasattr(estimator, "feature_names_in_")
    assert not hasattr(estimator, "n_features_in_")


def test_check_samples_accepts_images_of_other_height():
    estimator = BaseEstimator()
    check_samples(estimator, np.zeros((2, 5, 5)), "image", reset=True)
    assert len(check_samples(estimator, np.zeros((2, 7, 7)), "image", reset=False)) == 2
