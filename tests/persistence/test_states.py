from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer._validation import require_field
from sktransfer.backbones import ImageTransform
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import InvalidParameterError, LoadError, SaveError
from sktransfer.persistence.codecs import DECODERS
from sktransfer.persistence.context import LoadContext
from sktransfer.tasks.heads import Head
from sktransfer.weights.reading import copy_state
from sktransfer.words.pooling import Weights
from sktransfer.words.subwords import Subwords
from sktransfer.words.vectors import WordVectors
from tests.helpers.saved_estimators import fitted, words

LOADING = LoadContext({}, DECODERS)


@pytest.mark.parametrize(
    "value",
    [
        ImageTransform(resize=(3, 4), crop=2, mean=(0.1, 0.2, 0.3), interpolation="bicubic"),
        LayerOutput(3, "average"),
        LayerOutput(3),
        Weights({"a": 0.1, "東": 1 / 3}, 2.5),
    ],
)
def test_from_state_inverts_to_state(value):
    assert type(value).from_state(value.to_state()) == value


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("ImageTransform", ImageTransform().to_state() | {"resize": -1}),
        ("ImageTransform", {"resize": 3}),
        ("LayerOutput", {"stop": True, "pooling": None}),
        ("LayerOutput", {"stop": 1, "pooling": 3}),
        ("Weights", {"words": ["a"], "values": np.zeros(2), "other": 1.0}),
        ("Weights", {"words": [1], "values": np.zeros(1), "other": 1.0}),
        ("Tokens", {"tokenizer": "{}"}),
    ],
)
def test_from_state_refuses_invalid_fields(kind, state):
    with pytest.raises(LoadError):
        LOADING.build(kind, state)


def test_build_names_what_from_state_allows():
    state = ImageTransform().to_state() | {"std": (0, 1, 1)}
    with pytest.raises(LoadError, match=r"std=.*must be greater than 0") as error:
        LOADING.build("ImageTransform", state)
    assert isinstance(error.value.__cause__, InvalidParameterError)


@pytest.mark.parametrize("name", ["FineTuneClassifier", "FineTuneRegressor", "FineTuneClassifier, adapter, mix"])
def test_head_from_state_inverts_to_state(name):
    before = fitted(name).head_
    after = Head.from_state(before.to_state())
    assert repr(after) == repr(before)
    assert (after.classes is None) == (before.classes is None)
    assert before.classes is None or np.array_equal(after.classes, before.classes)
    for field in ("state", "units"):
        first, second = before.to_state()[field], after.to_state()[field]
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(task="mischief"),
        lambda state: state.update(classes="abc"),
        lambda state: state.update(classes=np.arange(3)),
        lambda state: state["state"].pop("linear.bias"),
        lambda state: state["state"].update({"linear.weight": state["state"]["linear.weight"][:2]}),
        lambda state: state["units"].update({"shift": state["units"]["shift"].float()}),
        lambda state: state["units"].pop("spread"),
        lambda state: state.pop("state"),
    ],
)
def test_head_from_state_refuses_fields_that_do_not_fit(change):
    state = copy.deepcopy(fitted("FineTuneClassifier").head_.to_state())
    change(state)
    with pytest.raises(LoadError):
        LOADING.build("Head", state)


def test_word_vectors_from_state_keeps_words_in_order():
    listed = ["東京", "café", "", "a b", "\ud800", "\udc80x", "\x00", "up", "up"]
    vectors = WordVectors(listed, np.arange(18, dtype=np.float32).reshape(9, 2))
    loaded = WordVectors.from_state(vectors.to_state())
    assert list(loaded.words) == listed
    assert loaded.index == vectors.index
    assert np.array_equal(loaded.matrix, vectors.matrix)
    assert not loaded.matrix.flags.writeable


