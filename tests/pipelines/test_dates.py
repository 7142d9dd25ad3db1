"""Dates as numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone

from sktransfer import DateFeatures
from sktransfer.exceptions import InvalidSampleError

TEXTS = ["1970-01-01", "1970-01-02 06:00", None, "2024-05-31 23:00+01:00"]
FRAMES = {
    "texts": pd.DataFrame({"sold": TEXTS}),
    "timestamps": pd.DataFrame({"sold": pd.to_datetime(pd.Series(TEXTS), utc=True, format="ISO8601")}),
    "polars": pl.DataFrame({"sold": TEXTS}),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_date_features_of_known_days(frame):
    features = DateFeatures().fit_transform(frame)
    days = np.array([0, 1.25, np.nan, 19874 + 22 / 24])
    np.testing.assert_allclose(features[:, 0], days)
    angles = 2 * np.pi * days[:, None] / [365.2425, 7, 1]
    np.testing.assert_allclose(features[:, 1::2], np.sin(angles))
    np.testing.assert_allclose(features[:, 2::2], np.cos(angles))


def test_date_features_names_and_columns():
    frame = FRAMES["texts"].assign(made=TEXTS)
    transformer = DateFeatures().set_output(transform="pandas").fit(frame)
    output = transformer.transform(frame)
    assert list(output.columns[:3]) == ["sold_days", "sold_year_sin", "sold_year_cos"]
    assert output.shape == (4, 14)
    with pytest.raises(ValueError, match="feature names"):
        clone(transformer).fit(frame).transform(FRAMES["texts"])


@pytest.mark.parametrize(
    ("X", "says"),
    [
        (np.array([["2024-05-31"]]), "X is of type ndarray, and dates come as a DataFrame"),
        (pd.DataFrame({"sold": []}), r"0 sample\(s\) \(shape=\(0, 1\)\)"),
    ],
)
def test_date_features_fit_refuses_what_is_no_table(X, says):
    with pytest.raises(ValueError, match=says):
        DateFeatures().fit(X)
    assert DateFeatures().fit_transform(pd.DataFrame([["2024-05-31"]], columns=["sold"])).shape == (1, 7)  # the hint


def test_date_features_name_what_is_no_date():
    with pytest.raises(InvalidSampleError, match=r"row 1: column 'sold' holds '31.5.2024', which is no date"):
        DateFeatures().fit_transform(pd.DataFrame({"sold": ["2024-05-31", "31.5.2024"]}))
