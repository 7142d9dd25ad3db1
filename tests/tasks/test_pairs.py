"""Losses on pairs, compared with their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sktransfer.tasks.pairs import cosine_pairs, supervised_contrast

generator = torch.Generator().manual_seed(0)
FEATURES = torch.randn(7, 5, generator=generator)
TARGETS = torch.tensor([0, 0, 0, 1, 1, 2, 0])


def cosine(i, j):
    return float(torch.nn.functional.cosine_similarity(FEATURES[i], FEATURES[j], dim=0))


def mean(values):
    return sum(values) / len(values) if values else 0.0


def test_cosine_pairs_equals_its_definition():
    expected = []
    for i in range(7):
        same = [(cosine(i, j) - 1) ** 2 for j in range(7) if j != i and TARGETS[i] == TARGETS[j]]
        other = [cosine(i, j) ** 2 for j in range(7) if TARGETS[i] != TARGETS[j]]
        expected.append((mean(same) + mean(other)) / 2)
    torch.testing.assert_close(cosine_pairs(FEATURES, TARGETS), torch.tensor(expected))


def test_supervised_contrast_equals_equation_2_of_the_paper():
    expected = []
    for i in range(7):
        others = [j for j in range(7) if j != i]
        total = sum(np.exp(cosine(i, j) / 0.1) for j in others)
        expected.append(mean([-np.log(np.exp(cosine(i, j) / 0.1) / total) for j in others if TARGETS[i] == TARGETS[j]]))
    found = supervised_contrast(FEATURES, TARGETS)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", [cosine_pairs, supervised_contrast])
def test_loss_of_pairs_ignores_length_and_has_finite_gradients(loss):
    features = (FEATURES * torch.arange(1.0, 8.0)[:, None]).detach().requires_grad_()
    torch.testing.assert_close(loss(features, TARGETS), loss(FEATURES, TARGETS))
    loss(features, TARGETS).sum().backward()
    assert torch.isfinite(features.grad).all()
    features.grad = None
    loss(features, torch.zeros(7, dtype=torch.int64)).sum().backward()  # a batch of one class
    assert torch.isfinite(features.grad).all()