@pytest.mark.parametrize("model", ["fasttext", "word2vec"])
def test_word_vectors_from_state_build_unknown_words_as_before(model):
    vectors = words(model=model).embedding_
    state = vectors.to_state()
    if model == "fasttext":
        state["subwords"] = Subwords.from_state(vectors.subwords.to_state())
    loaded = WordVectors.from_state(state)
    assert loaded.nearest(vectors["cat"], 5) == vectors.nearest(vectors["cat"], 5)
    if model == "fasttext":
        unknown = ["catt", "größer", "x"]
        assert np.array_equal(loaded.subwords.vectors(unknown), vectors.subwords.vectors(unknown))


def test_word_vectors_to_state_refuses_other_builders():
    class Builder:
        def vectors(self, words):
            return np.zeros((len(words), 1), np.float32)

    vectors = WordVectors(["a"], np.zeros((1, 1), np.float32), subwords=Builder())
    with pytest.raises(SaveError, match="built by Builder"):
        vectors.to_state()


def load_changed(change):
    vectors = fitted("WordEmbedder").embedding_
    state, subwords = vectors.to_state(), vectors.subwords.to_state()
    change(state, subwords)
    return LOADING.build("WordVectors", {**state, "subwords": LOADING.build("Subwords", subwords)})


@pytest.mark.parametrize(
    "change",
    [
        lambda state, subwords: state.update(matrix=state["matrix"][:1]),
        lambda state, subwords: state.update(matrix=state["matrix"][0]),
        lambda state, subwords: state.update(matrix=state["matrix"].astype(np.float64)),
        lambda state, subwords: state.update(words=[]),
        lambda state, subwords: state.update(words=[1, *state["words"][1:]]),
        lambda state, subwords: subwords.update(rows=subwords["rows"][:, :3]),
        lambda state, subwords: subwords.update(rows=subwords["rows"].astype(np.float64)),
        lambda state, subwords: subwords.pop("rows"),
        lambda state, subwords: subwords.update(n_buckets=10**12),
        lambda state, subwords: subwords.update(first=-5),
        lambda state, subwords: subwords.update(max_n=0),
        lambda state, subwords: subwords.update(max_n=10**9),
    ],
)
def test_word_vectors_from_state_refuses_fields_that_do_not_fit(change):
    load_changed(lambda state, subwords: None)
    with pytest.raises(LoadError):
        load_changed(change)


def test_copy_state_writes_into_the_own_tensors():
    module = nn.Linear(2, 3)
    address = module.weight.data_ptr()
    copy_state(module.state_dict(), {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, "mine")
    assert module.weight.data_ptr() == address
    assert module.weight.sum() == 6


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.ones(3, 2)}, r"mine lack \['bias'\]"),
        (
            {"weight": torch.ones(3, 2), "bias": torch.zeros(3), "more": torch.zeros(1)},
            r"hold unexpected \['more'\]",
        ),
        ({"weight": torch.ones(2, 3), "bias": torch.zeros(3)}, r"weight is \(2, 3\) of torch.float32, and must be"),
        ({"weight": torch.ones(3, 2), "bias": torch.zeros(3).half()}, "bias is .* of torch.float16"),
        ({"weight": "x", "bias": torch.zeros(3)}, "weight is of type str, not Tensor"),
    ],
)
def test_copy_state_refuses_other_tensors_and_writes_nothing(state, message):
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    with pytest.raises(LoadError, match=message):
        copy_state(module.state_dict(), state, "mine")
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize(
    ("name", "kind", "options", "message"),
    [
        ("c", int, None, "'c' is missing"),
        ("a", str, None, "'a' is of type int, not str"),
        ("b", int, None, "'b' is of type bool, not int"),
        ("a", (str, bool), None, "not str or bool"),
        ("a", int, (2, 3), r"'a' is 1, and must be one of \(2, 3\)"),
    ],
)
def test_require_field_checks_type_and_options(name, kind, options, message):
    with pytest.raises(LoadError, match=message):
        require_field({"a": 1, "b": True}, name, kind, options)


def test_require_field_returns_the_value():
    assert require_field({"a": 1, "b": True}, "a", int, (1,)) == 1
    assert require_field({"a": 1, "b": True}, "b", bool) is True
