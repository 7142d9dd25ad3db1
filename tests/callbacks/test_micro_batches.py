"""Gradients accumulated over parts of a batch are those of the batch."""

from __future__ import annotations

import numpy as np
import pytest
from skorch.callbacks import Callback, GradientNormClipping

from sktransfer import ContrastiveFineTuner, FineTuneClassifier, MicroBatches, SelfSupervisedTuner
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.small_bert import small_bert

IMAGES, LABELS = make_samples("image", 14)
TEXTS, _ = make_samples("text", 14)
WEIGHT = np.random.default_rng(0).uniform(0.1, 3, 14)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_micro_batches_step_as_the_whole_batch(size):
    options = {"freeze_depth": 0, "batch_size": 8, "max_epochs": 2, "lr": 1e-3, "random_state": 0, "l2_sp": 0.1}
    seen = []

    class Widths(Callback):
        def on_train_begin(self, net, **kwargs):
            net.module_.heads["y"].register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))

    whole = FineTuneClassifier(**options).fit(IMAGES, LABELS, sample_weight=WEIGHT)
    parts = FineTuneClassifier(**options, callbacks=[MicroBatches(size), Widths()])
    parts.fit(IMAGES, LABELS, sample_weight=WEIGHT)
    assert max(seen) == min(size, 8)
    np.testing.assert_allclose(parts.decision_function(IMAGES), whole.decision_function(IMAGES), atol=2e-3)
    np.testing.assert_allclose(parts.history_["train_loss"], whole.history_["train_loss"], rtol=1e-4)


def test_micro_batches_of_texts():
    options = {"freeze_depth": 2, "max_epochs": 1, "random_state": 0}
    clf = FineTuneClassifier("hf/" + small_bert(), **options, callbacks=[MicroBatches(4)]).fit(TEXTS, LABELS)
    assert clf.n_iter_ == 1


def test_gradient_norm_clipping_of_skorch_clips_gradients():
    norms = []

    class Norm(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            norms.append(sum(float((p.grad**2).sum()) for _, p in named_parameters if p.grad is not None) ** 0.5)

    options = {"max_epochs": 1, "head_init": "random", "random_state": 0}
    FineTuneClassifier(**options, callbacks=[GradientNormClipping(1e-3), Norm()]).fit(IMAGES, LABELS)
    FineTuneClassifier(**options, callbacks=[Norm()]).fit(IMAGES, LABELS)
    assert norms[0] == pytest.approx(1e-3, rel=1e-2)
    assert norms[1] > 1e-2


@pytest.mark.parametrize("size", [0, 2.0, True])
def test_size_of_micro_batches_rejects_other_values(size):
    with pytest.raises(InvalidParameterError, match="size="):
        FineTuneClassifier(callbacks=[MicroBatches(size)]).fit(IMAGES, LABELS)


@pytest.mark.parametrize("tuner", [ContrastiveFineTuner, SelfSupervisedTuner])
def test_micro_batches_are_refused_if_samples_are_compared(tuner):
    with pytest.raises(InvalidParameterError, match="the loss here compares all samples of a batch"):
        tuner("hf/" + small_bert(), callbacks=[MicroBatches(4)]).fit(TEXTS, LABELS)
