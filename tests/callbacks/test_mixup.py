"""Samples mixed with others, and held to the targets of both."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch.nn import functional

from sktransfer import (
    ContrastiveFineTuner,
    FineTuneClassifier,
    FineTuneRegressor,
    MicroBatches,
    Mixup,
    cache_info,
    load_backbone,
)
from sktransfer.callbacks.mixup import MixedBatch
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.classification import MultilabelIndicator
from sktransfer.tasks.continuous import Continuous
from sktransfer.testing.samples import make_samples
from tests.helpers.small_bert import small_bert

IMAGES, LABELS = make_samples("image", 12)
TEXTS, _ = make_samples("text", 12)
BERT = "hf/" + small_bert()
WEIGHT = np.random.default_rng(0).uniform(0.1, 3, 12)
HALVES = MixedBatch(torch.arange(5, -1, -1), torch.tensor(0.3))
LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def quick(backbone="tiny/cnn", mixup=None, cls=FineTuneClassifier, others=(), **parameters):
    callbacks = [*([] if mixup is None else [mixup]), *others]
    options = {"max_epochs": 2, "batch_size": 6, "lr": 1e-3, "random_state": 0, **parameters}
    return cls(backbone, callbacks=callbacks, **options)


class Spy(Callback):
    """What batches hold, what the trained part is given of them, what the head sees, and the losses."""

    def on_train_begin(self, net, **kwargs):
        self.batches, self.given, self.seen, self.losses = [], [], [], []
        self.hooks = [
            net.module_.register_forward_pre_hook(self.note, with_kwargs=True),
            net.module_.heads["y"].linear.register_forward_pre_hook(
                lambda module, args: self.seen.append(args[0].detach().clone())
            ),
        ]
        self.mixture, self.drawn = net.mixture, []
        net.mixture = lambda n: self.drawn.append(self.mixture(n)) or self.drawn[-1]

    def note(self, module, args, kwargs):
        self.given.append({name: value.clone() for name, value in kwargs.items()})

    def on_batch_begin(self, net, batch, training):
        self.batches.append(batch)

    def on_batch_end(self, net, loss, training, **kwargs):
        self.losses.append(loss)

    def on_train_end(self, net, **kwargs):
        for hook in self.hooks:
            hook.remove()
        net.mixture = None
        self.hooks, self.mixture = [], None


def spied(backbone, X, others=(), **parameters):
    clf = quick(backbone, Mixup(1.0), others=[*others, ("spy", Spy())], **parameters).fit(X, LABELS)
    return clf, dict(clf.net_.callbacks_)["spy"]


@pytest.mark.parametrize("depth", [0, -2, "all"])
def test_mixup_of_images_mixes_the_outputs_of_the_frozen_stages(depth):
    _, spy = spied("tiny/cnn", IMAGES, freeze_depth=depth)
    assert len(spy.drawn) == len(spy.batches) == 4
    assert len({float(mixture.share) for mixture in spy.drawn}) == 4
    for mixture, given, (arguments, _) in zip(spy.drawn, spy.given, spy.batches):
        assert sorted(mixture.partners.tolist()) == list(range(6))
        assert set(given) == set(arguments)
        for name, value in arguments.items():
            expected = mixture.share * value + (1 - mixture.share) * value[mixture.partners]
            torch.testing.assert_close(given[name], expected)
            assert not torch.equal(given[name], value)


def test_mixup_of_texts_mixes_pooled_features():
    clf, spy = spied(BERT, TEXTS, freeze_depth=2, max_epochs=1, lr=1e-12, head_lr=1e-12)
    for mixture, given, seen, loss, (arguments, targets) in zip(
        spy.drawn, spy.given, spy.seen, spy.losses, spy.batches
    ):
        assert all(torch.equal(given[name], value) for name, value in arguments.items())
        features = mixture.share * seen + (1 - mixture.share) * seen[mixture.partners]
        with torch.no_grad():
            logits = clf.net_.module_.heads["y"].linear(features)
        own, other = (functional.cross_entropy(logits, one) for one in (targets, targets[mixture.partners]))
        torch.testing.assert_close(loss, mixture.share * own + (1 - mixture.share) * other, atol=1e-5, rtol=1e-4)


def mixed_targets(values, weight):
    """Return the targets and weights of the samples, and those of their partners."""
    return [targets["y"] for targets in HALVES.targets({"y": (values, weight)})]


def test_targets_of_mixed_batch_give_the_loss_of_mixed_targets():
    weight = torch.rand(6) + 0.1
    classes = torch.tensor([0, 1, 2, 3, 3, 0])
    (_, w_own), (_, w_other) = mixed_targets(classes, weight)
    assert (w_own + w_other).sum() == pytest.approx(weight.sum())
    torch.testing.assert_close(w_other, 0.7 * weight.flip(0))
    (own, w_own), (other, w_other) = mixed_targets(classes, torch.ones(6))
    loss = functional.cross_entropy(LOGITS, own, reduction="none", label_smoothing=0.1) * w_own
    loss += functional.cross_entropy(LOGITS, other, reduction="none", label_smoothing=0.1) * w_other
    mixed = HALVES.of(functional.one_hot(classes, 4).float())
    expected = functional.cross_entropy(LOGITS, mixed, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("task", [MultilabelIndicator(label_smoothing=0.1), Continuous()])
def test_targets_of_mixed_batch_give_gradients_for_labels_and_numbers(task):
    targets = (torch.rand(6, 4) > 0.5).float()
    logits = LOGITS.clone().requires_grad_()
    (own, w_own), (other, w_other) = mixed_targets(targets, torch.ones(6))
    loss = (task.loss(logits, own, logits) * w_own + task.loss(logits, other, logits) * w_other).sum()
    expected = task.loss(logits, HALVES.of(targets), logits).sum()
    for one, two in zip(torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits)):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    ("backbone", "X", "depth"), [("tiny/cnn", IMAGES, 6), (BERT, TEXTS, 2)], ids=["images", "texts"]
)
def test_mixup_depends_on_random_state_and_stores_nothing(backbone, X, depth):
    def fit(mixup=None, seed=0):
        return quick(backbone, mixup, freeze_depth=depth, max_epochs=1, random_state=seed).fit(X, LABELS)

    plain = fit().predict_proba(X)
    held = cache_info().n_entries
    clf = fit(Mixup(1.0))
    mixed = clf.predict_proba(X)
    assert cache_info().n_entries == held
    assert np.abs(mixed - plain).max() > 1e-4
    np.testing.assert_array_equal(fit(Mixup(1.0)).predict_proba(X), mixed)
    assert np.abs(fit(Mixup(1.0), seed=1).predict_proba(X) - mixed).max() > 1e-4
    np.testing.assert_array_equal(fit().predict_proba(X), plain)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), mixed)
    for stage, trained in zip(load_backbone(backbone).stages[:depth], clf.backbone_.stages[:depth]):
        assert all(a.equal(b) for a, b in zip(stage.state_dict().values(), trained.state_dict().values()))


def test_mixup_with_weights_labels_numbers_and_label_smoothing():
    quick(mixup=Mixup(), class_weight="balanced", label_smoothing=0.1).fit(IMAGES, LABELS, sample_weight=WEIGHT)
    indicators = np.stack([LABELS == "good", np.arange(12) % 2 == 0], 1).astype(int)
    assert quick(mixup=Mixup()).fit(IMAGES, indicators).predict_proba(IMAGES).shape == (12, 2)
    y = np.where(LABELS == "good", 100.0, -100.0)
    assert quick(mixup=Mixup(), cls=FineTuneRegressor, max_epochs=5).fit(IMAGES, y).score(IMAGES, y) > 0.8


def test_mixup_respects_sample_weight():
    turned = np.where(np.arange(12) < 6, LABELS, np.where(LABELS == "good", "bad", "good"))
    options = {"freeze_depth": "all", "head_init": "random", "head_lr": 0.01, "max_epochs": 30, "batch_size": 12}
    for heavy in (slice(0, 6), slice(6, 12)):
        weight = np.full(12, 0.01)
        weight[heavy] = 1.0
        clf = quick(mixup=Mixup(1.0), **options).fit(IMAGES, turned, sample_weight=weight)
        assert clf.score(IMAGES[heavy], turned[heavy]) == 1


def test_mixup_makes_predictions_less_sure():
    options = {"freeze_depth": "all", "head_lr": 0.01, "max_epochs": 20, "batch_size": 12}
    plain, mixed = (
        quick(mixup=mixup, **options).fit(IMAGES, LABELS).history_["train_loss"].tail(10).mean()
        for mixup in (None, Mixup(8.0))
    )
    assert plain < 0.05
    assert mixed > 0.2  # about half the pairs are of two classes, and of them each half has ln 2


def test_mixup_mixes_within_each_micro_batch():
    _, spy = spied("tiny/cnn", IMAGES, [MicroBatches(4)])
    assert [len(mixture.partners) for mixture in spy.drawn] == [4, 2] * 4
    assert [len(given["values"]) for given in spy.given] == [4, 2] * 4


@pytest.mark.parametrize("alpha", [0, -1.0, True, "much", float("nan"), float("inf")])
def test_alpha_of_mixup_rejects_other_values(alpha):
    with pytest.raises(InvalidParameterError, match="must be a number greater than 0; leave Mixup out"):
        quick(mixup=Mixup(alpha)).fit(IMAGES, LABELS)


def test_mixup_rejects_losses_of_pairs():
    with pytest.raises(InvalidParameterError, match="the loss is one of pairs of samples"):
        ContrastiveFineTuner(callbacks=[Mixup()], max_epochs=1).fit(IMAGES, LABELS)
