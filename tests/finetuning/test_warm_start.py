"""Fits that go on from what an earlier one has left."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from sktransfer import FineTuneClassifier, FineTuneRegressor, load_backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.small_bert import small_bert

IMAGES, LABELS = make_samples("image", 24)
TEXTS, _ = make_samples("text", 24)
BERT = "hf/" + small_bert()
THREE = np.array(["a", "b", "c"])[np.arange(24) % 3]


def quick(cls=FineTuneClassifier, **parameters):
    return cls(**{"max_epochs": 1, "random_state": 0, **parameters})


def states(backbone):
    return [[value.clone() for value in stage.state_dict().values()] for stage in backbone.stages]


def changed(before, after):
    return [any(not one.equal(other) for one, other in zip(*pair)) for pair in zip(before, after)]


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_warm_start_resumes_from_backbone_and_head(weights):
    warm = quick(warm_start=True, weights=weights, freeze_depth=-2, lr=1e-3).fit(IMAGES, LABELS)
    first, before = states(warm.backbone_), warm.predict_proba(IMAGES)
    warm.set_params(max_epochs=0).fit(IMAGES, LABELS)
    np.testing.assert_allclose(warm.predict_proba(IMAGES), before, atol=1e-5)
    warm.set_params(max_epochs=2, random_state=1, freeze_depth=-1).fit(IMAGES, LABELS)
    assert changed(first, states(warm.backbone_)) == [False] * 6 + [True]  # what is frozen now stays as it was tuned
    assert changed(states(load_backbone("tiny/cnn")), states(warm.backbone_))[5]
    assert len(warm.history_) == warm.n_iter_ == 2


@pytest.mark.filterwarnings("ignore:the training loss was:sklearn.exceptions.ConvergenceWarning")
def test_warm_start_false_and_clone_start_from_the_beginning():
    cold = quick(layer=-1, lr=1e-2).fit(IMAGES, LABELS)
    before = cold.decision_function(IMAGES)
    np.testing.assert_array_equal(cold.fit(IMAGES, LABELS).decision_function(IMAGES), before)
    warm = quick(layer=-1, lr=1e-2, warm_start=True).fit(IMAGES, LABELS)
    np.testing.assert_array_equal(warm.decision_function(IMAGES), before)
    assert np.abs(warm.fit(IMAGES, LABELS).decision_function(IMAGES) - before).max() > 1e-2
    np.testing.assert_array_equal(clone(warm).fit(IMAGES, LABELS).decision_function(IMAGES), before)


def test_warm_start_of_a_regressor_keeps_the_units():
    y = np.arange(24.0)
    warm = quick(FineTuneRegressor, warm_start=True, max_epochs=3).fit(IMAGES, y)
    before = warm.predict(IMAGES)
    warm.set_params(max_epochs=0).fit(IMAGES, 100 - 3 * y)
    np.testing.assert_allclose(warm.predict(IMAGES), before, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    ("changes", "y", "match"),
    [
        ({}, THREE, "for the same classes can be continued"),
        ({"layer": "block2"}, LABELS, "restore these parameters"),
        ({"pooling": "grid2"}, LABELS, "does not fit"),
    ],
)
def test_warm_start_rejects_other_classes_layer_or_pooling(changes, y, match):
    warm = quick(warm_start=True).fit(IMAGES, LABELS)
    with pytest.raises(InvalidParameterError, match=match):
        warm.set_params(**changes).fit(IMAGES, y)


@pytest.mark.parametrize(("backbone", "X"), [("tiny/cnn", IMAGES), (BERT, TEXTS)], ids=["images", "texts"])
def test_partial_fit_learns_from_batches_that_lack_classes(backbone, X):
    clf = quick(backbone=backbone, lr=1e-3, head_lr=1e-2)
    for _ in range(15):
        for start in range(0, 24, 8):
            rows = [row for row in range(start, start + 8) if start or LABELS[row] == "good"]
            clf.partial_fit([X[row] for row in rows], LABELS[rows], classes=["bad", "good"])
    assert clf.classes_.tolist() == ["bad", "good"]
    assert clf.score(X, LABELS) > 0.8
    assert clf.n_iter_ == len(clf.history_) == 45
    assert clf.history_.index.tolist() == list(range(1, 46))


def test_partial_fit_draws_a_new_but_reproducible_seed_per_call():
    def run():
        clf = quick(backbone=BERT, freeze_depth=1, lr=1e-3, batch_size=4)
        return [clf.partial_fit(TEXTS, LABELS, classes=["bad", "good"]).predict_proba(TEXTS) for _ in range(3)]

    for one, other in zip(run(), run()):
        np.testing.assert_array_equal(one, other)
    clf = FineTuneClassifier(random_state=0)
    seeds = {clf.partial_fit(IMAGES, LABELS, classes=["bad", "good"]).net_.seed for _ in range(3)}
    assert len(seeds) == 3


def test_partial_fit_keeps_optimizer_state_also_after_pickling():
    options = {"freeze_depth": "all", "head_lr": 1e-2}
    whole = quick(**options)
    for _ in range(2):
        whole.partial_fit(IMAGES, LABELS, classes=["bad", "good"])
    steps = [float(state["step"]) for state in whole.net_.optimizer_.state.values()]
    assert steps == [2.0, 2.0]
    halves = quick(**options).partial_fit(IMAGES, LABELS, classes=["bad", "good"])
    halves = pickle.loads(pickle.dumps(halves)).partial_fit(IMAGES, LABELS)
    np.testing.assert_array_equal(halves.predict_proba(IMAGES), whole.predict_proba(IMAGES))
    changed = halves.set_params(freeze_depth=-1).partial_fit(IMAGES, LABELS)  # other parameters: the momenta are new
    assert {float(state["step"]) for state in changed.net_.optimizer_.state.values()} == {1.0}
    assert not quick().fit(IMAGES, LABELS).net_.optimizer_.state


def test_partial_fit_of_a_regressor_keeps_the_first_scale():
    reg = quick(FineTuneRegressor)
    reg.partial_fit(IMAGES, np.arange(24.0))
    reg.partial_fit(IMAGES[:2], [1000.0, 1001.0])
    assert reg._tasks["y"].shift == pytest.approx([11.5])
    with pytest.raises(ValueError, match="1 outputs"):
        reg.partial_fit(IMAGES, np.zeros((24, 2)))


@pytest.mark.parametrize(
    ("parameters", "match"), [({"early_stopping": True}, "early_stopping"), ({"unfreezing": "gradual"}, "unfreezing")]
)
def test_partial_fit_rejects_early_stopping_and_unfreezing(parameters, match):
    with pytest.raises(InvalidParameterError, match=f"{match}.*or call fit"):
        quick(**parameters).partial_fit(IMAGES, LABELS, classes=["bad", "good"])


def test_partial_fit_requires_classes_in_the_first_call_and_keeps_them():
    with pytest.raises(ValueError, match="needs classes"):
        quick().partial_fit(IMAGES, LABELS)
    clf = quick().partial_fit(IMAGES, LABELS, classes=["bad", "good"])
    with pytest.raises(ValueError, match="not those of the first call"):
        clf.partial_fit(IMAGES, LABELS, classes=["bad", "worse"])
    with pytest.raises(ValueError, match="y holds"):
        clf.partial_fit(IMAGES, THREE)
    fitted = quick().fit(IMAGES, LABELS).partial_fit(IMAGES[:3], LABELS[:3])  # a fit is a first call
    assert isinstance(fitted.history_, pd.DataFrame)
    assert fitted.n_iter_ == 2
