"""Every estimator of scikit-learn: saved and loaded, loaded with `trusted=`, or refused."""

from __future__ import annotations

import ast
import re
import warnings

import numpy as np
import pytest
from sklearn import config_context
from sklearn.cluster import Birch
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401
from sklearn.feature_selection import SelectKBest, mutual_info_classif
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, DotProduct, WhiteKernel
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import all_estimators
from sklearn.utils._test_common.instance_generator import _construct_instances

from sktransfer import TextFeaturizer, load, save
from sktransfer.exceptions import LoadError, SaveError
from tests.helpers.saved_estimators import MOODS, TEXTS

TREE = ["sklearn.tree._tree.Tree"]
HISTOGRAM_TREE = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
NEIGHBOUR_TREE = ["sklearn.metrics._dist_metrics.EuclideanDistance64", "sklearn.neighbors._kd_tree.KDTree"]
SPLINE = ["scipy._lib.array_api_compat.numpy._aliases.asarray", "scipy.interpolate._bsplines.BSpline"]
SPLINE += ["scipy.interpolate._bsplines._BSpline"]  # of newer versions of SciPy
TRUSTED = {
    **dict.fromkeys(["AdaBoostClassifier", "AdaBoostRegressor", "BaggingClassifier", "BaggingRegressor"], TREE),
    **dict.fromkeys(["DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier"], TREE),
    **dict.fromkeys(["ExtraTreeRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor", "IsolationForest"], TREE),
    **dict.fromkeys(["GradientBoostingClassifier", "GradientBoostingRegressor", "RandomForestClassifier"], TREE),
    **dict.fromkeys(["RandomForestRegressor", "RandomTreesEmbedding", "StackingClassifier"], TREE),
    **dict.fromkeys(["StackingRegressor", "VotingClassifier", "VotingRegressor"], TREE),
    **dict.fromkeys(["HistGradientBoostingClassifier", "HistGradientBoostingRegressor"], HISTOGRAM_TREE),
    **dict.fromkeys(["KNeighborsClassifier", "KNeighborsRegressor", "KNeighborsTransformer"], NEIGHBOUR_TREE),
    **dict.fromkeys(["RadiusNeighborsClassifier", "RadiusNeighborsRegressor"], NEIGHBOUR_TREE),
    **dict.fromkeys(["RadiusNeighborsTransformer", "NearestNeighbors", "Isomap"], NEIGHBOUR_TREE),
    **dict.fromkeys(["KernelDensity", "LocallyLinearEmbedding"], NEIGHBOUR_TREE),
    "SplineTransformer": SPLINE,
}
REFUSED = {"Birch"}


def instances():
    for name, cls in all_estimators():
        yield name, LogisticRegression() if cls is FrozenEstimator else next(iter(_construct_instances(cls)))


def fit(estimator):
    """Fit an estimator on the first kind of data that it takes. Return it, the data and its outputs."""
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)
    X = np.random.default_rng(0).random((30, 4))
    y = (X[:, 0] > 0.5).astype(int)
    for given in (
        (X, y),
        (X, X[:, 1] + 1),
        (X, np.stack([y, 1 - y], axis=1)),
        (X[:, 0], X[:, 1]),
        (X[:, :3],),
        (np.resize(X, (2, 12, 12)),),
        (X @ X.T,),
        (["the first text", "the second"] * 10,),
        ([{"a": 1}, {"b": 2}] * 10,),
    ):
        try:
            return estimator.fit(*given), given[0], outputs(estimator, given[0])
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            failed = error
    raise failed


def outputs(estimator, X):
    for method in ("predict", "transform", "score_samples"):
        if hasattr(estimator, method):
            return getattr(estimator, method)(X)
    return [vars(estimator)[name] for name in sorted(vars(estimator)) if name in ("labels_", "embedding_")]


def same(one, other):
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    one, other = (value.toarray() if hasattr(value, "toarray") else np.asarray(value) for value in (one, other))
    if one.dtype.kind != "f":
        return np.array_equal(one, other)
    return np.allclose(one, other, rtol=1e-12, atol=1e-12, equal_nan=True)  # sums depend on the alignment of arrays


