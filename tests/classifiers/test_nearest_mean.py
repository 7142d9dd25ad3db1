"""NearestClassMean: scikit-learn's checks, its definition, and cases in which NearestCentroid fails."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sktransfer import NearestClassMean, TextFeaturizer
from sktransfer.exceptions import InvalidParameterError

rng = np.random.default_rng(0)
X = rng.normal(size=(30, 20)) + np.repeat(np.eye(3, 20), 10, axis=0) * 3
y = np.repeat(["a", "b", "c"], 10)


@parametrize_with_checks([NearestClassMean()])
def test_sklearn_checks(estimator, check):
    check(estimator)


def test_decision_function_is_the_scaled_cosine_with_the_mean_of_unit_vectors():
    clf = NearestClassMean(scale=5.0).fit(X, y)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    means = np.stack([unit[y == label].mean(0) for label in "abc"])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(clf.means_, means)
    np.testing.assert_allclose(clf.decision_function(X), 5 * unit @ means.T)
    assert clf.score(X, y) > 0.9


def test_predict_proba_with_one_sample_per_class_unlike_nearest_centroid():
    few = X[[0, 10, 20]], y[[0, 10, 20]]
    probabilities = NearestClassMean().fit(*few).predict_proba(X)
    assert np.isfinite(probabilities).all()
    with pytest.warns(RuntimeWarning):
        theirs = NearestCentroid().fit(*few)
    with pytest.raises(ValueError, match="NaN"):
        theirs.predict_proba(X)


def test_predict_agrees_with_predict_proba_unlike_nearest_centroid():
    few = X[::5], y[::5]  # two samples per class
    ours, theirs = NearestClassMean().fit(*few), NearestCentroid().fit(*few)
    assert (ours.classes_[ours.predict_proba(X).argmax(1)] == ours.predict(X)).all()
    assert (theirs.classes_[theirs.predict_proba(X).argmax(1)] != theirs.predict(X)).any()


def test_scale_sharpens_predict_proba_and_keeps_predict():
    unsure, sure = (NearestClassMean(scale=scale).fit(X, y) for scale in (1.0, 50.0))
    assert sure.predict_proba(X).max(1).mean() > unsure.predict_proba(X).max(1).mean() + 0.2
    assert (sure.predict(X) == unsure.predict(X)).all()
    with pytest.raises(InvalidParameterError, match="scale=0"):
        NearestClassMean(scale=0).fit(X, y)


def test_sample_weight_repeats_samples_and_drops_classes_of_zero_weight():
    twice = NearestClassMean().fit(np.concatenate([X, X[:5]]), np.concatenate([y, y[:5]]))
    weighted = NearestClassMean().fit(X, y, sample_weight=1.0 + (np.arange(30) < 5))
    np.testing.assert_allclose(weighted.means_, twice.means_)
    assert NearestClassMean().fit(X, y, sample_weight=(y != "b") * 1.0).classes_.tolist() == ["a", "c"]
    with pytest.raises(ValueError, match="one class only"):
        NearestClassMean().fit(X, y, sample_weight=(y == "b") * 1.0)


@pytest.mark.parametrize("to", [list, np.array, pd.Series, lambda X: pd.DataFrame({"text": X})])
def test_fit_names_a_featurizer_for_texts(to):
    texts = to(["a good film", "a bad film"])
    with pytest.raises(ValueError, match=r"X holds strings, such as 'a good film', .*TextFeaturizer\(\)"):
        NearestClassMean().fit(texts, ["up", "down"])
    assert make_pipeline(TextFeaturizer(), NearestClassMean()).fit(texts, ["up", "down"]).predict(texts)[0] == "up"


def test_fit_names_a_missing_label():
    with pytest.raises(ValueError, match=r"y\[2\] is None: 1 of 3 samples has no label"):
        NearestClassMean().fit(np.eye(3), ["a", "b", None])
