from __future__ import annotations

import inspect

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sktransfer import BestBackbone, FineTuneClassifier, FineTuneRegressor, ImageFeaturizer
from sktransfer._utils import all_or_nothing
from tests.helpers.toys import image_backbone

X = np.random.default_rng(0).random((12, 8, 8, 3)).astype(np.float32)
Y = np.arange(12) % 2
BACKBONE = image_backbone()


class Model:
    @all_or_nothing
    def fit(self, X, error=None):
        """Fit."""
        self.n_ = len(X)
        if error is not None:
            raise error
        self.whole_ = True
        return self


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failed_fit_leaves_what_was_there(error):
    model = Model()
    with pytest.raises(type(error)):
        model.fit([1], error)
    assert vars(model) == {}
    model.fit([1, 2])
    with pytest.raises(type(error)):
        model.fit([1], error)
    assert vars(model) == {"n_": 2, "whole_": True}


def test_the_method_keeps_its_name_signature_and_docstring():
    assert (Model.fit.__name__, Model.fit.__doc__) == ("fit", "Fit.")
    assert list(inspect.signature(Model.fit).parameters) == ["self", "X", "error"]


class _Stops:
    """A sample list that ends a fit when it is asked for its last item."""

    def __array__(self, *args, **kwargs):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "estimator",
    [
        ImageFeaturizer(BACKBONE),
        FineTuneClassifier(BACKBONE, max_epochs=1, random_state=0),
        FineTuneRegressor(BACKBONE, max_epochs=1, random_state=0),
        BestBackbone({"toy": BACKBONE}, estimator=LogisticRegression()),
    ],
    ids=lambda one: type(one).__name__,
)
def test_estimators_stay_fitted_as_they_were(estimator):
    estimator.fit(X, Y)
    act = estimator.predict if hasattr(estimator, "predict") else estimator.transform
    before, attributes = act(X), dict(vars(estimator))
    with pytest.raises(ValueError, match="row 3"):
        estimator.fit([*X[:3], X[3] * np.nan, *X[4:]], Y)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(_Stops(), Y)
    assert vars(estimator) == attributes
    np.testing.assert_array_equal(act(X), before)
