"""Columns of numbers."""

from __future__ import annotations

import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sktransfer import DateFeatures, NumberFeatures, load, save
from sktransfer.exceptions import InvalidCellWarning, InvalidSampleError

FRAME = pd.DataFrame({"size": ["1.5", "?", None, " 2 "], "rooms": [3, 2, 4, 1]})


@pytest.mark.parametrize("to", [lambda frame: frame, pl.from_pandas], ids=["pandas", "polars"])
def test_number_features_of_known_cells(to):
    features = NumberFeatures(on_error="nan").fit_transform(to(FRAME))
    np.testing.assert_array_equal(features, [[1.5, 3], [np.nan, 2], [np.nan, 4], [2, 1]])
    mixed = pd.DataFrame({"size": [Decimal("0.5"), True, "3", float("nan")]})
    np.testing.assert_array_equal(NumberFeatures().fit_transform(mixed)[:, 0], [0.5, 1, 3, np.nan])


def test_number_features_names(tmp_path):
    transformer = NumberFeatures(on_error="nan").set_output(transform="pandas").fit(FRAME)
    assert list(transformer.transform(FRAME).columns) == ["size", "rooms"]
    save(transformer, tmp_path / "saved")
    pd.testing.assert_frame_equal(load(tmp_path / "saved").transform(FRAME), transformer.transform(FRAME))


@pytest.mark.parametrize(
    ("transformer", "frame", "says"),
    [
        (NumberFeatures, FRAME, "1 of 3 in column 'size', the first in row 1: '\\?', which is no number"),
        (
            DateFeatures,
            pd.DataFrame({"sold": ["2024-05-31", None, "unknown", "2024-06-01"]}),
            "1 of 3 in column 'sold', the first in row 2: 'unknown', which is no date in ISO format",
        ),
    ],
)
def test_on_error_of_cells(transformer, frame, says):
    with pytest.raises(InvalidSampleError, match=r"row \d: column '(size|sold)' holds"):
        transformer().fit(frame)
    with pytest.warns(InvalidCellWarning, match=says) as caught:
        features = transformer(on_error="warn").fit_transform(frame)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(transformer(on_error="nan").fit_transform(frame), features)
        transformer(on_error="warn").fit(frame)
    with pytest.raises(ValueError, match="on_error='skip'"):
        transformer(on_error="skip").fit(frame)


def test_on_error_fit_refuses_a_column_of_something_else():
    with pytest.raises(InvalidSampleError, match=r"row 0: column 'share' holds '12%', which is no number"):
        NumberFeatures(on_error="nan").fit(pd.DataFrame({"share": ["12%", "5%", "3"]}))
