"""Training with layer="mix": layers added up by learned weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from skorch.callbacks import Callback

from sktransfer import FineTuneClassifier, FineTuneRegressor, TextFeaturizer
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.small_bert import small_bert

TEXTS, LABELS = make_samples("text", 24)
BERT = "hf/" + small_bert()


def quick(**parameters):
    return FineTuneClassifier(BERT, layer="mix", **{"max_epochs": 2, "random_state": 0, **parameters})


def test_layer_mix_starts_as_a_probe_on_the_mean_of_standardized_layers():
    clf = quick(freeze_depth="all", max_epochs=0).fit(TEXTS, LABELS)
    names = clf.backbone_.stage_names
    assert list(clf.layer_weights_.index) == list(names)
    np.testing.assert_allclose(clf.layer_weights_, 1 / len(names))
    layers = [TextFeaturizer(BERT, layer=name).fit_transform(TEXTS) for name in names]
    mean = np.mean([(one - one.mean(0)) / np.sqrt(one.var(0).mean()) for one in layers], 0)
    probe = LogisticRegression(C=clf.strength_ / mean.var(0).sum(), tol=1e-6, max_iter=1000).fit(mean, LABELS)
    np.testing.assert_allclose(clf.predict_proba(TEXTS), probe.predict_proba(mean), atol=1e-4)


@pytest.mark.parametrize("freeze_depth", ["all", 2, 0])
@pytest.mark.parametrize("head_init", ["probe", "random"])
def test_layer_mix_learns_layer_weights_for_each_freeze_depth(freeze_depth, head_init):
    clf = quick(freeze_depth=freeze_depth, head_init=head_init).fit(TEXTS, LABELS)
    weights = clf.layer_weights_
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert weights.std() > 1e-4
    scale = clf.net_.module_.heads["y"].scale.reshape(len(weights), -1)
    assert (scale == scale[:, :1]).all()
    assert len(scale[:, 0].unique()) == len(weights)  # each layer by its own scale


def test_layer_mix_gives_the_informative_layer_the_largest_weight():
    torch.manual_seed(0)

    class Separable(Callback):
        """Replace the features by noise. Only the third layer depends on the class."""

        def on_train_begin(self, net, X=None, **kwargs):
            width = X.fixed.shape[1] // 4
            X.fixed[:] = torch.randn_like(X.fixed)
            X.fixed[:, 2 * width] += 4.0 * (X.targets["y"].float() * 2 - 1)

    options = {"head_init": "random", "head_lr": 0.01, "weight_decay": 0.0, "callbacks": [Separable()]}
    clf = quick(freeze_depth="all", max_epochs=40, lr_schedule="constant", **options)
    weights = clf.fit(TEXTS * 4, np.tile(LABELS, 4)).layer_weights_
    assert weights.idxmax() == clf.backbone_.stage_names[2]
    assert weights.max() > 0.4


def test_layer_mix_of_a_regressor_and_its_clone():
    reg = FineTuneRegressor(BERT, layer="mix", max_epochs=1, random_state=0).fit(TEXTS, np.arange(24.0))
    assert clone(reg).layer == "mix"
    assert len(reg.layer_weights_) == 4


def test_layer_mix_rejects_layers_of_different_width():
    X, y = make_samples("image", 8)
    with pytest.raises(InvalidParameterError, match=r"different width: \{'stem': 32.*layer='all'"):
        FineTuneClassifier("tiny/cnn", layer="mix").fit(X, y)
    clf = FineTuneClassifier("tiny/cnn", max_epochs=0).fit(X, y)
    assert not hasattr(clf, "layer_weights_")
    with pytest.raises(AttributeError, match="mixes no layers"):
        clf.layer_weights_  # noqa: B018
