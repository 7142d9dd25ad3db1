"""What BatchNorm predicts with after a training, where it has learnt its statistics anew."""

from __future__ import annotations

import numpy as np
import torch

from sktransfer import SWA, FineTuneClassifier, load_backbone
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 24)
NORM = torch.nn.BatchNorm2d


def fitted(weights="random", **options):
    options = {"freeze_depth": 0, "head_init": "random", "max_epochs": 2, "lr": 1e-3, "random_state": 0, **options}
    return FineTuneClassifier("tiny/cnn", weights=weights, **options).fit(IMAGES, LABELS)


def norms(backbone):
    return [module for stage in backbone.stages for module in stage.modules() if isinstance(module, NORM)]


def test_update_batch_norms_makes_predictions_right_after_few_steps():
    clf = fitted(max_epochs=8, batch_size=24)  # eight steps: running means would be at 57 % of their way
    assert clf.history_["train_loss"].iloc[-1] < 0.3
    assert clf.score(IMAGES, LABELS) == 1


def test_update_batch_norms_averages_over_samples_under_the_final_weights():
    for callbacks in (None, [SWA(0.0)]):
        clf = fitted(batch_size=24, callbacks=callbacks)
        first = norms(clf.backbone_)[0]
        seen = []
        hook = first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))  # noqa: B023
        with torch.no_grad():
            clf.backbone_.stages[0](torch.stack(clf.backbone_.preprocess(IMAGES)), None)
        hook.remove()
        values = seen[0].transpose(0, 1).flatten(1)  # (channels, n * height * width)
        torch.testing.assert_close(first.running_mean, values.mean(1), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(first.running_var, values.var(1), atol=1e-4, rtol=1e-2)
        assert first.momentum == 0.1
        assert not first.training


def test_update_batch_norms_skips_pretrained_weights_and_partial_fit():
    before = [norm.running_mean.clone() for norm in norms(load_backbone("tiny/cnn"))]
    kept = norms(fitted("pretrained").backbone_)
    assert all(one.equal(norm.running_mean) for one, norm in zip(before, kept, strict=True))
    clf = FineTuneClassifier("tiny/cnn", weights="random", freeze_depth=0, head_init="random", random_state=0)
    for _ in range(2):
        clf.partial_fit(IMAGES, LABELS, classes=np.unique(LABELS))
    assert all(norm.num_batches_tracked == 2 for norm in norms(clf.backbone_))


def test_update_batch_norms_does_nothing_with_max_epochs_0():
    clf = fitted(max_epochs=0)
    assert all(norm.running_mean.eq(0).all() for norm in norms(clf.backbone_))
