from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from skorch.callbacks import Callback, ProgressBar, TrainEndCheckpoint
from torch import nn

import sktransfer
from sktransfer.exceptions import SaveError
from sktransfer.persistence.codecs import CALLBACKS, CODECS, DECODERS, ESTIMATORS, STATES, find_codec
from sktransfer.persistence.context import import_class
from sktransfer.persistence.estimators import LEFT_OUT
from tests.helpers.saved_estimators import fitted


def public_names(base):
    public = (getattr(sktransfer, name) for name in sktransfer.__all__)
    return {cls.__name__ for cls in public if isinstance(cls, type) and issubclass(cls, base)}


def test_estimators_and_callbacks_list_all_public_ones():
    assert public_names(BaseEstimator) == set(ESTIMATORS)
    assert public_names(Callback) <= {*CALLBACKS, *LEFT_OUT}
    for name, path in ESTIMATORS.items():
        assert import_class(path) is getattr(sktransfer, name)


def test_states_list_classes_with_to_state_and_from_state():
    for path in STATES.values():
        assert callable(import_class(path).to_state)
        assert callable(import_class(path).from_state)


def test_codecs_have_unique_kinds_and_classes():
    assert len(DECODERS) == len({codec.kind for codec in CODECS}) + 4
    assert len({codec.kind for codec in CODECS}) == len(CODECS)
    paths = [codec.path.partition(":")[2] for codec in CODECS if codec.path]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize(
    ("get", "kind"),
    [
        (lambda: fitted("FineTuneClassifier"), "FineTuneClassifier"),
        (lambda: fitted("FineTuneClassifier").backbone_, "Backbone"),
        (lambda: fitted("FineTuneClassifier").head_, "Head"),
        (lambda: fitted("FineTuneClassifier").history_, "DataFrame"),
        (lambda: fitted("WordEmbedder").embedding_, "WordVectors"),
        (lambda: np.random.RandomState(0), "RandomState"),
    ],
)
def test_find_codec_by_class(get, kind):
    codec = find_codec(get())
    assert codec.kind == kind
    assert DECODERS[kind] is codec.decode


@pytest.mark.parametrize(
    "obj",
    [3, "x", [], {}, np.zeros(3), object(), len, int, ProgressBar(), TrainEndCheckpoint(), type("EMA", (), {})()],
)
def test_find_codec_leaves_other_objects_to_skops(obj):
    assert find_codec(obj) is None


@pytest.mark.parametrize("obj", [nn.Linear(1, 1), np.random.PCG64(0)])
def test_find_codec_refuses_objects_that_load_would_not_take(obj):
    with pytest.raises(SaveError, match="cannot be saved without pickle"):
        find_codec(obj)
