"""Heads on pooled features, and the `head_` of a fitted estimator as a start."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sktransfer import (
    ContrastiveFineTuner,
    FineTuneClassifier,
    FineTuneRegressor,
    Head,
    ImageFeaturizer,
    TextFeaturizer,
)
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.heads import ScalarMix
from sktransfer.testing.samples import make_samples


def test_scalar_mix_weights_layers_by_a_scaled_softmax():
    mix = ScalarMix(3)
    with torch.no_grad():
        mix.scores.copy_(torch.tensor([0.0, 1.0, -2.0]))
        mix.gamma.fill_(3.0)
    layers = torch.randn(5, 3, 4)
    weights = np.exp([0.0, 1.0, -2.0]) / np.exp([0.0, 1.0, -2.0]).sum()
    expected = 3 * sum(float(weight) * layers[:, place] for place, weight in enumerate(weights))
    torch.testing.assert_close(mix(layers.flatten(1)), expected, atol=1e-5, rtol=1e-5)


IMAGES, LABELS = make_samples("image", 18)
THREE = np.array(["a", "b", "c"])[np.arange(18) % 3]
NUMBERS = np.arange(18.0)


def quick(cls=FineTuneClassifier, **parameters):
    return cls(**{"max_epochs": 0, "freeze_depth": "all", "random_state": 0, **parameters})


def test_head_and_backbone_give_the_predictions_of_their_estimator():
    source = quick(max_epochs=2, freeze_depth=-1, lr=1e-3).fit(IMAGES, THREE)
    target = quick(backbone=source.backbone_, head=source.head_)
    for one in (target, clone(target), copy.deepcopy(target), pickle.loads(pickle.dumps(target))):
        found = one.fit(IMAGES[:6], THREE[:6]).predict_proba(IMAGES)
        np.testing.assert_allclose(found, source.predict_proba(IMAGES), atol=1e-5)
    assert clone(target).head is source.head_
    assert repr(quick(layer=-1).fit(IMAGES, THREE).head_) == "Head(task='multiclass', n_features=512, n_outputs=3)"


def test_head_of_the_source_is_not_changed_by_training():
    source = quick().fit(IMAGES, THREE)
    before = source.predict_proba(IMAGES)
    tuned = quick(head=source.head_, max_epochs=2, head_lr=0.1).fit(IMAGES, THREE[::-1])
    assert np.abs(tuned.predict_proba(IMAGES) - before).max() > 0.01
    again = quick(head=source.head_).fit(IMAGES, THREE).predict_proba(IMAGES)
    np.testing.assert_allclose(again, before, atol=1e-6)


def test_head_of_a_regressor_keeps_its_units():
    y = np.stack([NUMBERS, -3 * NUMBERS + 100], 1)
    source = quick(FineTuneRegressor).fit(IMAGES, y)
    target = quick(FineTuneRegressor, head=source.head_).fit(IMAGES, 7 * y[::-1] + 5)
    np.testing.assert_allclose(target.predict(IMAGES), source.predict(IMAGES), rtol=1e-4, atol=1e-3)


def test_head_includes_layer_weights():
    source = FineTuneClassifier("tiny/bert", layer="mix", max_epochs=2, freeze_depth="all", random_state=0)
    texts, y = make_samples("text", 12)
    source.fit(texts, y)
    target = clone(source).set_params(head=source.head_, max_epochs=0).fit(texts, y)
    np.testing.assert_array_equal(target.layer_weights_, source.layer_weights_)
    np.testing.assert_allclose(target.predict_proba(texts), source.predict_proba(texts), atol=1e-5)


@pytest.mark.parametrize(
    ("y", "parameters", "match"),
    [
        (LABELS, {}, r"\['a', 'b', 'c'\], and y holds \['bad', 'good'\]"),
        (np.eye(3, dtype=int)[np.arange(18) % 3] + [0, 1, 0], {}, "fitted for multiclass; y is multilabel-indicator"),
        (THREE, {"layer": "block2"}, "here a head sees 64 features"),
        (THREE, {"head_init": "random"}, "leave one of them out"),
    ],
)
def test_head_that_does_not_fit_is_rejected(y, parameters, match):
    head = quick().fit(IMAGES, THREE).head_
    y = np.minimum(y, 1) if np.ndim(y) == 2 else y
    with pytest.raises(InvalidParameterError, match=match):
        quick(head=head, **parameters).fit(IMAGES, y)


def test_head_rejects_other_objects():
    assert isinstance(quick().fit(IMAGES, THREE).head_, Head)
    with pytest.raises(InvalidParameterError, match="'linear', or the head_ of a fitted"):
        quick(head=quick().fit(IMAGES, THREE)).fit(IMAGES, THREE)


TARGETS = {
    "two classes": LABELS,
    "classes": np.arange(18) % 3,
    "labels": np.stack([np.arange(18) % 2, np.arange(18) < 5], 1).astype(int),
    "number": 1e3 + 50 * np.arange(18.0),
    "numbers": np.stack([1e3 + 50 * np.arange(18.0), -np.arange(18.0)], 1),
}


@pytest.mark.parametrize("layer", [-1, ["block1", "block3"], "all"])
@pytest.mark.parametrize("kind", TARGETS)
def test_head_and_net_take_features_as_the_backbone_gives_them(kind, layer):
    estimator = FineTuneRegressor if kind.startswith("number") else FineTuneClassifier
    fitted = estimator("tiny/cnn", layer=layer, max_epochs=1, random_state=0).fit(IMAGES, TARGETS[kind])
    features = ImageFeaturizer(fitted.backbone_, layer=layer).fit_transform(IMAGES)
    outputs = fitted.head_(features)
    assert outputs.dtype == np.float64
    if estimator is FineTuneRegressor:
        np.testing.assert_allclose(outputs.reshape(TARGETS[kind].shape), fitted.predict(IMAGES), rtol=1e-5, atol=1e-3)
        return
    decision = fitted.decision_function(IMAGES)
    np.testing.assert_allclose(outputs[:, 1] - outputs[:, 0] if decision.ndim == 1 else outputs, decision, atol=1e-4)
    by_net = fitted.net_.module_.heads["y"](torch.from_numpy(features)).detach()
    np.testing.assert_allclose(by_net, outputs, atol=1e-4)
    probabilities = by_net.sigmoid() if kind == "labels" else by_net.softmax(1)
    np.testing.assert_allclose(probabilities, fitted.predict_proba(IMAGES), atol=1e-5)


def test_head_takes_features_of_mixed_layers():
    texts, labels = make_samples("text", 16)
    clf = FineTuneClassifier("tiny/bert", layer="mix", max_epochs=1, random_state=0).fit(texts, labels)
    outputs = clf.head_(TextFeaturizer(clf.backbone_, layer="all").fit_transform(texts))
    np.testing.assert_allclose(outputs[:, 1] - outputs[:, 0], clf.decision_function(texts), atol=1e-4)


def test_net_of_a_contrastive_tuner_takes_features_as_the_backbone_gives_them():
    tuner = ContrastiveFineTuner("tiny/cnn", max_epochs=1, normalize=False, random_state=0).fit(IMAGES, LABELS)
    features = torch.from_numpy(ImageFeaturizer(tuner.backbone_).fit_transform(IMAGES))
    np.testing.assert_allclose(tuner.net_.module_.heads["y"](features), tuner.transform(IMAGES), atol=1e-5)


def test_head_rejects_features_of_another_width():
    clf = FineTuneClassifier("tiny/cnn", layer=-1, max_epochs=0).fit(IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"features have shape \(2, 3\), and Head\(.*\) takes \(n_samples, 512\)"):
        clf.head_(np.ones((2, 3)))


def test_net_points_from_samples_to_the_estimator():
    clf = FineTuneClassifier("tiny/cnn", max_epochs=0).fit(IMAGES, LABELS)
    for method in (clf.net_.predict, clf.net_.predict_proba, clf.net_.forward):
        with pytest.raises(TypeError, match="call fit, predict or predict_proba of the estimator"):
            method(np.stack(IMAGES))
