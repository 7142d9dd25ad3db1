"""Averages over the steps of a training, and between its end and its start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback

from sktransfer import EMA, SWA, FineTuneClassifier, WiSEFT, load_backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 12)


def vector(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).clone()


class Keep(Callback):
    """The weights at the start, after each step, and after each epoch."""

    def on_train_begin(self, net, **kwargs):
        self.start, self.steps, self.epochs = vector(net.module_), [], []

    def on_batch_end(self, net, training, **kwargs):
        if training:
            self.steps.append(vector(net.module_))

    def on_epoch_end(self, net, **kwargs):
        self.epochs.append(vector(net.module_))


def trained(callback, **parameters):
    options = {"max_epochs": 4, "batch_size": 4, "lr": 1e-3, "random_state": 0, **parameters}
    clf = FineTuneClassifier(callbacks=[("keep", Keep()), ("average", callback)], **options).fit(IMAGES, LABELS)
    keep = dict(clf.net_.callbacks_)["keep"]
    return clf, keep, vector(clf.net_.module_)


def test_ema_averages_all_steps():
    _, keep, found = trained(EMA(0.7))
    expected = keep.steps[0]
    for weights in keep.steps[1:]:
        expected = 0.7 * expected + 0.3 * weights
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert not torch.equal(found, keep.steps[-1])


@pytest.mark.parametrize(("start", "n_epochs"), [(0.0, 4), (0.5, 2), (0.75, 1), (0.9, 1)])
def test_swa_averages_the_last_epochs(start, n_epochs):
    _, keep, found = trained(SWA(start))
    torch.testing.assert_close(found, torch.stack(keep.epochs[-n_epochs:]).mean(0), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_wise_ft_interpolates_between_start_and_end(alpha):
    clf, keep, found = trained(WiSEFT(alpha))
    torch.testing.assert_close(found, keep.start + alpha * (keep.steps[-1] - keep.start), atol=1e-6, rtol=1e-5)
    if alpha == 0:
        assert torch.equal(found, keep.start)
        probe = FineTuneClassifier(max_epochs=0, random_state=0).fit(IMAGES, LABELS)
        np.testing.assert_allclose(clf.predict_proba(IMAGES), probe.predict_proba(IMAGES), atol=1e-5)


def test_wise_ft_interpolates_to_the_best_epoch_with_early_stopping():
    options = {"early_stopping": True, "validation_fraction": 0.25, "patience": 2, "max_epochs": 8, "lr": 1e-2}
    clf, keep, found = trained(WiSEFT(0.5), **options)
    best = int(clf.history_["valid_loss"].idxmin()) - 1
    torch.testing.assert_close(found, (keep.start + keep.epochs[best]) / 2, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("callback", [EMA(0.5), SWA(0.0), WiSEFT(0.5)], ids=lambda one: type(one).__name__)
def test_ema_swa_and_wise_ft_keep_frozen_stages_and_can_be_cloned(callback):
    clf, _, found = trained(callback, freeze_depth=-2)
    for before, after in zip(load_backbone("tiny/cnn").stages[:5], clf.backbone_.stages[:5]):
        assert all(one.equal(other) for one, other in zip(before.state_dict().values(), after.state_dict().values()))
    again, _, same = trained(clone(callback), freeze_depth=-2)
    assert torch.equal(same, found)
    np.testing.assert_array_equal(again.predict_proba(IMAGES), clf.predict_proba(IMAGES))


@pytest.mark.parametrize(
    ("callback", "match"), [(EMA(1.5), "decay=1.5"), (SWA(-1), "start=-1"), (WiSEFT("half"), "alpha='half'")]
)
def test_ema_swa_and_wise_ft_reject_values_outside_0_to_1(callback, match):
    with pytest.raises(InvalidParameterError, match=match):
        trained(callback)


@pytest.mark.parametrize("callback", [EMA(), SWA()])
def test_ema_and_swa_reject_early_stopping(callback):
    with pytest.raises(InvalidParameterError, match="leave one of the two out"):
        trained(callback, early_stopping=True, validation_fraction=0.25)
