"""Trainings in several threads of one process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

from sktransfer import Backbone, FineTuneClassifier, ImageFeaturizer, find_lr
from sktransfer.backbones.generators import fork_rng

X = np.random.default_rng(0).random((24, 8, 8, 3), np.float32)
Y = np.arange(24) % 2
MODULES = [
    ("stem", nn.Conv2d(3, 4, 3, 2)),
    ("top", nn.Sequential(nn.Dropout(0.5), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Dropout(0.5))),
]


@pytest.fixture(scope="module")
def backbone():
    return Backbone.from_modules(MODULES, input_size=(8, 8))


def quick(backbone, **parameters):
    options = {"freeze_depth": 1, "head_init": "random", "max_epochs": 3, "batch_size": 4, "lr": 1e-3}
    options.update({"random_state": 0, **parameters})
    return FineTuneClassifier(backbone, **options)


def outputs(backbone, seed=0, **parameters):
    return quick(backbone, random_state=seed, **parameters).fit(X, Y).predict_proba(X)


def test_fit_in_threads_equals_fit_one_after_the_other(backbone):
    alone = outputs(backbone)
    assert not np.array_equal(alone, outputs(backbone, seed=1))
    before = torch.get_rng_state()
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda seed: outputs(backbone, seed), [0, 1, 0, 0]))
    assert [np.array_equal(alone, one) for one in together] == [True, False, True, True]
    assert torch.equal(before, torch.get_rng_state())


def test_fit_with_augment_in_threads_equals_fit_alone(backbone):
    alone = outputs(backbone, augment="light")
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda _: outputs(backbone, augment="light"), range(2)))
    assert all(np.array_equal(alone, one) for one in together)


def test_fit_in_a_search_with_threads_equals_one_without(backbone):
    search = GridSearchCV(quick(backbone), {"lr": [1e-4, 1e-3]}, cv=2, scoring="neg_log_loss")
    alone = search.fit(X, Y).cv_results_["mean_test_score"]
    with joblib.parallel_backend("threading", n_jobs=2):
        together = search.fit(X, Y).cv_results_["mean_test_score"]
    assert np.array_equal(alone, together)


def test_find_lr_in_threads_equals_find_lr_alone(backbone):
    alone = find_lr(quick(backbone), X, Y, n_steps=8)
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda _: find_lr(quick(backbone), X, Y, n_steps=8), range(2)))
    assert [one.lr for one in together] == [alone.lr] * 2
    assert all(one.curve.equals(alone.curve) for one in together)


class FitsAnother(Callback):
    def __init__(self, backbone):
        self.backbone, self.outputs = backbone, []

    def on_epoch_end(self, net, **arguments):
        self.outputs.append(outputs(self.backbone, max_epochs=1))


def test_fit_in_a_callback_does_not_wait_for_the_fit_around_it(backbone):
    clf = quick(backbone, callbacks=[FitsAnother(backbone)]).fit(X, Y)
    assert np.array_equal(clf.predict_proba(X), outputs(backbone))
    assert np.array_equal(dict(clf.net_.callbacks_)["FitsAnother"].outputs[-1], outputs(backbone, max_epochs=1))


def test_fit_and_transform_of_frozen_stages_and_predict_do_not_wait_for_a_training(backbone):
    fitted = quick(backbone, layer=-1).fit(X, Y)
    expected = fitted.predict_proba(X), ImageFeaturizer(backbone).fit_transform(X)

    def use():
        fitted.head_(np.zeros((2, 5)))
        return fitted.predict_proba(X), ImageFeaturizer(backbone, cache=None).fit_transform(X)

    with fork_rng(), ThreadPoolExecutor(1) as pool:
        before = torch.get_rng_state()
        given = pool.submit(use).result(timeout=60)
        assert torch.equal(before, torch.get_rng_state())
    assert all(np.array_equal(one, other) for one, other in zip(given, expected, strict=True))
