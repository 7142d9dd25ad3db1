"""A head that starts as a linear probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from sktransfer.tasks.base import Targets
from sktransfer.tasks.classification import Multiclass
from sktransfer.tasks.continuous import Continuous
from sktransfer.tasks.head_init import ALPHA, C
from sktransfer.tasks.heads import FeatureHead

RNG = np.random.default_rng(0)
FEATURES = (RNG.normal(size=(60, 5)) * [1, 10, 100, 1e-3, 0] + 3).astype(np.float32)


def one_scale(weight):
    centred = FEATURES - np.average(FEATURES, axis=0, weights=weight)
    return centred / np.sqrt(np.average(centred**2, axis=0, weights=weight).mean())


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_head_gives_the_probes_probabilities(n_classes):
    y = np.arange(60) % n_classes
    weight = RNG.uniform(0.5, 2, 60)
    task = Multiclass(classes=np.arange(n_classes))
    head = task.make_head(5)
    task.init_head(head, FEATURES, Targets(y, weight), "probe")
    scaled = one_scale(weight)
    expected = LogisticRegression(C=C, max_iter=1000).fit(scaled, y, sample_weight=weight).predict_proba(scaled)
    with torch.no_grad():
        found = head(torch.from_numpy(FEATURES)).softmax(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_head_gives_the_ridges_predictions():
    y = RNG.normal(size=(60, 2))
    head = FeatureHead(5, 2)
    Continuous().init_head(head, FEATURES, Targets(y, np.ones(60)), "probe")
    scaled = one_scale(np.ones(60))
    with torch.no_grad():
        found = head(torch.from_numpy(FEATURES)).numpy()
    assert len(np.unique(head.scale)) == 1  # a feature that hardly varies is not blown up
    np.testing.assert_allclose(found, Ridge(alpha=ALPHA).fit(scaled, y).predict(scaled), atol=1e-4)
