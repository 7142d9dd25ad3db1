"""Mutants for tests of the backbone checks: backbones with one fault each, and correct twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.backbones.stages import ImageStage, PooledHead
from sktransfer.testing import yield_backbone_checks
from tests.helpers.toys import Attend, Embed, Words

STAGES = {"stem": 6, "middle": 6, "top": 5}


def image_modules():
    """Return the modules of the twin, with weights from torch's global generator."""
    stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
    middle = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Tanh())
    return {"stem": stem, "middle": middle, "top": nn.Conv2d(6, 5, 3, 2, 1)}, nn.Linear(5, 3)


def image_twin(*, middle=None, preprocess=None, seed=0):
    """Return a correct image backbone, except for a given stage or preprocessing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules, head = image_modules()
        stages = [(name, ImageStage(module)) for name, module in modules.items()]
        if middle is not None:
            stages[1] = ("middle", middle(stages[1][1]))
    return Backbone(
        name="mutants/maps",
        modality="image",
        stages=stages,
        preprocess=ImageTransform(resize=(12, 12)) if preprocess is None else preprocess,
        pooling="average",
        head=PooledHead(head, "average"),
        definition="mutants",
    )


class RightWords(Words):
    """Word tokenizer that gives an empty text one token."""

    def with_max_length(self, max_length):
        return type(self)(max_length)

    def tokenize(self, samples):
        tokens, cut = super().tokenize(samples)
        return [one if len(one) else torch.tensor([0]) for one in tokens], cut


def text_twin(attend=Attend, words=RightWords):
    """Return a correct text backbone, except for a given layer or preprocessing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stages = [("embed", Embed(8)), ("attend1", Attend(8)), ("attend2", attend(8))]
    return Backbone(name="mutants/words", modality="text", stages=stages, preprocess=words(24), pooling="mean")


class Around(nn.Module):
    """Wrapper of a correct stage. `after` adds the fault."""

    def __init__(self, right):
        super().__init__()
        self.right = right

    def forward(self, values, mask=None):
        return self.after(self.right(values, mask))


class DropoutLeftOn(Around):
    def after(self, values):
        return F.dropout(values, 0.2, training=True)


class BatchStatistics(Around):
    def after(self, values):
        return values - values.mean((0, 2, 3), keepdim=True)


class RowNumber(Around):
    def after(self, values):
        return values + 0.01 * torch.arange(len(values), device=values.device).view(-1, 1, 1, 1)


class Double(Around):
    def after(self, values):
        return values.double()


class HalfPrecision(Around):
    def after(self, values):
        return values.bfloat16()


class NotANumber(Around):
    def after(self, values):
        return values / values.clamp(min=0) * 0 + values


class Transposed(Around):
    def after(self, values):
        return values.transpose(2, 3)


class CountsCalls(Around):
    calls = 0

    def after(self, values):
        self.calls += 1
        return values * self.calls


class SeedsTorch(Around):
    def after(self, values):
        torch.manual_seed(0)
        return values


class SetsDefaultDtype(Around):
    def after(self, values):
        torch.set_default_dtype(torch.float64)
        return values


class BufferMovesInEval(Around):
    def __init__(self, right):
        super().__init__(right)
        self.register_buffer("seen", torch.zeros(()))

    def after(self, values):
        self.seen += 1
        return values


class AlwaysTraining(Around):
    def train(self, mode=True):
        return super().train(True)

    def after(self, values):
        return values


class GradientInAttribute(Around):
    def __init__(self, right):
        super().__init__(right)
        self.scale = [torch.ones(1, requires_grad=True)]

    def after(self, values):
        return values * self.scale[0]


class AsksForGradients(Around):
    def after(self, values):
        self.right.requires_grad_(True)
        return values


class KeepsActivations(Around):
    def after(self, values):
        self.kept = values
        return values


class Detaches(Around):
    def after(self, values):
        return values.detach()


class TrainsBelowBoundary(Around):
    """Stage that changes an earlier, possibly frozen stage in training."""

    def after(self, values):
        if self.training:
            with torch.no_grad():
                next(iter(BELOW)).bias += 1
        return values


BELOW = []  # the stage that TrainsBelowBoundary changes


def below_boundary():
    backbone = image_twin(middle=TrainsBelowBoundary)
    BELOW[:] = [backbone.stages[0].body[0][0]]
    return backbone


class HoldsLambda(Around):
    def __init__(self, right):
        super().__init__(right)
        self.after = lambda values: values


class Remembering(Around):
    def after(self, values):
        SKIPPED[:] = [values[0].mean()]
        return values


class Skipping(nn.Module):
    """Stage that adds a value of an earlier stage from a global."""

    def __init__(self, right):
        super().__init__()
        self.right = right

    def forward(self, values, mask=None):
        return self.right(values, mask) + SKIPPED[0].item()


SKIPPED = []


def not_restartable():
    backbone = image_twin(middle=Remembering)
    backbone.stages[2] = Skipping(backbone.stages[2])
    return backbone


def all_alike():
    backbone = image_twin()
    for parameter in backbone.stages[2].parameters():
        parameter.zero_()
    return backbone


