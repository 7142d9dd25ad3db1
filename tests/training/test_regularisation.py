"""What holds a training back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from sktransfer import FineTuneClassifier, load_backbone
from sktransfer.tasks.classification import MultilabelIndicator
from sktransfer.testing.samples import make_samples
from sktransfer.training.optimisation import l2_sp_penalty

IMAGES, LABELS = make_samples("image", 12)


def test_the_pull_is_the_gradient_of_the_penalty():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    layers[0].bias.requires_grad_(False)
    start = [p.detach().clone() for p in layers.parameters()]
    pull = l2_sp_penalty(layers, 0.7)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.add_(torch.randn_like(parameter))
    loss = layers(torch.ones(1, 3)).sum()
    penalty = 0.35 * sum(((p - s) ** 2).sum() for p, s in zip(layers.parameters(), start) if p.requires_grad)
    expected = torch.autograd.grad(loss + penalty, [p for p in layers.parameters() if p.requires_grad])
    loss = layers(torch.ones(1, 3)).sum()
    loss.backward()
    pull()
    for parameter, gradient in zip((p for p in layers.parameters() if p.requires_grad), expected):
        torch.testing.assert_close(parameter.grad, gradient)
    assert layers[0].bias.grad is None


def distance(clf):
    pairs = zip(clf.backbone_.stages.parameters(), load_backbone("tiny/cnn").stages.parameters())
    return sum(float(((one - other) ** 2).sum()) for one, other in pairs) ** 0.5


def test_stages_stay_nearer_to_where_they_started():
    options = {"freeze_depth": -2, "max_epochs": 8, "lr": 0.02, "optimizer": "sgd", "random_state": 0}
    free, held, tight = (
        FineTuneClassifier(l2_sp=l2_sp, **options).fit(IMAGES, LABELS[::-1]) for l2_sp in (0.0, 1.0, 40.0)
    )
    assert distance(tight) < 0.8 * distance(held) < 0.8 * distance(free)
    assert held.net_._add_l2_sp is None  # a pickle has no use for it


def log_likelihood(clf, X, y):
    return float(np.log(clf.predict_proba(X)[np.arange(len(y)), np.searchsorted(clf.classes_, y)]).mean())


@pytest.mark.parametrize(("optimizer", "lr", "firmly"), [("sgd", 0.02, 40.0), ("adamw", 1e-3, 100.0)])
def test_what_was_learnt_first_is_forgotten_less(optimizer, lr, firmly):
    X, y = make_samples("image", 40)
    first, second = slice(0, 20), slice(20, 40)
    turned = np.where(y[second] == "good", "bad", "good")  # the second task contradicts the first
    lost = {}
    for l2_sp in (0.0, firmly):
        clf = FineTuneClassifier(freeze_depth=-2, optimizer=optimizer, warm_start=True, l2_sp=l2_sp, random_state=0)
        clf.set_params(lr=lr, max_epochs=2).fit(X[first], y[first])
        before = log_likelihood(clf, X[first], y[first])
        clf.set_params(head_lr=1e-9, max_epochs=10).fit(X[second], turned)
        lost[l2_sp] = before - log_likelihood(clf, X[first], y[first])
    assert lost[0.0] > 0.5
    assert lost[firmly] < 0.5 * lost[0.0]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_labels_is_that_of_smoothed_targets(smoothing):
    logits, targets = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).float()
    expected = functional.binary_cross_entropy(
        logits.sigmoid(), targets.clamp(smoothing / 2, 1 - smoothing / 2), reduction="none"
    )
    loss = MultilabelIndicator(label_smoothing=smoothing).loss(logits, targets, torch.empty(5, 0))
    torch.testing.assert_close(loss, expected.mean(1))


def test_smoothed_labels_make_predictions_less_sure():
    options = {"max_epochs": 200, "freeze_depth": "all", "head_lr": 0.01, "random_state": 0}
    sure, unsure = (
        FineTuneClassifier(label_smoothing=smoothing, **options).fit(IMAGES, LABELS).predict_proba(IMAGES).max(1)
        for smoothing in (0.0, 0.2)
    )
    assert sure.min() > 0.99
    np.testing.assert_allclose(unsure, 0.9, atol=0.02)  # the target: 0.2 spread over both
