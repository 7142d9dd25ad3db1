from __future__ import annotations

import threading

import pytest
import safetensors.torch
import torch

from sktransfer.exceptions import LoadError
from sktransfer.persistence.parts import Codec, Loading, Part, Saving, entry

LOADING = Loading({}, {"Twice": Codec("Twice", lambda obj, saving: {}, lambda data, loading: data["value"] * 2)})


def test_a_part_is_what_it_stands_for_while_a_file_is_loaded():
    assert isinstance(Part("Twice", {"value": 3}), Part)
    with LOADING.active():
        assert Part("Twice", {"value": 3}) == 6
    assert isinstance(Part("Twice", {"value": 3}), Part)


def test_other_threads_know_nothing_of_it():
    found = []
    with LOADING.active():
        thread = threading.Thread(target=lambda: found.append(Part("Twice", {"value": 3})))
        thread.start()
        thread.join()
    assert isinstance(found[0], Part)


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("Thrice", {"value": 3}, "of the kind 'Thrice', which this sktransfer does not know"),
        ("Twice", [3], "of the kind"),
        ("Twice", {}, r"its Twice cannot be rebuilt \(KeyError: 'value'\)"),
    ],
)
def test_what_makes_no_object_is_said_so(kind, data, message):
    with pytest.raises(LoadError, match=message):
        LOADING.build(kind, data)


def test_tensors_come_back_and_what_is_shared_is_written_once():
    saving = Saving(False)
    both = torch.arange(6.0).reshape(2, 3)
    places = [saving.state({"a": both, "b": both, "t": both.T}), saving.state({"c": both, "part": both[1]})]
    assert set(saving.tensors) == {"0/a", "0/t", "1/part"}
    assert all(value.is_contiguous() for value in saving.tensors.values())
    safetensors.torch.save(saving.tensors)  # refuses tensors that share memory
    loading = Loading(saving.tensors, {})
    first, second = map(loading.state, places)
    assert torch.equal(first["b"], both)
    assert torch.equal(first["t"], both.T)
    assert torch.equal(second["c"], both)
    assert torch.equal(second["part"], both[1])


def test_tensors_that_are_gone_before_the_next_come_do_not_stand_for_them():
    saving = Saving(False)
    places = [saving.state({"x": torch.full((1000, 2), float(n)).T}) for n in range(20)]  # what is written is a copy
    loading = Loading(saving.tensors, {})
    assert [loading.state(place)["x"][0, 0].item() for place in places] == list(range(20))


@pytest.mark.parametrize(
    ("name", "kind", "among", "message"),
    [
        ("c", int, None, "'c' is missing"),
        ("a", str, None, "'a' is of type int, not str"),
        ("b", int, None, "'b' is of type bool, not int"),
        ("a", (str, bool), None, "not str or bool"),
        ("a", int, (2, 3), r"'a' is 1, and must be one of \(2, 3\)"),
    ],
)
def test_entries_must_be_what_they_should(name, kind, among, message):
    with pytest.raises(LoadError, match=message):
        entry({"a": 1, "b": True}, name, kind, among)


def test_entries_are_returned():
    assert entry({"a": 1, "b": True}, "a", int, (1,)) == 1
    assert entry({"a": 1, "b": True}, "b", bool) is True
