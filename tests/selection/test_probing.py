"""Linear probes."""

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


def test_make_probe_returns_none_for_false():
    assert make_probe(False, 3, "multiclass", rng()) is None


def test_make_probe_has_a_linear_model_for_each_target_type():
    Z, numbers = sample()
    labels = np.where(numbers > 0, "up", "down")
    assert make_probe(True, 4, "multiclass", rng())(Z, labels).shape == (4,)
    assert make_probe(True, 3, "multiclass", rng())(Z, labels).mean() > 0.8
    assert make_probe(True, 3, "continuous", rng())(Z, numbers).min() > 0.99
    both = np.stack([numbers > 0, Z[:, 0] > 0], axis=1).astype(int)
    assert make_probe(True, 3, "multilabel-indicator", rng())(Z, both).mean() > 0.6


def test_make_probe_ignores_scale_and_shift_of_features():
    Z, numbers = sample()
    labels = numbers > 0
    cross_validate = make_probe(True, 3, "multiclass", rng())
    np.testing.assert_allclose(cross_validate(1000 * Z + 5, labels), cross_validate(Z, labels))


def test_make_probe_cv_shares_folds_between_layers_and_draws_them_from_the_seed():
    Z, numbers = sample()
    labels = np.random.default_rng(1).permutation(numbers > 0)
    cross_validate = make_probe(True, 3, "multiclass", rng())
    np.testing.assert_array_equal(cross_validate(Z, labels), cross_validate(Z, labels))
    other = make_probe(True, 3, "multiclass", np.random.RandomState(7))
    assert not np.array_equal(cross_validate(Z, labels), other(Z, labels))


def test_make_probe_takes_an_estimator_and_a_splitter_and_fits_clones():
    Z, numbers = sample()
    dummy = DummyClassifier()
    scores = make_probe(dummy, LeaveOneOut(), "multiclass", rng())(Z, numbers > 0)
    assert len(scores) == 60
    assert not hasattr(dummy, "classes_")


@pytest.mark.parametrize(("probe", "cv", "match"), [("yes", 3, "probe='yes'"), (True, 1, "cv=1")])
def test_make_probe_checks_probe_and_cv(probe, cv, match):
    with pytest.raises(InvalidParameterError, match=match):
        make_probe(probe, cv, "multiclass", rng())
