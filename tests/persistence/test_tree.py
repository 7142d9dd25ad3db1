from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.parts import Codec, Loading, Saving
from sktransfer.persistence.tree import read_tree, untrusted, write_tree
from tests.helpers.forged_files import SCHEMA, members_of


class Ours:
    def __init__(self, inner):
        self.inner = inner


CODEC = Codec("Ours", lambda obj, saving: {"inner": obj.inner}, lambda data, loading: Ours(data["inner"]))


def find(obj):
    return CODEC if type(obj) is Ours else None


def round_trip(obj, trusted=()):
    return read_tree(write_tree(obj, Saving(False), find), Loading({}, {"Ours": CODEC}), trusted)


def test_ours_stand_anywhere_and_within_each_other():
    shared = Ours(np.arange(3))
    again = round_trip([Ours({"deep": (shared, Ours(LogisticRegression(C=3.0)))}), {"also": shared}])
    deep = again[0].inner["deep"]
    assert np.array_equal(deep[0].inner, np.arange(3))
    assert deep[1].inner.C == 3.0
    assert again[1]["also"] is deep[0]


def test_arrays_of_objects_hold_ours(tmp_path):
    held = np.ma.MaskedArray(np.array([Ours(1), None], dtype=object), [False, True])
    again = round_trip(held)
    assert again[0].inner == 1
    assert again.mask.tolist() == [False, True]


def test_the_object_is_not_changed_and_its_arrays_are_not_copied_into_it():
    values = np.random.default_rng(0).random((50, 4))
    given = make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()).fit(values, [0, 1] * 25)
    before = given[-1].coef_
    again = round_trip(given)
    assert given[-1].coef_ is before
    assert np.array_equal(again.predict_proba(values), given.predict_proba(values))
    assert again[-1].coef_.flags.writeable


def test_addresses_of_objects_are_not_written():
    schema = json.loads(members_of(write_tree([1.5, "x", {"a": np.arange(2)}], Saving(False), find))[SCHEMA])
    assert schema["__id__"] == 1
    assert schema["content"][2]["content"]["a"]["file"] == "0.npy"


def test_types_are_told_apart():
    tree = write_tree([np.float64, test_types_are_told_apart], Saving(False), find)
    assert untrusted(tree) == [f"{__name__}.test_types_are_told_apart"]
    assert untrusted(tree, untrusted(tree)) == []
    with pytest.raises(LoadError, match="not known to be safe"):
        read_tree(tree, Loading({}, {"Ours": CODEC}), [])
    assert round_trip([test_types_are_told_apart], untrusted(tree))[0] is test_types_are_told_apart


@pytest.mark.parametrize("keys", [{True: 1}, {None: 1}, {np.True_: 1}])
def test_keys_that_would_come_back_as_others_are_refused(keys):
    with pytest.raises(SaveError, match="a dict with keys of type"):
        write_tree([keys], Saving(False), find)


def test_what_skops_cannot_keep_is_said_so():
    with pytest.raises(SaveError, match=r"joblib.dump keeps them otherwise"):
        write_tree([(i for i in range(3))], Saving(False), find)


@pytest.mark.parametrize("tree", [b"", b"text"])
def test_what_is_no_tree_is_said_so(tree):
    with pytest.raises(LoadError, match="its tree of objects is damaged"):
        read_tree(tree, Loading({}, {}), [])
