from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch

from sktransfer.exceptions import LoadError
from sktransfer.persistence.codecs import DECODERS
from sktransfer.persistence.context import LoadContext, SaveContext, import_class, pack_strings, unpack_strings
from sktransfer.persistence.skops_bridge import CustomNode
from tests.helpers.saved_estimators import fitted

CONTEXT = LoadContext({}, {"Twice": lambda data, context: data["value"] * 2})


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("Thrice", {"value": 3}, "of the kind 'Thrice', which this sktransfer does not know"),
        ("Twice", [3], "of the kind"),
        ("Twice", {}, r"its Twice cannot be rebuilt \(KeyError: 'value'\)"),
    ],
)
def test_load_context_build_names_what_it_cannot_build(kind, data, message):
    assert CONTEXT.build("Twice", {"value": 3}) == 6
    with pytest.raises(LoadError, match=message):
        CONTEXT.build(kind, data)


def test_add_state_writes_equal_tensors_once():
    context = SaveContext(False)
    both = torch.arange(6.0).reshape(2, 3)
    states = [
        context.add_state({"a": both, "b": both, "t": both.T}),
        context.add_state({"c": both.clone(), "part": both[1]}),
    ]
    assert set(context.tensors) == {"0/a", "0/t", "1/part"}
    assert all(value.is_contiguous() for value in context.tensors.values())
    safetensors.torch.save(context.tensors)  # refuses tensors that share memory
    first, second = map(LoadContext(context.tensors, {}).take_state, states)
    assert torch.equal(first["b"], both)
    assert torch.equal(first["t"], both.T)
    assert torch.equal(second["c"], both)
    assert torch.equal(second["part"], both[1])


def test_add_state_tells_dtype_and_shape_apart():
    context = SaveContext(False)
    named = {"a": torch.zeros(4), "b": torch.zeros(2, 2), "c": torch.zeros(4, dtype=torch.int32), "d": torch.zeros(0)}
    loaded = LoadContext(context.tensors, {}).take_state(context.add_state(named))
    assert len(context.tensors) == 4
    for name, value in named.items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value)


def test_add_state_keeps_tensors_apart_whose_memory_is_reused():
    context = SaveContext(False)
    states = [context.add_state({"x": torch.full((1000, 2), float(n)).T}) for n in range(20)]  # written as copies
    loading = LoadContext(context.tensors, {})
    assert [loading.take_state(state)["x"][0, 0].item() for state in states] == list(range(20))


def test_pack_keeps_equal_arrays_and_tensors_apart():
    context = SaveContext(False)
    packed = context.pack([np.zeros(1000), np.zeros(1000), torch.zeros(3), torch.zeros(3)])
    arrays = unpack(packed, LoadContext(context.tensors, DECODERS))
    arrays[0][:] = 1
    arrays[2][:] = 1
    assert not arrays[1].any()
    assert not arrays[3].any()


def test_take_tensors_gives_a_group_once():
    context = SaveContext(False)
    data = context.add_tensors(pack_strings(["a"] * 100))
    loading = LoadContext(context.tensors, DECODERS)
    assert loading.build("Strings", data) == ["a"] * 100
    with pytest.raises(LoadError, match="several objects claim them"):
        loading.build("Strings", data)


def unpack(value, context):
    """Return a packed value with its nodes decoded, as reading a tree does."""
    if isinstance(value, CustomNode):
        return context.build(value.kind, {name: unpack(item, context) for name, item in value.data.items()})
    if type(value) is dict:
        return {name: unpack(item, context) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(unpack(item, context) for item in value)
    return value


def packed_round_trip(value):
    context = SaveContext(False)
    packed = context.pack(value)
    return packed, unpack(packed, LoadContext(context.tensors, DECODERS))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({True: 1, (1, 2): "x", None: []}, "Dict"),
        ({1: {"a": {2: "b"}}}, "Dict"),
        ([f"word {n}" for n in range(100)], "Strings"),
        (["東京", "café", "", "a b", "\ud800", "\udc80x", "\x00", "up", "up"] * 9, "Strings"),
    ],
)
def test_pack_replaces_dicts_with_other_keys_and_long_lists_of_str(value, kind):
    packed, unpacked = packed_round_trip(value)
    assert packed.kind == kind
    assert unpacked == value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"a": torch.arange(3), "b": torch.zeros(2)}, "Tensors"),
        (torch.ones(2, 3), "Tensor"),
        (np.arange(1000), "Array"),
        (np.zeros((40, 40), np.float32), "Array"),
    ],
)
def test_pack_replaces_tensors_and_large_arrays(value, kind):
    packed, unpacked = packed_round_trip(value)
    assert packed.kind == kind
    if kind == "Tensors":
        assert all(torch.equal(unpacked[name], tensor) for name, tensor in value.items())
    else:
        assert type(unpacked) is type(value)
        assert unpacked.dtype == value.dtype
        assert bool((unpacked == value).all())


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, (2.5, None)], "b": {}},
        ["short", "list"],
        np.arange(3),
        np.arange(3000, dtype=np.uint16),
        np.zeros((100, 100))[:, ::2],
        np.zeros(1000, dtype=">f8"),
    ],
)
def test_pack_leaves_other_values_to_skops(value):
    context = SaveContext(False)
    packed = context.pack(value)
    assert packed is value or packed == value
    assert not context.kinds


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("Dict", {"keys": [1], "values": []}),
        ("Dict", {"keys": [[]], "values": [1]}),
        ("Array", {}),
        ("Tensors", {"group": "0", "same": {"a": "missing"}}),
        ("Tensor", {"group": "0"}),
        ("Strings", {"group": 0}),
    ],
)
def test_invalid_data_of_packed_kinds_are_refused(kind, data):
    with pytest.raises(LoadError):
        LoadContext({}, DECODERS).build(kind, data)


@pytest.mark.parametrize(
    "change",
    [
        lambda text, ends: (text, ends + 1),
        lambda text, ends: (text, -ends),
        lambda text, ends: (text, ends.double()),
        lambda text, ends: (text[:-1], ends),
        lambda text, ends: (text | 0x80, ends),
        lambda text, ends: (text.int(), ends),
        lambda text, ends: (text, ends[None]),
    ],
)
def test_unpack_strings_refuses_ends_that_do_not_fit(change):
    packed = pack_strings(fitted("WordEmbedder").embedding_.words)
    assert unpack_strings(**packed) == fitted("WordEmbedder").embedding_.words
    text, ends = change(packed["text"], packed["ends"])
    with pytest.raises(LoadError):
        LoadContext({"0/text": text, "0/ends": ends}, DECODERS).build("Strings", {"group": "0"})


def test_import_class_takes_module_and_class():
    assert import_class("sktransfer.persistence.context:SaveContext") is SaveContext
