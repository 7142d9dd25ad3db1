from __future__ import annotations

import peft
import pytest
from skorch.callbacks import (
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
    ProgressBar,
    TrainEndCheckpoint,
)

from sktransfer import EMA, SWA, MicroBatches, WiSEFT
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.callbacks import CODECS, find_callback
from sktransfer.persistence.parts import Loading, Saving

LOADING = Loading({}, {codec.kind: codec for codec in CODECS})


def round_trip(value):
    codec = find_callback(value)
    return LOADING.build(codec.kind, codec.encode(value, Saving(False)))


@pytest.mark.parametrize(
    "callback",
    [
        EMA(0.3),
        SWA(0.2),
        WiSEFT(0.1),
        MicroBatches(4),
        EarlyStopping("train_loss", patience=7),
        EpochScoring("accuracy", lower_is_better=False, on_train=True),
        GradientNormClipping(2.0),
        LRScheduler("StepLR", step_size=3, gamma=0.5),
    ],
    ids=lambda one: type(one).__name__,
)
def test_callbacks_come_back_by_their_parameters(callback):
    again = round_trip(callback)
    assert type(again) is type(callback)
    assert again.get_params(deep=False) == callback.get_params(deep=False)


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(r=3, target_modules=["query", "value"], use_rslora=True),
        peft.LoraConfig(target_modules="all-linear", lora_dropout=0.1),
        peft.IA3Config(target_modules=["query"], feedforward_modules=[]),
    ],
)
def test_adapters_come_back_by_their_settings(config):
    assert round_trip(config) == config


def test_what_is_no_plain_value_is_said_so():
    with pytest.raises(SaveError, match=r"EarlyStopping has parameters.*sink.*set_params\(callbacks=None\)"):
        round_trip(EarlyStopping(sink=[].append))
    with pytest.raises(SaveError, match=r"set_params\(adapter=None\)"):
        round_trip(peft.LoraConfig(target_modules=["a"], rank_pattern={"a": 3}))


@pytest.mark.parametrize("callback", [ProgressBar(), TrainEndCheckpoint(), object(), type("EMA", (), {})()])
def test_others_have_no_codec(callback):
    assert find_callback(callback) is None


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("Callback", {"name": "TrainEndCheckpoint", "params": {}}),
        ("Callback", {"name": "Checkpoint", "params": {"folder": "/"}}),
        ("Callback", {"name": "EMA", "params": {"nonsense": 1}}),
        ("Callback", {"name": "EMA", "params": {"decay": object()}}),
        ("Callback", {"name": "EMA"}),
        ("Adapter", {"name": "PromptTuningConfig", "settings": {}}),
        ("Adapter", {"name": "LoraConfig", "settings": {"nonsense": 1}}),
        ("Adapter", {"name": "LoraConfig", "settings": {"r": {}}}),
    ],
)
def test_what_is_not_listed_is_refused(kind, data):
    with pytest.raises(LoadError):
        LOADING.build(kind, data)
