from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.frames import FRAME
from sktransfer.persistence.parts import Loading, Saving
from tests.helpers.saved_estimators import made

LOADING = Loading({}, {FRAME.kind: FRAME})


def round_trip(frame):
    return LOADING.build("DataFrame", FRAME.encode(frame, Saving(False)))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": ["x", "y"], "b": [1.5, np.nan], "c": [True, False], "d": [1, 2]}),
        pd.DataFrame({"a": [1, 2]}, index=pd.Index(["p", "q"], name="stage")),
        pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(1, 3, name="epoch")),
        pd.DataFrame({"a": [1, 2, 3]}, index=[2, 0, 1]),
        pd.DataFrame({"a": pd.Series([1, "x"], dtype=object)}),
        pd.DataFrame(),
        pd.DataFrame(index=pd.RangeIndex(1, 1, name="epoch")),
        pd.DataFrame({"a": np.zeros(2, np.float32)}),
    ],
)
def test_tables_come_back(frame):
    pd.testing.assert_frame_equal(round_trip(frame), frame)


def test_those_of_estimators_come_back():
    for name in ("history_", "stages_"):
        frame = getattr(made("FineTuneClassifier"), name)
        pd.testing.assert_frame_equal(round_trip(frame), frame)
    pd.testing.assert_frame_equal(round_trip(made("BestBackbone").ranking_), made("BestBackbone").ranking_)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}),
        pd.DataFrame({3: [1]}),
        pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)])),
    ],
)
def test_others_are_said_to_be_none(frame):
    with pytest.raises(SaveError):
        round_trip(frame)


@pytest.mark.parametrize(
    "change",
    [
        {"index": {"start": 0, "stop": 3}},
        {"index": {"dtype": "int64", "values": [0]}},
        {"columns": {"a": {"dtype": "datetime64", "values": [1, 2]}}},
        {"columns": {"a": {"dtype": "int64", "values": ["x", "y"]}}},
        {"columns": []},
        {"name": 3},
    ],
)
def test_columns_that_make_no_table_are_refused(change):
    data = FRAME.encode(pd.DataFrame({"a": [1, 2]}), Saving(False))
    with pytest.raises(LoadError):
        LOADING.build("DataFrame", {**data, **change})
