"""A head that starts as a linear probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn

from sktransfer.training.head_init import ALPHA, C, init_head
from sktransfer.training.network import FineTuneNetwork

RNG = np.random.default_rng(0)
FEATURES = (RNG.normal(size=(60, 5)) * [1, 10, 100, 1e-3, 0] + 3).astype(np.float32)


def one_scale(weight):
    centred = FEATURES - np.average(FEATURES, axis=0, weights=weight)
    return centred / np.sqrt(np.average(centred**2, axis=0, weights=weight).mean())


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_head_gives_the_probes_probabilities(n_classes):
    y = np.arange(60) % n_classes
    weight = RNG.uniform(0.5, 2, 60)
    network = FineTuneNetwork(nn.ModuleList(), [], 0, 5, n_classes)
    init_head(network, FEATURES, y, weight)
    scaled = one_scale(weight)
    expected = LogisticRegression(C=C, max_iter=1000).fit(scaled, y, sample_weight=weight).predict_proba(scaled)
    with torch.no_grad():
        found = network(fixed=torch.from_numpy(FEATURES)).softmax(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_head_gives_the_ridges_predictions():
    y = RNG.normal(size=(60, 2))
    network = FineTuneNetwork(nn.ModuleList(), [], 0, 5, 2)
    init_head(network, FEATURES, y, np.ones(60))
    scaled = one_scale(np.ones(60))
    with torch.no_grad():
        found = network(fixed=torch.from_numpy(FEATURES)).numpy()
    assert len(np.unique(network.scale)) == 1  # a feature that hardly varies is not blown up
    np.testing.assert_allclose(found, Ridge(alpha=ALPHA).fit(scaled, y).predict(scaled), atol=1e-4)
