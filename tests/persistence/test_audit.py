from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sktransfer import load, save
from sktransfer.exceptions import LoadError
from sktransfer.persistence.audit import check_tree, nodes
from tests.helpers.forged_files import SCHEMA, forge, packed, plain


def tree(schema, **arrays):
    return packed({SCHEMA: json.dumps(schema).encode(), **arrays})


def listed(content, number):
    node = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": content}
    return {**node, "__id__": number}


def array(values):
    out = io.BytesIO()
    np.save(out, values, allow_pickle=False)
    return out.getvalue()


def array_node(number, name="0.npy"):
    node = {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode", "type": "numpy"}
    return {**node, "file": name, "__id__": number}


def test_nodes_come_from_the_outside_inwards():
    schema = listed([{**plain(1), "__id__": 2}, listed([], 3)], 1)
    assert [node["__id__"] for node in nodes(schema)] == [1, 2, 3]


def test_a_tree_that_doubles_at_each_level_is_refused_in_no_time():
    schema = listed([], 1)
    for number in range(2, 80):
        schema = listed([schema, {"__id__": number - 1, "__loader__": "ListNode"}], number)
    with pytest.raises(LoadError, match="would not end"):
        check_tree(tree(schema), set())


def test_a_tree_that_bites_its_own_tail_is_refused():
    schema = listed([listed([{"__id__": 1, "__loader__": "ListNode"}], 2)], 1)
    with pytest.raises(LoadError, match="an object within itself"):
        check_tree(tree(schema), set())


def test_an_object_that_stands_in_several_places_is_no_harm():
    shared = listed([{**plain(1), "__id__": 9}], 2)
    check_tree(tree(listed([shared, shared], 1)), set())


@pytest.mark.parametrize("number", ["1", 1.0, True, 0, -1, None, []])
def test_numbers_of_objects_must_be_numbers(number):
    with pytest.raises(LoadError, match="by what is no number"):
        check_tree(tree(listed([], number)), set())


def test_arrays_must_be_as_large_as_they_say():
    check_tree(tree(listed([array_node(2)], 1), **{"0.npy": array(np.zeros((3, 4)))}), set())
    good = array(np.zeros((300, 400)))
    for bad in (
        good.replace(b"(300, 400)", b"(300, 401)"),
        good[:-1],
        good.replace(b"(300, 400)", b"(-30, 400)"),
        array(np.zeros(3000, dtype="V1")).replace(b"|V1", b"|V0"),
        good.replace(b"<f8", b"|O8"),
    ):
        with pytest.raises(LoadError, match="claims"):
            check_tree(tree(listed([array_node(2)], 1), **{"0.npy": bad}), set())


def test_headers_of_another_version_are_refused():
    content = bytearray(array(np.zeros(3)))
    content[6] = 3
    with pytest.raises(LoadError, match="header of version"):
        check_tree(tree(listed([array_node(2)], 1), **{"0.npy": bytes(content)}), set())


def test_several_objects_must_not_share_a_member():
    schema = listed([array_node(2), array_node(3)], 1)
    with pytest.raises(LoadError, match="several objects of its tree claim the member"):
        check_tree(tree(schema, **{"0.npy": array(np.zeros(3))}), set())


def test_the_state_of_generators_is_ours_to_set(tmp_path):
    save(LogisticRegression(), tmp_path / "one")

    def change(schema):
        schema["content"]["content"]["C"] = {**plain(1), "__loader__": "RandomStateNode"}

    forge(tmp_path / "one", schema=change)
    with pytest.raises(LoadError, match="RandomStateNode"):
        load(tmp_path / "one")


@pytest.mark.parametrize("blanks", [0, 10_000])
def test_members_within_the_tree_are_not_packed(blanks):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(SCHEMA, json.dumps(listed([], 1)) + " " * blanks)
    with pytest.raises(LoadError, match="packed, overlap"):
        check_tree(out.getvalue(), set())


def test_a_tree_is_an_object():
    with pytest.raises(LoadError, match="is a list"):
        check_tree(tree([1]), set())
