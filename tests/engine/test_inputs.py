from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.engine.inputs import PreprocessedSamples, collate, in_batches
from sktransfer.exceptions import (
    InvalidParameterError,
    InvalidSample,
    InvalidSampleError,
    TruncatedTextWarning,
    UnknownWordsWarning,
)
from tests.helpers.toys import Listed, Words


def test_in_batches_holds_all_rows_in_order():
    assert list(in_batches(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(in_batches([5, 3], 2)) == [[5, 3]]
    assert list(in_batches([], 2)) == []


def test_tensors_preprocesses_images_on_request_and_keeps_none():
    samples = Listed(np.full((2, 3, 3, 3), 0.25, np.float32) * np.arange(1, 3).reshape(2, 1, 1, 1))
    inputs = PreprocessedSamples(samples, ImageTransform(mean=(0.25, 0.25, 0.25)))
    assert len(inputs) == 2
    assert not inputs.is_ragged
    assert inputs.lengths([0, 1]) == [0, 0]
    assert samples.loaded == []
    (one,) = inputs.tensors([1])
    assert torch.equal(one, torch.full((3, 3, 3), 0.25))
    inputs.tensors([1])
    assert samples.loaded == [1, 1]


def test_tensors_tokenizes_again_without_keep():
    samples = Listed(["a b", "bb ccc"])
    inputs = PreprocessedSamples(samples, Words())
    assert [len(one) for one in inputs.tensors([0, 0, 1])] == [2, 2, 2]
    inputs.tensors([1])
    assert samples.loaded == [0, 1, 1]


def test_keep_tokenizes_each_text_once():
    samples = Listed(["a", "bb ccc", "d ee f"])
    inputs = PreprocessedSamples(samples, Words(), keep=True)
    assert inputs.is_ragged
    assert inputs.lengths([2, 0]) == [3, 1]
    assert [one.tolist() for one in inputs.tensors([2, 1, 2])] == [[1, 2, 1], [2, 3], [1, 2, 1]]
    inputs.tensors([0, 1, 2])
    assert sorted(samples.loaded) == [0, 1, 2]


def test_warn_of_unread_counts_each_text_once():
    inputs = PreprocessedSamples(Listed(["a b c", "a", "a b c d"]), Words(limit=2))
    inputs.tensors([0, 0, 1])
    inputs.tensors([0, 2])
    inputs.lengths([2])
    with pytest.warns(TruncatedTextWarning, match="2 of 3 texts are longer than 2 tokens") as caught:
        inputs.warn_of_unread()
    assert len(caught) == 1
    inputs.warn_of_unread()  # all have been told of; a warning would be an error here


class Knowing(Words):
    """Words of more than eight letters are unknown."""

    def unknown_share(self, tokens):
        return (tokens == 9).float().mean().item()


LOST = "unknowable"


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ([LOST, "known words"], "1 of 2"),
        ([f"{LOST} a", f"a b {LOST}"], "1 of 2"),
        (["a b unknowable"] * 4, None),
        (["", " ", "a"], None),
        ([LOST, *["a"] * 99], "1 of 100"),
        ([LOST, *["a"] * 100], None),
    ],
)
def test_warn_of_unread_tells_of_texts_that_are_mostly_unknown(texts, told):
    inputs = PreprocessedSamples(Listed(texts), Knowing())
    inputs.lengths(range(len(texts)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inputs.warn_of_unread()
        inputs.warn_of_unread()
    assert [one.category for one in caught] == [UnknownWordsWarning] * (told is not None)
    assert told is None or str(caught[0].message).startswith(f"{told} texts consist mostly of tokens unknown")


def test_warn_of_unread_is_silent_without_truncated_texts():
    inputs = PreprocessedSamples(Listed(["a b", "a"]), Words(limit=2))
    inputs.tensors([0, 1])
    inputs.warn_of_unread()


def test_collate_pads_texts_on_the_right_and_returns_a_mask():
    values, mask = collate([torch.tensor([5, 6, 7]), torch.tensor([8])], "text", pad_value=9)
    assert values.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    assert mask.dtype == torch.bool


def test_collate_mask_is_true_for_real_tokens_equal_to_pad_value():
    _, mask = collate([torch.tensor([0, 0]), torch.tensor([0])], "text", pad_value=0)
    assert mask.tolist() == [[True, True], [True, False]]


def test_collate_pads_activations_of_texts():
    long, short = torch.rand(3, 2), torch.rand(1, 2)
    values, mask = collate([long, short], "text")
    assert values.shape == (2, 3, 2)
    assert torch.equal(values[0], long)
    assert torch.equal(values[1, :1], short)
    assert (values[1, 1:] == 0).all()
    assert mask.sum(1).tolist() == [3, 1]


def test_collate_pads_a_text_without_tokens():
    values, mask = collate([torch.tensor([3, 4]), torch.tensor([], dtype=torch.int64)], "text", pad_value=1)
    assert values.tolist() == [[3, 4], [1, 1]]
    assert mask.tolist() == [[True, True], [False, False]]


def test_collate_stacks_images_without_a_mask():
    images = [torch.rand(3, 4, 5), torch.rand(3, 4, 5)]
    values, mask = collate(images, "image")
    assert mask is None
    assert torch.equal(values, torch.stack(images))


def test_collate_of_images_of_different_sizes_suggests_resize():
    with pytest.raises(
        InvalidParameterError, match=r"\(3, 4, 4\), \(3, 4, 5\).*preprocess=\{'resize': \(height, width\)\}"
    ):
        collate([torch.rand(3, 4, 5), torch.rand(3, 4, 4)], "image")


class Broken(Listed):
    """Rows whose value is a str cannot be read; those of "key" not even be told from others."""

    def load(self, row):
        if isinstance(self.values[row], str):
            raise InvalidSampleError(row, f"'{row}.png' is broken")
        return super().load(row)

    def key(self, row):
        if self.values[row] == "key":
            raise InvalidSampleError(row, "no file")
        return super().key(row)

    def path(self, row):
        return f"{row}.png"


def test_leave_out_skips_and_records_unreadable_samples():
    values = [np.zeros((2, 2, 3), np.float32), "load", np.ones((2, 2, 3), np.float32), "key"]
    inputs = PreprocessedSamples(Broken(values), ImageTransform(), leave_out=True)
    read = inputs.readable([2, 1, 0])
    assert list(read) == [2, 0]
    assert torch.equal(read[2], torch.ones(3, 2, 2))
    assert inputs.key(3) is None
    assert inputs.left_out == {1: InvalidSample(1, "1.png", "is broken"), 3: InvalidSample(3, "3.png", "no file")}
    assert inputs.readable([1]) == {}


def test_readable_raises_for_unreadable_samples_without_leave_out():
    inputs = PreprocessedSamples(Broken(["load", "key"]), ImageTransform())
    for ask in (lambda: inputs.readable([0]), lambda: inputs.key(1), lambda: inputs.tensors([0])):
        with pytest.raises(InvalidSampleError):
            ask()
    assert inputs.left_out == {}
