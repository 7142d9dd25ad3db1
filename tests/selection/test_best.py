"""BestBackbone: the choice inside each fold, and scikit-learn's contract."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from sktransfer import BestBackbone, ImageFeaturizer, TextFeaturizer, load_backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.feature_scores import logme
from sktransfer.testing import parametrize_with_transfer_checks
from sktransfer.testing.samples import make_samples

TEXTS, LABELS = make_samples("text", 24)
X, y = load_digits(return_X_y=True)
X, y = X[:150] / 16, y[:150]


def test_fit_chooses_the_layer_of_the_highest_score_and_fits_the_estimator_on_its_features():
    random = load_backbone("tiny/cnn", weights="random")
    best = BestBackbone([random, "tiny/cnn"], metric="logme").fit(X, y)
    names = load_backbone("tiny/cnn").stage_names
    scores = {name: logme(ImageFeaturizer(layer=name).fit_transform(X), y) for name in names}
    assert best.best_backbone_ == "tiny/cnn"
    assert best.best_layer_ == max(scores, key=scores.get)
    assert best.best_score_ == pytest.approx(max(scores.values()), rel=1e-6)
    assert len(best.ranking_) == 2 * len(names)
    assert best.ranking_["logme"].is_monotonic_decreasing
    features = ImageFeaturizer(layer=best.best_layer_).fit_transform(X)
    by_hand = LogisticRegression(max_iter=1000).fit(features, y)
    np.testing.assert_allclose(best.predict_proba(X), by_hand.predict_proba(features), atol=1e-5)
    assert best.score(X, y) == by_hand.score(features, y)
    assert best.classes_.tolist() == list(range(10))


def test_fit_chooses_by_its_own_samples_alone():
    rng = np.random.default_rng(0)
    noise = rng.permutation(y[:60])
    fold = BestBackbone().fit(X[:60], noise)
    assert fold.best_score_ == pytest.approx(
        logme(ImageFeaturizer(layer=fold.best_layer_).fit_transform(X[:60]), noise), rel=1e-6
    )
    scores = cross_val_score(BestBackbone(layers=["block1", "block4"]), X, y, cv=3, error_score="raise")
    assert scores.min() > 0.6


def test_grid_search_over_layers_metric_and_estimator_parameters():
    grid = {"metric": ["logme", "knn"], "layers": ["last", [1, "block4"]], "estimator__C": [0.1, 1.0]}
    search = GridSearchCV(BestBackbone(estimator=LogisticRegression(max_iter=500)), grid, cv=2, error_score="raise")
    search.fit(X[:80], y[:80])
    assert search.best_estimator_.best_layer_ in ("top", "block1", "block4")


def test_estimator_decides_the_estimator_type_and_the_methods():
    assert is_classifier(BestBackbone())
    assert is_regressor(BestBackbone(estimator=Ridge()))
    assert not hasattr(BestBackbone(estimator=Ridge()), "predict_proba")
    assert hasattr(BestBackbone(estimator=LinearSVC()), "decision_function")
    whole = BestBackbone(metric="logme", estimator=Ridge(), layers=["block4"]).fit(X, y)
    assert whole.predict(X).dtype.kind == "f"
    numbers = y + 0.0
    features = ImageFeaturizer(layer="block4").fit_transform(X)
    assert whole.best_score_ == pytest.approx(logme(features, numbers, target="numbers"), rel=1e-5)


def test_fit_on_texts_and_on_several_labels_per_sample():
    clf = BestBackbone(["tiny/bert"], metric="knn").fit(TEXTS, LABELS)
    assert clf.score(TEXTS, LABELS) == 1
    assert clf.best_layer_ in load_backbone("tiny/bert").stage_names
    features = TextFeaturizer(layer=clf.best_layer_).fit_transform(TEXTS)
    assert clf.estimator_.n_features_in_ == features.shape[1]
    from sklearn.multioutput import MultiOutputClassifier

    both = np.stack([LABELS == "good", np.arange(24) < 12], axis=1).astype(int)
    several = BestBackbone(["tiny/bert"], metric="logme", estimator=MultiOutputClassifier(LogisticRegression()))
    assert several.fit(TEXTS, both).predict(TEXTS).shape == (24, 2)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"metric": "hscore"}, "Did you mean 'h_score'"),
        ({"metric": "leep"}, "metric='leep' judges heads"),
        ({"candidates": []}, r"candidates=\[\] must be a list"),
        ({"layers": "first"}, "layers='first'"),
        ({"metric": "h_score", "estimator": Ridge()}, "none is defined for y that holds continuous targets"),
        ({"device": "gpu"}, "device"),
    ],
)
def test_fit_checks_parameters(parameters, match):
    with pytest.raises(InvalidParameterError, match=match):
        BestBackbone(**parameters).fit(X, y)


def test_sample_weight_reaches_the_estimator_with_and_without_metadata_routing():
    weight = np.where(y < 5, 1.0, 0.0)
    plain = BestBackbone(layers=["block4"]).fit(X, y, sample_weight=weight)
    assert set(plain.predict(X)) <= set(range(5))
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = LogisticRegression(max_iter=1000).set_fit_request(sample_weight=True)
        routed = BestBackbone(layers=["block4"], estimator=estimator).fit(X, y, sample_weight=weight)
        np.testing.assert_array_equal(routed.predict(X), plain.predict(X))


def test_clone_keeps_candidates_and_drops_fitted_attributes():
    fitted = BestBackbone([load_backbone("tiny/cnn")], layers="last").fit(X, y)
    fresh = clone(fitted)
    assert fresh.candidates[0] is fitted.candidates[0]
    assert not hasattr(fresh, "estimator_")


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.FlatImageWarning")
@pytest.mark.filterwarnings("ignore:Ill-conditioned matrix")
@parametrize_with_checks(
    [BestBackbone(layers=["stem", "block1"]), BestBackbone(metric="knn", estimator=Ridge(), layers=["top"])]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@parametrize_with_transfer_checks([BestBackbone(), BestBackbone(["tiny/bert"], metric="logme")])
def test_transfer_checks(estimator, check):
    check(estimator)
