"""Checks of estimators: each wrong estimator fails the check meant for it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sktransfer import FineTuneClassifier, ImageFeaturizer, TextFeaturizer
from sktransfer.testing import check_transfer_estimator, estimator_checks
from sktransfer.testing.samples import make_samples
from tests.helpers.small_bert import small_bert

BERT = "hf/" + small_bert()


class NoCheckIsFitted(ImageFeaturizer):
    def transform(self, X):
        if not hasattr(self, "backbone_"):
            return np.zeros((len(X), 1), np.float32)
        return super().transform(X)


class ChangesParameter(ImageFeaturizer):
    def fit(self, X, y=None):
        self.layer = 0
        return super().fit(X)


class Remembers(ImageFeaturizer):
    def fit(self, X, y=None):
        self.n_fits_ = getattr(self, "n_fits_", 0) + 1
        return super().fit(X)

    def transform(self, X):
        return super().transform(X) * self.n_fits_


class DependsOnNeighbours(ImageFeaturizer):
    def transform(self, X):
        features = super().transform(X)
        return features - features.mean(0)


class IgnoresMissing(TextFeaturizer):
    def _check(self, X, *, reset):
        return super()._check(["" if not isinstance(x, str) else x for x in X], reset=reset)


class CannotBePickled(ImageFeaturizer):
    def fit(self, X, y=None):
        self.lock_ = threading.Lock()
        return super().fit(X)


class SeedsGlobally(ImageFeaturizer):
    def fit(self, X, y=None):
        torch.manual_seed(0)
        return super().fit(X)


class DoubleFeatures(ImageFeaturizer):
    def _features(self, *args, **options):
        features, widths = super()._features(*args, **options)
        return features.astype(np.float64), widths


class LosesLabels(FineTuneClassifier):
    def predict(self, X):
        return np.arange(len(self.classes_))[self._outputs(X).argmax(1)]


class AddsFirstColumn(FineTuneClassifier):
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        return super().partial_fit([row[0] for row in X] if np.ndim(X) == 2 else X, y)


class TakesOneClass(FineTuneClassifier):
    def fit(self, X, y, sample_weight=None):
        return self if len(set(y)) == 1 else super().fit(X, y, sample_weight)


class IgnoresWeights(FineTuneClassifier):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y)


WRONG = [
    (NoCheckIsFitted(), "check_unfitted"),
    (ChangesParameter(), "check_fit_returns_self"),
    (Remembers(), "check_fit_twice"),
    (DependsOnNeighbours(), "check_rows_are_independent"),
    (IgnoresMissing(BERT), "check_missing"),
    (CannotBePickled(), "check_pickle"),
    (SeedsGlobally(), "check_global_state"),
    (DoubleFeatures(), "check_features"),
    (AddsFirstColumn("tiny/bert", max_epochs=0), "check_columns"),
    (LosesLabels(max_epochs=0), "check_labels"),
    (TakesOneClass(max_epochs=0), "check_one_class"),
    (IgnoresWeights(max_epochs=0), "check_sample_weight"),
]


@pytest.mark.parametrize(("estimator", "name"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_estimator_checks_fail_for_wrong_estimators(estimator, name):
    X, y = make_samples(estimator_checks._modality(estimator))
    with pytest.raises((AssertionError, TypeError)):
        getattr(estimator_checks, name)(estimator, X, y)


def test_expected_failed_checks_are_strict():
    wrong = DoubleFeatures()
    results = check_transfer_estimator(wrong, expected_failed_checks={"check_features": "for the test"})
    assert {r["check_name"]: r["status"] for r in results}["check_features"] == "xfail"
    with pytest.raises(AssertionError, match="remove it from expected_failed_checks"):
        check_transfer_estimator(clone(ImageFeaturizer()), expected_failed_checks={"check_repr": "not so"})


def test_yield_transfer_checks_state_how_to_fix_a_failure():
    for estimator in (ImageFeaturizer(), FineTuneClassifier()):
        for check in estimator_checks.yield_transfer_checks(estimator):
            assert len(check.__doc__) > 40
            assert "To fix: " in check.__doc__, check
