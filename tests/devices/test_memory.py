"""Batches of a GPU that fill its memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import Backbone, TextFeaturizer
from sktransfer.devices.memory import MeasuredPeak, free_memory, measured_peak
from sktransfer.engine import compute
from sktransfer.engine.compute import Compute
from sktransfer.engine.forward import LayerOutput, forward
from sktransfer.engine.inputs import PreprocessedSamples
from tests.helpers.toys import images
from tests.test_gpu import BERT, TEXTS

pytestmark = pytest.mark.gpu
N, PIXELS = 100, 8 * 8


class Seen(nn.Module):
    """Doubles values, and records the size of batches."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, values):
        self.seen.append(len(values))
        return 2 * values


@pytest.fixture
def small_batches(monkeypatch):
    """Make the first batch of a device four images of 8 x 8 pixels, or 32 tokens."""
    for unit, size in (("pixels", 4 * 4 * PIXELS), ("tokens", 32)):
        budget = compute._BUDGETS[unit]
        monkeypatch.setitem(compute._BUDGETS, unit, compute._Budget(budget.cpu, size, in_bytes=unit == "pixels"))


def features(device="cuda", batch_size=None, module=Seen):
    """Return the outputs of a pass, and the sizes of its batches."""
    backbone = Backbone.from_modules([("seen", module())], input_size=(8, 8))
    inputs, found = PreprocessedSamples(images(N), backbone.preprocess), {}
    of_device = Compute(torch.device(device), batch_size=batch_size)
    for rows, (values,) in forward(backbone, inputs, [LayerOutput(1, "flatten")], compute=of_device):
        found.update(zip(rows, values))
    (stages,) = backbone.copies.values()
    return np.stack([found[row].numpy() for row in range(N)]), stages[0].body[0].seen


def test_batches_grow_with_the_memory_that_the_first_one_took(small_batches, gpu):
    if gpu is None:
        pytest.skip("needs a device whose memory can be limited")
    expected, sizes = features(batch_size=4)
    assert set(sizes) == {4}
    found, sizes = features()
    assert sizes == [4, 32, 32, 32]
    np.testing.assert_array_equal(found, expected)
    taken = 2 * 4 * 3 * PIXELS * 4  # the values before and after the stage
    for times, size in ((3, 4), (5, 8), (9, 16)):  # half of the free memory is used
        gpu.memory = gpu.used[0] + times * taken
        for _ in range(2):
            found, sizes = features()
            assert max(sizes) == size
            assert sizes[0] == 4
            np.testing.assert_array_equal(found, expected)


def test_batches_are_halved_if_they_have_grown_too_large(small_batches, gpu):
    if gpu is None:
        pytest.skip("needs a device whose memory can be limited")
    expected, _ = features(batch_size=4)
    full = gpu.memory

    class Filled(Seen):
        """Leaves little memory after the first batch, as another process may do."""

        def forward(self, values):
            if len(self.seen) == 1:
                gpu.memory = gpu.used[0] + 8 * 3 * PIXELS * 4
            return super().forward(values)

    found, sizes = features(module=Filled)
    assert gpu.memory < full
    assert sizes == [4, 32, 16, 16, 32, 16, 16, 32, 16, 16]
    np.testing.assert_array_equal(found, expected)


def test_features_of_texts_are_those_of_other_batches(small_batches, gpu):
    X = np.array([f"{text[:20]} {number}" for number in range(6) for text in TEXTS], object)
    featurizer = TextFeaturizer(BERT, layer=-1, device="cuda", cache=None)
    grown = featurizer.fit_transform(X)
    np.testing.assert_array_equal(featurizer.transform(X), grown)
    for other in ({"batch_size": 4}, {"device": "cpu"}):
        np.testing.assert_allclose(featurizer.set_params(**other).fit_transform(X), grown, atol=1e-5)


def test_a_batch_size_the_cpu_and_few_samples_are_not_measured(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: pytest.fail("the peak was reset"))
    features(batch_size=8)
    features(device="cpu")
    TextFeaturizer(BERT, device="cuda", cache=None).fit_transform(TEXTS)


def test_measured_peak_counts_what_a_block_takes(gpu):
    device, kept = torch.device("cuda", 0), []
    before = free_memory(device)
    with measured_peak(device) as peak:
        kept.append(torch.zeros(512, device=device))
        torch.zeros(1024, device=device)
    assert peak.used == 4096 + 2048
    assert peak.free == before
    assert free_memory(device) <= before


def test_growth_is_a_power_of_two_and_takes_half_of_the_free_memory():
    assert [MeasuredPeak(free, 10).growth(8) for free in (0, 39, 40, 79, 80, 10**6)] == [1, 1, 2, 2, 4, 8]
    assert MeasuredPeak(0, 0).growth(4) == 4