class WritesIntoInput:
    """Preprocessing that normalises the user's array in place."""

    pad_value = 0
    key = "in place"

    def __call__(self, samples):
        arrays = [sample if isinstance(sample, np.ndarray) else np.array(sample, np.float32) for sample in samples]
        for array in arrays:
            array -= 0.5
        return ImageTransform(resize=(12, 12))(arrays)


class HoldsFunction:
    pad_value = 0
    key = "lambda"

    def __init__(self):
        self.call = lambda samples: ImageTransform(resize=(12, 12))(samples)

    def __call__(self, samples):
        return self.call(samples)


class WrongColumns:
    """Preprocessing that assumes C order for every array."""

    pad_value = 0
    key = "layout"

    def __call__(self, samples):
        arrays = [np.asarray(sample, np.float32) for sample in samples]
        flat = [np.lib.stride_tricks.as_strided(a, a.shape, np.empty(a.shape, a.dtype).strides) for a in arrays]
        return ImageTransform(resize=(12, 12))(flat)


class IgnoresMask(Attend):
    def forward(self, values, mask):
        return super().forward(values, torch.ones_like(mask))


class DividesByWords(Attend):
    """Mean over words, NaN for an empty text, which has no tokens here."""

    def forward(self, values, mask):
        given = super().forward(values, mask)
        return given.masked_fill(~mask[:, :, None], 0).sum(1) / mask.sum(1, keepdim=True)


class EmptyIsEmpty(Words):
    def with_max_length(self, max_length):
        return EmptyIsEmpty(max_length)

    def tokenize(self, samples):
        tokens, cut = super().tokenize(samples)
        return [one.long() for one in tokens], cut


# fault -> (the check that finds it, a function that builds the backbone, a part of the message)
IN_MEMORY = {
    "dropout is left on": ("check_determinism", lambda: image_twin(middle=DropoutLeftOn), "second time"),
    "counts its calls": ("check_determinism", lambda: image_twin(middle=CountsCalls), "stage 1 ('middle')"),
    "normalises over the batch": ("check_batch", lambda: image_twin(middle=BatchStatistics), "alone"),
    "depends on the row": ("check_order", lambda: image_twin(middle=RowNumber), "another order"),
    "gives float64": ("check_values", lambda: image_twin(middle=Double), "torch.float64"),
    "gives bfloat16": ("check_values", lambda: image_twin(middle=HalfPrecision), "torch.bfloat16"),
    "gives NaN": ("check_values", lambda: image_twin(middle=NotANumber), "NaN"),
    "gives a view": ("check_values", lambda: image_twin(middle=Transposed), "strides"),
    "seeds torch": ("check_global_state", lambda: image_twin(middle=SeedsTorch), "running"),
    "sets the default dtype": ("check_global_state", lambda: image_twin(middle=SetsDefaultDtype), "default dtype"),
    "moves a buffer in eval": ("check_state", lambda: image_twin(middle=BufferMovesInEval), "seen"),
    "stays in training mode": ("check_state", lambda: image_twin(middle=AlwaysTraining), "training mode"),
    "asks for gradients": ("check_gradients", lambda: image_twin(middle=AsksForGradients), "require gradients"),
    "carries a graph": ("check_gradients", lambda: image_twin(middle=GradientInAttribute), "graph"),
    "keeps activations": ("check_memory", lambda: image_twin(middle=KeepsActivations), "still holds"),
    "closes over an earlier stage": ("check_restart", not_restartable, "restarted"),
    "lets no gradient through": ("check_freezing", lambda: image_twin(middle=Detaches), "trained no parameter"),
    "trains a frozen stage": ("check_freezing", below_boundary, "of a copy"),
    "has a lambda in a stage": ("check_estimator_pickle", lambda: image_twin(middle=HoldsLambda), "pickled"),
    "has a lambda in preprocess": ("check_pickle", lambda: image_twin(preprocess=HoldsFunction()), "pickled"),
    "writes into its input": ("check_preprocess", lambda: image_twin(preprocess=WritesIntoInput()), "changed an array"),
    "takes layout for granted": ("check_odd_inputs", lambda: image_twin(preprocess=WrongColumns()), "Fortran"),
    "gives all samples the same": ("check_features", all_alike, "the same values"),
    "lets padding leak": ("check_padding", lambda: text_twin(IgnoresMask), "longer text"),
    "divides by no words": ("check_odd_inputs", lambda: text_twin(DividesByWords, EmptyIsEmpty), "empty text"),
}


def meant_for(module):
    """Return the faults that the checks of a module find."""
    return [wrong for wrong, (check, *_) in IN_MEMORY.items() if check in module.__all__]


def assert_caught(wrong):
    """Assert that the check for a fault fails with a full message."""
    check, build, word = IN_MEMORY[wrong]
    backbone = build()
    with pytest.raises(AssertionError) as caught:
        dict(yield_backbone_checks(backbone))[check]()
    text = str(caught.value)
    assert word in text
    assert backbone.name in text
    assert "expected: " in text
    assert "To fix: " in text
    assert "Rule: " in text
