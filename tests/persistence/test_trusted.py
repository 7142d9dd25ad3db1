from __future__ import annotations

import importlib

import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import KBinsDiscretizer
from sklearn.svm import SVC

from sktransfer.persistence.parts import Saving
from sktransfer.persistence.tree import untrusted, write_tree
from sktransfer.persistence.trusted import further_types

LINEAR = LogisticRegression(max_iter=200)


def strange(estimator):
    return untrusted(write_tree(estimator.fit(*load_iris(return_X_y=True)), Saving(False), lambda obj: None))


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize(
    "estimator",
    [
        LINEAR,
        SVC(),
        SGDClassifier(),
        KNeighborsClassifier(algorithm="brute"),
        MLPClassifier(max_iter=2),
        MLPClassifier(max_iter=2, solver="sgd"),
        CalibratedClassifierCV(LINEAR, cv=2),
        VotingClassifier([("a", LINEAR)]),
        StackingClassifier([("a", LINEAR)], cv=2),
        GridSearchCV(LINEAR, {"C": [1.0]}, cv=2),
        GridSearchCV(LINEAR, {"C": [1.0]}, cv=RepeatedStratifiedKFold(n_splits=2, n_repeats=1), scoring="f1_macro"),
        GridSearchCV(LINEAR, {"C": [1.0]}, cv=2, scoring=["accuracy", "neg_log_loss"], refit="accuracy"),
        KBinsDiscretizer(quantile_method="averaged_inverted_cdf"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_stands_behind_a_backbone_is_known(estimator):
    assert strange(estimator) == []


@pytest.mark.parametrize("estimator", [RandomForestClassifier(1), HistGradientBoostingClassifier(max_iter=1)])
def test_trees_take_trust(estimator):
    assert len(strange(estimator)) == 1


def test_each_name_is_of_numpy_or_scikit_learn_and_exists():
    for name in further_types():
        module, _, attribute = name.rpartition(".")
        assert module.split(".")[0] in ("numpy", "sklearn")
        assert hasattr(importlib.import_module(module), attribute), name


def test_none_is_trusted_by_skops_already():
    tree = skops.io.dumps([1])
    assert skops.io.get_untrusted_types(data=tree) == []
    assert len(set(further_types())) == len(further_types())
