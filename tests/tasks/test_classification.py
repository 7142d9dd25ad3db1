"""Losses of classification tasks: label smoothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from sktransfer import FineTuneClassifier
from sktransfer.tasks.classification import MultilabelIndicator
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing_of_several_labels_equals_smoothed_targets(smoothing):
    logits, targets = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).float()
    expected = functional.binary_cross_entropy(
        logits.sigmoid(), targets.clamp(smoothing / 2, 1 - smoothing / 2), reduction="none"
    )
    loss = MultilabelIndicator(label_smoothing=smoothing).loss(logits, targets, torch.empty(5, 0))
    torch.testing.assert_close(loss, expected.mean(1))


def test_label_smoothing_makes_predictions_less_sure():
    options = {"max_epochs": 200, "freeze_depth": "all", "head_lr": 0.01, "random_state": 0}
    sure, unsure = (
        FineTuneClassifier(label_smoothing=smoothing, **options).fit(IMAGES, LABELS).predict_proba(IMAGES).max(1)
        for smoothing in (0.0, 0.2)
    )
    assert sure.min() > 0.99
    np.testing.assert_allclose(unsure, 0.9, atol=0.02)  # the target: 0.2 spread over both
