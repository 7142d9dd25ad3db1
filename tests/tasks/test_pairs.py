"""Losses of pairs against their definitions, and batches in which there are such pairs."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sktransfer.tasks.pairs import cosine_pairs, supervised_contrast
from sktransfer.training.samplers import PairBatches

generator = torch.Generator().manual_seed(0)
FEATURES = torch.randn(7, 5, generator=generator)
TARGETS = torch.tensor([0, 0, 0, 1, 1, 2, 0])


def cosine(i, j):
    return float(torch.nn.functional.cosine_similarity(FEATURES[i], FEATURES[j], dim=0))


def mean(values):
    return sum(values) / len(values) if values else 0.0


def test_cosine_pairs_are_the_mean_squared_errors_of_pairs_of_one_class_and_of_two():
    expected = []
    for i in range(7):
        same = [(cosine(i, j) - 1) ** 2 for j in range(7) if j != i and TARGETS[i] == TARGETS[j]]
        other = [cosine(i, j) ** 2 for j in range(7) if TARGETS[i] != TARGETS[j]]
        expected.append((mean(same) + mean(other)) / 2)
    torch.testing.assert_close(cosine_pairs(FEATURES, TARGETS), torch.tensor(expected))


def test_supervised_contrast_is_the_papers_second_equation():
    expected = []
    for i in range(7):
        others = [j for j in range(7) if j != i]
        total = sum(np.exp(cosine(i, j) / 0.1) for j in others)
        expected.append(mean([-np.log(np.exp(cosine(i, j) / 0.1) / total) for j in others if TARGETS[i] == TARGETS[j]]))
    found = supervised_contrast(FEATURES, TARGETS)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", [cosine_pairs, supervised_contrast])
def test_length_makes_no_difference_and_gradients_are_finite(loss):
    features = (FEATURES * torch.arange(1.0, 8.0)[:, None]).detach().requires_grad_()
    torch.testing.assert_close(loss(features, TARGETS), loss(FEATURES, TARGETS))
    loss(features, TARGETS).sum().backward()
    assert torch.isfinite(features.grad).all()
    features.grad = None
    loss(features, torch.zeros(7, dtype=torch.int64)).sum().backward()  # a batch of one class
    assert torch.isfinite(features.grad).all()


class Targets(SimpleNamespace):
    """What an order is drawn from: a data set's targets, and its epoch."""

    def __len__(self):
        return len(self.targets["y"])


def orders(targets, batch_size, seed=0, epoch=0):
    return PairBatches(Targets(targets={"y": torch.as_tensor(targets)}, epoch=epoch), batch_size, seed)._order()


def test_samples_that_fit_into_one_batch_are_one():
    assert orders([0, 1, 1, 0, 2], 8) == [[0, 1, 2, 3, 4]]


def test_each_sample_meets_one_of_its_class_and_some_of_others_whatever_the_shares():
    targets = np.array([0] * 90 + [1] * 6 + [2] * 4)
    batches = orders(targets, 8)
    assert len(batches) == 13  # 100 samples in batches of 8
    seen = Counter()
    for batch in batches:
        of_class = Counter(targets[batch].tolist())
        assert len(batch) == 8
        assert min(of_class.values()) >= 2
        assert len(of_class) == 3
        seen += of_class
    assert max(seen.values()) - min(seen.values()) <= 2  # classes take turns


def test_many_classes_share_out_the_batches():
    targets = np.repeat(np.arange(50), 3)
    batches = orders(targets, 16)
    assert all(len(set(targets[batch])) == 8 for batch in batches)
    assert len({int(target) for batch in batches for target in targets[batch]}) == 50


def test_order_depends_on_seed_and_epoch_alone():
    targets = [0, 1] * 20
    assert orders(targets, 8) == orders(targets, 8)
    assert orders(targets, 8) != orders(targets, 8, seed=1)
    assert orders(targets, 8) != orders(targets, 8, epoch=1)
