from __future__ import annotations

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import LeaveOneOut

from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.probing import make_probe


def rng():
    return np.random.RandomState(0)


def sample():
    random = np.random.default_rng(0)
    Z = random.normal(size=(60, 5))
    return Z, Z @ np.arange(5.0)


def test_no_probe_is_none():
    assert make_probe(False, 3, "classes", rng()) is None


def test_each_kind_of_target_has_its_linear_model():
    Z, numbers = sample()
    labels = np.where(numbers > 0, "up", "down")
    assert make_probe(True, 4, "classes", rng())(Z, labels).shape == (4,)
    assert make_probe(True, 3, "classes", rng())(Z, labels).mean() > 0.8
    assert make_probe(True, 3, "numbers", rng())(Z, numbers).min() > 0.99
    both = np.stack([numbers > 0, Z[:, 0] > 0], axis=1).astype(int)
    assert make_probe(True, 3, "multilabel", rng())(Z, both).mean() > 0.6


def test_scale_and_shift_of_features_do_not_matter_to_the_probe():
    Z, numbers = sample()
    labels = numbers > 0
    one = make_probe(True, 3, "classes", rng())
    np.testing.assert_allclose(one(1000 * Z + 5, labels), one(Z, labels))


def test_folds_are_the_same_for_all_layers_and_drawn_by_the_seed():
    Z, numbers = sample()
    labels = np.random.default_rng(1).permutation(numbers > 0)
    one = make_probe(True, 3, "classes", rng())
    np.testing.assert_array_equal(one(Z, labels), one(Z, labels))
    other = make_probe(True, 3, "classes", np.random.RandomState(7))
    assert not np.array_equal(one(Z, labels), other(Z, labels))


def test_estimator_and_splitter_may_be_given_and_the_estimator_is_not_fitted_itself():
    Z, numbers = sample()
    dummy = DummyClassifier()
    scores = make_probe(dummy, LeaveOneOut(), "classes", rng())(Z, numbers > 0)
    assert len(scores) == 60
    assert not hasattr(dummy, "classes_")


@pytest.mark.parametrize(("probe", "cv", "match"), [("yes", 3, "probe='yes'"), (True, 1, "cv=1")])
def test_what_is_no_probe_is_an_error(probe, cv, match):
    with pytest.raises(InvalidParameterError, match=match):
        make_probe(probe, cv, "classes", rng())
