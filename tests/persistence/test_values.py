from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.codecs import DECODERS, find_codec
from sktransfer.persistence.context import LoadContext, SaveContext
from tests.helpers.saved_estimators import fitted

LOADING = LoadContext({}, DECODERS)


def round_trip(value):
    codec = find_codec(value)
    return LOADING.build(codec.kind, codec.encode(value, SaveContext(False)))


@pytest.mark.parametrize("value", [Path("a/b"), torch.device("cuda:1"), torch.optim.SGD])
def test_paths_devices_and_optimizers_are_kept(value):
    assert round_trip(value) == value


def test_random_state_continues_its_sequence():
    state = np.random.RandomState(0)
    state.randn(3)
    assert np.array_equal(round_trip(state).randn(9), state.randn(9))


@pytest.mark.parametrize("value", ["text", 3, type("SGD", (torch.optim.SGD,), {}), int, None])
def test_other_values_have_no_codec(value):
    assert find_codec(value) is None


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("Path", {"path": 3}),
        ("Path", {}),
        ("Device", {"device": "moon"}),
        ("Optimizer", {"name": "lr_scheduler"}),
        ("Optimizer", {"name": "__builtins__"}),
        ("Nonsense", {}),
        (["Path"], {}),
        ("Path", "path"),
    ],
)
def test_invalid_data_are_refused(kind, data):
    with pytest.raises(LoadError):
        LOADING.build(kind, data)


@pytest.mark.parametrize(
    "change",
    [
        {"position": 625},
        {"position": -1},
        {"keys": np.zeros(623, np.uint32)},
        {"keys": np.zeros(624, np.int64)},
        {"name": "PCG64"},
        {"has_gauss": 2},
    ],
)
def test_random_state_that_numpy_would_read_beyond_its_end_is_refused(change):
    state = np.random.RandomState(0)
    data = find_codec(state).encode(state, SaveContext(False))
    with pytest.raises(LoadError):
        LOADING.build("RandomState", {**data, **change})


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
def test_data_frames_are_kept(frame):
    pd.testing.assert_frame_equal(round_trip(frame), frame)


def test_data_frames_of_estimators_are_kept():
    for name in ("history_", "stages_"):
        frame = getattr(fitted("FineTuneClassifier"), name)
        pd.testing.assert_frame_equal(round_trip(frame), frame)
    pd.testing.assert_frame_equal(round_trip(fitted("BestBackbone").ranking_), fitted("BestBackbone").ranking_)


@pytest.mark.parametrize("index", [pd.Index(["a", "b"], name="c"), pd.Index([3, 1]), pd.RangeIndex(2, 5, name="n")])
def test_indices_are_kept(index):
    pd.testing.assert_index_equal(round_trip(index), index, exact=True)


def test_indices_with_other_dtypes_are_refused():
    for index in (pd.to_datetime(["2020-01-01"]), pd.Index([], dtype="category")):
        assert find_codec(index) is None
    with pytest.raises(SaveError, match="a column or index of dtype complex128 cannot be saved"):
        round_trip(pd.Index([1j]))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}),
        pd.DataFrame({3: [1]}),
        pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)])),
    ],
)
def test_data_frames_with_other_dtypes_or_indices_are_refused(frame):
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
        {"index_name": 3},
    ],
)
def test_invalid_columns_of_data_frames_are_refused(change):
    frame = pd.DataFrame({"a": [1, 2]})
    data = find_codec(frame).encode(frame, SaveContext(False))
    with pytest.raises(LoadError):
        LOADING.build("DataFrame", {**data, **change})
