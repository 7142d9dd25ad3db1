"""Numbers."""

from __future__ import annotations

import numpy as np
import pytest

from sktransfer import FineTuneRegressor
from sktransfer.testing.samples import make_samples

IMAGES, _ = make_samples("image", 16)
BRIGHTNESS = np.array([image.mean() for image in IMAGES], dtype=np.float64)


def quick(**parameters):
    return FineTuneRegressor(**{"max_epochs": 3, "random_state": 0, "freeze_depth": -1, **parameters})


def test_fit_does_not_depend_on_the_unit_of_y():
    small = quick().fit(IMAGES, BRIGHTNESS)
    large = quick().fit(IMAGES, 1e6 * BRIGHTNESS + 5e7)
    assert small.score(IMAGES, BRIGHTNESS) > 0.9
    np.testing.assert_allclose(large.predict(IMAGES), 1e6 * small.predict(IMAGES) + 5e7, rtol=1e-3)


def test_predict_keeps_the_shape_of_several_outputs():
    y = np.column_stack([BRIGHTNESS, -3 * BRIGHTNESS])
    predictions = quick().fit(IMAGES, y).predict(IMAGES)
    assert predictions.shape == (16, 2)
    assert predictions.dtype == np.float64
    assert quick().fit(IMAGES, y[:, :1]).predict(IMAGES).shape == (16, 1)


def test_predict_of_a_constant_target():
    np.testing.assert_allclose(quick().fit(IMAGES, np.full(16, 7.0)).predict(IMAGES), 7, atol=0.1)


def test_fit_rejects_y_that_is_not_numeric():
    with pytest.raises(ValueError, match="y holds strings such as 'a', which are not numbers"):
        quick().fit(IMAGES, ["a"] * 16)
    with pytest.raises(ValueError, match="NaN"):
        quick().fit(IMAGES, [float("nan")] * 16)
    with pytest.raises(ValueError, match=r"y\[0\] is \['a'\]: a regressor takes one number per sample"):
        quick().fit(IMAGES, [["a"], ["a", "b"]] * 8)
