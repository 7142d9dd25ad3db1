from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from sktransfer.exceptions import SaveError
from sktransfer.persistence.codecs import CODECS, find_codec
from tests.helpers.saved_estimators import made


def test_kinds_are_told_apart_by_their_names():
    assert all(name == codec.kind for name, codec in CODECS.items())
    assert len({id(codec) for codec in CODECS.values()}) == len(CODECS)


@pytest.mark.parametrize(
    ("find", "kind"),
    [
        (lambda: made("FineTuneClassifier"), "FineTuneClassifier"),
        (lambda: made("FineTuneClassifier").backbone_, "Backbone"),
        (lambda: made("FineTuneClassifier").head_, "Head"),
        (lambda: made("FineTuneClassifier").history_, "DataFrame"),
        (lambda: made("WordEmbedder").embedding_, "WordVectors"),
        (lambda: np.random.RandomState(0), "RandomState"),
    ],
)
def test_each_object_has_its_codec(find, kind):
    assert find_codec(find()) is CODECS[kind]


@pytest.mark.parametrize("obj", [3, "x", [], {}, np.zeros(3), object(), len, int])
def test_others_are_left_to_skops(obj):
    assert find_codec(obj) is None


@pytest.mark.parametrize("obj", [nn.Linear(1, 1), np.random.default_rng(0)])
def test_what_would_not_be_loaded_is_refused(obj):
    with pytest.raises(SaveError, match="cannot be saved without pickle"):
        find_codec(obj)
