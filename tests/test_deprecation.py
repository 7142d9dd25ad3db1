from __future__ import annotations

import warnings

import pytest
from sklearn.base import BaseEstimator, clone

from sktransfer._deprecation import DEPRECATED, deprecate, removal, renamed_name, renamed_parameter
from sktransfer.exceptions import DeprecatedWarning, InvalidParameterError, SktransferWarning


class Scaler(BaseEstimator):
    """Estimator whose parameter `scale` was named `factor`."""

    def __init__(self, scale=1.0, *, factor=DEPRECATED):
        self.scale = scale
        self.factor = factor

    def fit(self, X, y=None):
        self.scale_ = renamed_parameter(self, "scale", old="factor", since="0.2")
        return self


@pytest.mark.parametrize(("since", "version"), [("0.2", "0.4"), ("0.9", "0.11"), ("1.0", "1.2")])
def test_removal_is_two_minor_versions_later(since, version):
    assert removal(since) == version


def test_deprecate_names_both_ways_and_points_to_the_user():
    with pytest.warns(DeprecatedWarning) as caught:
        deprecate("--prune=30", since="0.2", instead="give --older-than 30")
    (warning,) = caught
    assert str(warning.message) == (
        "--prune=30 is deprecated since sktransfer 0.2, and 0.4 removes it: give --older-than 30"
    )
    assert warning.filename == __file__
    assert issubclass(DeprecatedWarning, (SktransferWarning, FutureWarning))


def test_renamed_parameter_takes_the_old_name_with_a_warning():
    scaler = clone(Scaler(factor=2.0))
    with pytest.warns(DeprecatedWarning, match=r"factor=2\.0 of Scaler is deprecated .*: give scale=2\.0"):
        assert scaler.fit([[1.0]]).scale_ == 2.0
    assert scaler.get_params() == {"scale": 1.0, "factor": 2.0}  # fit changes no parameter


def test_renamed_parameter_does_not_warn_of_the_new_name():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Scaler(3.0).fit([[1.0]]).scale_ == 3.0
        assert Scaler().fit([[1.0]]).scale_ == 1.0


def test_renamed_parameter_refuses_both_names():
    with pytest.raises(InvalidParameterError, match=r"factor=2\.0 and scale=3\.0 are the same parameter; give scale"):
        Scaler(3.0, factor=2.0).fit([[1.0]])


def test_renamed_name_returns_the_same_class_with_a_warning():
    with pytest.warns(
        DeprecatedWarning, match="Divider is deprecated since sktransfer 0.2, and 0.4 removes it: use Sca"
    ):
        assert renamed_name("Divider", Scaler, since="0.2") is Scaler
