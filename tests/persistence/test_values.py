from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sktransfer.backbones import ImageTransform
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import InvalidParameterError, LoadError
from sktransfer.persistence.parts import Loading, Saving
from sktransfer.persistence.values import CODECS, DICT, find_value

LOADING = Loading({}, {codec.kind: codec for codec in CODECS})


@pytest.mark.parametrize(
    "value",
    [
        Path("a/b"),
        torch.device("cuda:1"),
        ImageTransform(resize=(3, 4), crop=2, mean=(0.1, 0.2, 0.3), interpolation="bicubic"),
        LayerOutput(3, "average"),
        LayerOutput(3),
        torch.optim.SGD,
    ],
)
def test_values_come_back(value):
    codec = find_value(value)
    assert LOADING.build(codec.kind, codec.encode(value, Saving(False))) == value


def test_generators_go_on_where_they_were():
    state = np.random.RandomState(0)
    state.randn(3)
    codec = find_value(state)
    again = LOADING.build(codec.kind, codec.encode(state, Saving(False)))
    assert np.array_equal(again.randn(9), state.randn(9))


def test_dicts_keep_keys_that_json_has_not():
    given = {True: 1, (1, 2): "x", None: []}
    assert LOADING.build("Dict", DICT.encode(given, Saving(False))) == given


@pytest.mark.parametrize("value", ["text", 3, torch.optim.Optimizer, type("SGD", (torch.optim.SGD,), {}), int, None])
def test_others_have_no_codec(value):
    found = find_value(value)
    assert found is None or value is torch.optim.Optimizer


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("Path", {"path": 3}),
        ("Path", {}),
        ("Device", {"device": "moon"}),
        ("ImageTransform", {"resize": -1, "crop": None, "mean": (0, 0, 0), "std": (1, 1, 1), "interpolation": "x"}),
        ("ImageTransform", {"resize": 3}),
        ("LayerOutput", {"stop": True, "pooling": None}),
        ("LayerOutput", {"stop": 1, "pooling": 3}),
        ("Optimizer", {"name": "lr_scheduler"}),
        ("Optimizer", {"name": "__builtins__"}),
        ("Dict", {"keys": [1], "values": []}),
        ("Dict", {"keys": [[]], "values": [1]}),
        ("Nonsense", {}),
        (["Path"], {}),
        ("Path", "path"),
    ],
)
def test_data_that_make_no_value_are_refused(kind, data):
    with pytest.raises(LoadError):
        LOADING.build(kind, data)


@pytest.mark.parametrize(
    "change",
    [
        {"place": 625},
        {"place": -1},
        {"keys": np.zeros(623, np.uint32)},
        {"keys": np.zeros(624, np.int64)},
        {"name": "PCG64"},
        {"has_gauss": 2},
    ],
)
def test_a_state_that_would_be_read_beyond_its_end_is_refused(change):
    codec = find_value(np.random.RandomState(0))
    data = codec.encode(np.random.RandomState(0), Saving(False))
    with pytest.raises(LoadError):
        LOADING.build("RandomState", {**data, **change})


def test_errors_of_ours_say_what_is_allowed():
    data = {"resize": None, "crop": None, "mean": (0, 0, 0), "std": (0, 1, 1), "interpolation": "bilinear"}
    with pytest.raises(LoadError, match=r"std=.*must be greater than 0") as error:
        LOADING.build("ImageTransform", data)
    assert isinstance(error.value.__cause__, InvalidParameterError)
