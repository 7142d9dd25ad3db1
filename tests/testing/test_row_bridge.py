"""Rows as texts: scikit-learn's checks catch estimators of texts that are wrong about anything but X."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks as checks

from sktransfer import BestBackbone, FineTuneClassifier, TextFeaturizer
from sktransfer.testing import rows_as_texts
from sktransfer.testing.row_bridge import render_rows

X = np.random.default_rng(0).normal(size=(12, 3))
Y = (X[:, 0] > 0).astype(int)


class Wrong(FineTuneClassifier):
    def __init__(self, backbone="tiny/bert", *, class_weight=None, freeze_depth="all", max_epochs=0, random_state=0):
        super().__init__(
            backbone,
            class_weight=class_weight,
            freeze_depth=freeze_depth,
            max_epochs=max_epochs,
            random_state=random_state,
        )


class Right(Wrong):
    pass


class OverwritesWeights(Wrong):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        if isinstance(sample_weight, np.ndarray):
            sample_weight /= sample_weight.sum()
        return self


class RefusesListOfWeights(Wrong):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y, None if sample_weight is None else sample_weight.astype(float))


class CutsWeights(Wrong):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y, None if sample_weight is None else np.resize(sample_weight, len(X)))


class TakesWeightsOfZero(Wrong):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y, None if sample_weight is None else np.asarray(sample_weight) + 1e-3)


class IgnoresClassWeight(Wrong):
    def fit(self, X, y, sample_weight=None):
        given, self.class_weight = self.class_weight, None
        super().fit(X, y, sample_weight)
        self.class_weight = given
        return self


class TakesContinuousTargets(Wrong):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, np.asarray(y).astype(str), sample_weight)


class TakesColumn(Wrong):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, np.ravel(y), sample_weight)


class DecidesAgainstProbabilities(Wrong):
    def decision_function(self, X):
        return -super().decision_function(X)


class TagOfAnotherType(Wrong):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = "yes"
        return tags


class SetsOtherParams(Wrong):
    def set_params(self, **params):
        return super().set_params(**{name: value for name, value in params.items() if value is not None})


WRONG = [
    (OverwritesWeights, checks.check_sample_weights_not_overwritten),
    (RefusesListOfWeights, checks.check_sample_weights_list),
    (CutsWeights, checks.check_sample_weights_shape),
    (TakesWeightsOfZero, checks.check_all_zero_sample_weights_error),
    (IgnoresClassWeight, checks.check_class_weight_classifiers),
    (TakesContinuousTargets, checks.check_classifiers_regression_target),
    (TakesColumn, checks.check_supervised_y_2d),
    (DecidesAgainstProbabilities, checks.check_decision_proba_consistency),
    (TagOfAnotherType, checks.check_valid_tag_types),
    (SetsOtherParams, checks.check_set_params),
]


@pytest.mark.parametrize(("cls", "check"), WRONG, ids=lambda value: value.__name__)
def test_rows_as_texts_lets_checks_of_scikit_learn_catch(cls, check):
    yielded = {case.func if hasattr(case, "func") else case for _, case in all_checks(cls())}
    assert check in yielded
    check("Right", rows_as_texts(Right()))
    with pytest.raises((AssertionError, AttributeError, ValueError)):
        check(cls.__name__, rows_as_texts(cls()))


def all_checks(estimator):
    return checks.estimator_checks_generator(rows_as_texts(estimator))


def test_rows_as_texts_keeps_parameters_and_gives_the_same_results():
    bridge = rows_as_texts(TextFeaturizer(layer=1, cache=None))
    assert bridge.get_params() == TextFeaturizer(layer=1, cache=None).get_params()
    expected = TextFeaturizer(layer=1, cache=None).fit_transform(render_rows(X))
    assert np.array_equal(clone(bridge).fit_transform(X), expected)
    frame = pd.DataFrame(X, columns=list("abc"))
    assert np.array_equal(bridge.fit(frame).transform(frame), expected)
    assert bridge.n_features_in_ == 3
    assert list(bridge.feature_names_in_) == list("abc")
    assert type(bridge).__name__ == "TextFeaturizerOfRows"
    assert np.array_equal(pickle.loads(pickle.dumps(bridge)).transform(frame), expected)


def test_rows_as_texts_checks_rows():
    bridge = rows_as_texts(Right())
    with pytest.raises(NotFittedError):
        bridge.predict(X)
    bridge.fit(X, Y)
    with pytest.raises(ValueError, match="X has 2 features, but RightOfRows is expecting 3"):
        bridge.predict(X[:, :2])
    with pytest.raises(ValueError, match="X has 2 features"):
        bridge.partial_fit(X[:, :2], Y)
    with pytest.raises(ValueError, match="contains NaN"):
        bridge.fit(np.where(X > 1, np.nan, X), Y)


def test_rows_as_texts_has_only_the_methods_that_the_estimator_has():
    featurizer, best = rows_as_texts(TextFeaturizer()), rows_as_texts(BestBackbone(["tiny/bert"]))
    assert not hasattr(featurizer, "predict")
    assert hasattr(best, "predict") == hasattr(BestBackbone(["tiny/bert"]), "predict")


def test_rows_as_texts_works_in_meta_estimators():
    members = [("texts", rows_as_texts(Right())), ("numbers", LogisticRegression())]
    voted = make_pipeline(VotingClassifier(members, voting="soft")).fit(X, Y)
    assert voted.predict(X).shape == (12,)


def test_render_rows_keeps_the_order_of_numbers():
    sentences = render_rows(np.arange(-9, 9)[:, None])
    assert sentences == sorted(sentences)
    assert render_rows(np.array([[-100.0, 100.0]])) == ["w0a w1z"]
