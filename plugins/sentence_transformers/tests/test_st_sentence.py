"""The last stage by itself: what stands at padding and in a prompt never counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sktransfer_sentence_transformers.layers import ACTIVATIONS, Layer
from sktransfer_sentence_transformers.sentence import POOLINGS, Dense, Normalize, Sentence, Truncate

VALUES = torch.tensor([[[1.0, -4.0], [2.0, -3.0], [6.0, -9.0], [7.0, 7.0]]])  # one text of three tokens, one of padding
MASK = torch.tensor([[True, True, True, False]])
BY_HAND = {
    ("cls", 0): [1.0, -4.0],
    ("cls", 1): [2.0, -3.0],
    ("max", 0): [6.0, -3.0],
    ("mean", 0): [3.0, -16 / 3],
    ("mean", 1): [4.0, -6.0],
    ("mean_sqrt_len_tokens", 1): [8 / 2**0.5, -12 / 2**0.5],
    ("weightedmean", 0): [(1 + 4 + 18) / 6, (-4 - 6 - 27) / 6],
    ("weightedmean", 1): [(4 + 18) / 5, (-6 - 27) / 5],
    ("lasttoken", 0): [6.0, -9.0],
    ("lasttoken", 1): [6.0, -9.0],
}


@pytest.mark.parametrize(("mode", "prompt_length"), BY_HAND)
def test_sentence_poolings_equal_the_reference(mode, prompt_length):
    found = Sentence([mode], prompt_length, [])(VALUES, MASK)
    torch.testing.assert_close(found, torch.tensor([BY_HAND[mode, prompt_length]]))


@pytest.mark.parametrize("mode", [mode for mode in POOLINGS if mode != "cls"])
def test_sentence_of_the_prompt_alone_is_zero(mode):
    assert Sentence([mode], 3, [])(VALUES, MASK).tolist() == [[0.0, 0.0]]


def test_sentence_concatenates_modes_and_applies_layers():
    stage = Sentence(["lasttoken", "cls"], 0, [nn.Linear(4, 3), Normalize(), Truncate(2)])
    found = stage(VALUES, MASK)
    expected = nn.functional.normalize(stage.layers[0](torch.tensor([[6.0, -9.0, 1.0, -4.0]])))[:, :2]
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous()


def test_sentence_repr_differs_with_the_computation():
    layers = [Layer("Dense", "", 2, 2, residual=residual) for residual in (False, True)]
    stages = [
        Sentence(["mean"], 0, []),
        Sentence(["max"], 0, []),
        Sentence(["mean"], 2, []),
        Sentence(["mean"], 0, [Truncate(1)]),
        Sentence(["mean"], 0, [Truncate(2)]),
        *(Sentence(["mean"], 0, [Dense(layer)]) for layer in layers),
    ]
    assert len({repr(stage) for stage in stages}) == len(stages)  # the fingerprint of a backbone reads it


def test_activations_are_classes_of_torch():
    for name in ACTIVATIONS:
        dense = Dense(Layer("Dense", "", 2, 3, bias=True, activation=name))
        assert type(dense.activation) is getattr(nn, name)
        assert dense(VALUES[:, 0]).shape == (1, 3)
