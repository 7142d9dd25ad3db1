"""Out of memory: half a batch, and a name where one sample is too much."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import Backbone
from sktransfer.engine.compute import Compute
from sktransfer.engine.forward import LayerOutput, forward
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.workers import is_out_of_memory, retry_on_oom
from sktransfer.exceptions import InvalidSampleError
from tests.helpers.toys import images

CPU = Compute(torch.device("cpu"), batch_size=8)


class Hungry(nn.Module):
    """Asks for more memory than any machine has, for batches of more than `most`."""

    def __init__(self, most):
        super().__init__()
        self.most, self.seen = most, []

    def forward(self, values):
        self.seen.append(len(values))
        if len(values) > self.most:
            torch.empty(2**55)
        return values.flatten(1)


def features(most, n=8):
    backbone = Backbone.from_modules([("hungry", Hungry(most))], input_size=(8, 8))
    inputs = PreprocessedSamples(images(n), backbone.preprocess)
    found = {}
    for rows, (values,) in forward(backbone, inputs, [LayerOutput(1, "flatten")], compute=CPU):
        found.update(zip(rows, values))
    return backbone, np.stack([found[row].numpy() for row in range(n)])


def test_forward_halves_batches_until_they_fit_into_memory():
    backbone, found = features(3)
    (stages,) = backbone.copies.values()
    assert stages[0].body[0].seen == [8, 4, 2, 2, 4, 2, 2]
    np.testing.assert_array_equal(found, features(100)[1])


def test_forward_names_the_row_of_a_sample_too_large_for_memory():
    with pytest.raises(InvalidSampleError, match=r"row 0: .*more memory for this sample alone.*max_length"):
        features(0)


def test_is_out_of_memory_tells_memory_errors_from_others():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2) @ torch.zeros(3)
    assert not is_out_of_memory(caught.value)


def test_retry_on_oom_does_not_retry_other_errors():
    tried = []

    def work(part):
        tried.append(part)
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        retry_on_oom(work, [0, 1])
    assert len(tried) == 1


def test_retry_on_oom_names_the_row_of_the_caller():
    def work(part):
        if part.start <= 2 < part.stop:
            raise MemoryError

    with pytest.raises(InvalidSampleError, match="row 30"):
        retry_on_oom(work, [10, 20, 30, 40])