@pytest.mark.filterwarnings("ignore")
def test_save_and_load_every_estimator_of_scikit_learn(tmp_path):
    refused, trusted, different = {}, {}, set()
    for name, estimator in instances():
        estimator, X, expected = fit(estimator)
        if name == "FrozenEstimator":
            estimator = FrozenEstimator(estimator)
        try:
            save(estimator, tmp_path / "one.skt")
        except SaveError as error:
            refused[name] = str(error)
            continue
        try:
            again = load(tmp_path / "one.skt")
        except LoadError as error:
            trusted[name] = str(error)
            again = load(tmp_path / "one.skt", trusted=TRUSTED.get(name, []))
        if not same(outputs(again, X), expected):
            different.add(name)
    assert refused.keys() == REFUSED
    assert all(f"{name}, a {name}, cannot be saved" in message for name, message in refused.items())
    assert trusted.keys() == TRUSTED.keys()
    for name, message in trusted.items():  # older versions of scipy hold fewer types
        proposed = ast.literal_eval(re.search(r"load\(path, trusted=(\[.*\])\)", message)[1])
        assert proposed
        assert set(proposed) <= set(TRUSTED[name])
    assert different == set()


@pytest.mark.parametrize(
    ("last", "trusted"),
    [
        (HistGradientBoostingClassifier(max_iter=2, max_features=0.5, random_state=0), HISTOGRAM_TREE),
        (make_pipeline(SelectKBest(mutual_info_classif, k=3), LogisticRegression()), []),
        (GaussianProcessClassifier(1.0 * RBF() + WhiteKernel() + DotProduct() ** 2), []),
        (StackingClassifier([("forest", RandomForestClassifier(2))], cv=2), TREE),
        (GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_save_and_load_estimators_of_scikit_learn_behind_a_featurizer(last, trusted, tmp_path):
    pipeline = make_pipeline(TextFeaturizer(layer=-1), last).fit(TEXTS, MOODS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save(pipeline, tmp_path / "one.skt")
    messages = [str(warning.message) for warning in caught]
    if trusted:
        step = type(last).__name__.lower()
        assert f"Pipeline.steps['{step}']" in messages[0]
        assert f"load(path, trusted={trusted})" in messages[0]
    else:
        assert messages == []
    again = load(tmp_path / "one.skt", trusted=trusted)
    assert np.array_equal(again.predict_proba(TEXTS), pipeline.predict_proba(TEXTS))


def test_save_continues_the_generator_of_a_fitted_estimator(tmp_path):
    X = np.random.default_rng(0).random((60, 3))
    booster = HistGradientBoostingRegressor(max_iter=3, warm_start=True, max_features=0.5, random_state=0)
    booster.fit(X, X[:, 0])
    with pytest.warns(match="trusted="):
        save(booster, tmp_path / "one.skt")
    again = load(tmp_path / "one.skt", trusted=HISTOGRAM_TREE).set_params(max_iter=6).fit(X, X[:, 0])
    assert np.array_equal(again.predict(X), booster.set_params(max_iter=6).fit(X, X[:, 0]).predict(X))


def test_save_keeps_requests_of_metadata(tmp_path):
    with config_context(enable_metadata_routing=True):
        last = LogisticRegression().set_fit_request(sample_weight="weight").set_score_request(sample_weight=False)
        save(make_pipeline(TextFeaturizer(), last), tmp_path / "one.skt")
        again = load(tmp_path / "one.skt")[-1]
        assert again.get_metadata_routing().fit.requests == {"sample_weight": "weight"}
        assert again.get_metadata_routing().score.requests == {"sample_weight": False}


def test_save_keeps_distributions_of_a_search(tmp_path):
    from scipy.stats import loguniform, randint

    search = RandomizedSearchCV(LogisticRegression(), {"C": loguniform(0.1, 1), "max_iter": randint(50, 90)}, n_iter=2)
    save(search, tmp_path / "one.skt")
    again = load(tmp_path / "one.skt").param_distributions
    assert again["C"].rvs(3, random_state=0).tolist() == loguniform(0.1, 1).rvs(3, random_state=0).tolist()
    assert again["max_iter"].support() == (50, 89)


def test_save_error_names_the_step(tmp_path):
    pipeline = make_pipeline(TextFeaturizer(), Birch(n_clusters=2)).fit(TEXTS)
    with pytest.raises(SaveError, match=r"Pipeline.steps\['birch'\], a Birch, cannot be saved .*joblib.dump"):
        save(pipeline, tmp_path / "one.skt")
