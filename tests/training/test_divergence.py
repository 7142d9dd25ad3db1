"""Diverged trainings raise if a number is not finite, and warn if the loss has grown."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.model_selection import GridSearchCV
from torch.nn import functional

from sktransfer import (
    EMA,
    ContrastiveFineTuner,
    FineTuneClassifier,
    FineTuneRegressor,
    PretrainedClassifier,
    find_lr,
    load_backbone,
)
from sktransfer.exceptions import NotFiniteError
from sktransfer.testing.samples import make_samples
from tests.helpers.toys import image_backbone

IMAGES, LABELS = make_samples("image", 24)
BRIGHTNESS = np.array([image.mean() for image in IMAGES], dtype=np.float64)
SEVERAL = np.stack([LABELS == "good", np.arange(24) % 2 == 0], 1).astype(int)
ESTIMATORS = {
    "classes": (FineTuneClassifier, LABELS),
    "labels": (FineTuneClassifier, SEVERAL),
    "numbers": (FineTuneRegressor, BRIGHTNESS),
    "pairs": (ContrastiveFineTuner, LABELS),
}
RECIPES = {
    "plain": {},
    "constant": {"lr_schedule": "constant"},
    "SGD": {"optimizer": "sgd"},
    "bfloat16": {"precision": "bfloat16"},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.25},
    "EMA": {"callbacks": [EMA(0.5)]},
    "gradual": {"unfreezing": "gradual", "max_epochs": 4},
    "L2-SP": {"l2_sp": 0.1},
    "random head": {"head_init": "random"},
}


def made(kind, **parameters):
    options = {"layer": "block3", "freeze_depth": 1, "max_epochs": 3, "batch_size": 8, "random_state": 0}
    return ESTIMATORS[kind][0](**{**options, **parameters})


def fitted(kind, **parameters):
    return made(kind, **parameters).fit(IMAGES, ESTIMATORS[kind][1])


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_fit_raises_if_the_loss_is_not_finite(kind):
    estimator = fitted(kind, max_epochs=1)
    before = dict(vars(estimator))
    with pytest.raises(NotFiniteError, match=r"the training loss of batch \d of epoch \d is (nan|inf) at lr=1e\+20"):
        estimator.set_params(lr=1e20).fit(IMAGES, ESTIMATORS[kind][1])
    assert {**vars(estimator), "lr": "auto"} == before  # the earlier fit remains


@pytest.mark.parametrize("recipe", RECIPES)
def test_fit_raises_with_each_recipe_if_the_loss_is_not_finite(recipe):
    with pytest.raises(NotFiniteError, match=r"at lr=1e\+20: the training diverged. Set lr"):
        fitted("classes", lr=1e20, **RECIPES[recipe])


@pytest.mark.parametrize(("lr", "grows"), [(0.1, True), (0.001, False)])
@pytest.mark.parametrize("shift", [0.69, 50.0])
def test_fit_warns_if_the_loss_of_a_negative_criterion_has_grown(lr, grows, shift, recwarn):
    def criterion(outputs, targets):
        return functional.cross_entropy(outputs, targets, reduction="none") - shift

    fitted("classes", lr=lr, criterion=criterion)
    found = [str(one.message) for one in recwarn if issubclass(one.category, ConvergenceWarning)]
    assert len(found) == grows
    assert all("the training loss was -" in text for text in found)


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
@pytest.mark.parametrize("lr", [0.1, 1.0])
def test_fit_warns_if_the_loss_has_grown(kind, lr):
    match = rf"was 0\.\d+ in the first batch and is [\d.e+]+ after epoch 3, at lr={lr:g}: the training diverged"
    with pytest.warns(ConvergenceWarning, match=match) as caught:
        estimator = fitted(kind, lr=lr)
    assert len(caught) == 1
    assert np.isfinite(estimator.predict_proba(IMAGES) if kind != "numbers" else estimator.predict(IMAGES)).all()


def test_fit_warns_after_a_single_step():
    with pytest.warns(ConvergenceWarning, match="after epoch 1"):
        fitted("classes", lr=1.0, max_epochs=1, batch_size=24)


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("head_init", ["probe", "random"])
def test_fit_does_not_warn_at_usual_rates(kind, head_init):
    changes = {} if kind == "pairs" else {"head_init": head_init}
    for lr in (1e-6, 1e-3):
        assert fitted(kind, lr=lr, **changes).n_iter_ == 3


def test_fit_does_not_warn_of_constant_or_heavy_tailed_targets():
    tails = np.exp(4 * np.random.default_rng(0).normal(size=24))
    for y in (np.full(24, 7.0), tails):
        assert made("numbers", lr=1e-4).fit(IMAGES, y).n_iter_ == 3


def test_partial_fit_raises_and_keeps_the_earlier_calls():
    clf = made("classes").partial_fit(IMAGES, LABELS, classes=np.unique(LABELS))
    before = clf.predict_proba(IMAGES)
    with pytest.raises(NotFiniteError):
        clf.set_params(lr=1e20).partial_fit(IMAGES, LABELS)
    np.testing.assert_array_equal(clf.predict_proba(IMAGES), before)
    assert clf.n_iter_ == 1


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_fit_in_a_grid_search_with_one_rate_that_diverges():
    search = GridSearchCV(made("classes", max_epochs=1), {"lr": [1e-4, 1e20]}, cv=2)
    with pytest.warns(FitFailedWarning, match="NotFiniteError: the training loss of batch"):
        search.fit(np.stack(IMAGES), LABELS)
    assert search.best_params_ == {"lr": 1e-4}
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]


def broken(value):
    backbone = load_backbone("tiny/cnn", weights="random")
    with torch.no_grad():
        next(backbone.stages[-1].parameters()).fill_(value)
    return backbone


def test_fit_names_weights_that_are_not_finite_from_the_start():
    options = {"layer": -1, "freeze_depth": -1, "head_init": "random", "lr": 1e-4}
    for kind, (_, y) in ESTIMATORS.items():
        chosen = {name: value for name, value in options.items() if kind != "pairs" or name != "head_init"}
        with pytest.raises(NotFiniteError, match="first batch is nan before any step"):
            made(kind, backbone=broken(float("nan")), **chosen).fit(IMAGES, y)
    with pytest.raises(NotFiniteError, match="first batch is nan before any step"):
        find_lr(made("classes", backbone=broken(float("nan")), **options), IMAGES, LABELS)


def test_predict_proba_raises_if_outputs_are_not_finite():
    clf = fitted("classes", lr=1e-4)
    with torch.no_grad():
        clf.net_.module_.heads["y"].linear.bias.fill_(float("nan"))
    for method in (clf.predict, clf.predict_proba, clf.decision_function):
        with pytest.raises(NotFiniteError, match=re.escape("of 24 of 24 samples are infinite or NaN, the first in ro")):
            method(IMAGES)
    backbone = image_backbone()
    with torch.no_grad():
        next(backbone.stages[-1].parameters()).fill_(float("nan"))
    pretrained = PretrainedClassifier(backbone)
    for method in (pretrained.predict, pretrained.predict_proba):
        with pytest.raises(NotFiniteError, match="the first in row 0"):
            method(IMAGES)
