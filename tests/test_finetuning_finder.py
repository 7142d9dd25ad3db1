"""A rate that suits, found on a clone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from sktransfer import FineTuneClassifier, FineTuneRegressor, find_lr
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 24)


def quick(**parameters):
    return FineTuneClassifier(**{"head_init": "random", "batch_size": 8, "random_state": 0, **parameters})


def test_the_rate_rises_evenly_and_the_loss_of_each_step_is_kept():
    found = find_lr(quick(freeze_depth="all"), IMAGES, LABELS, lowest=1e-5, highest=1e-2, n_steps=13)
    assert found.curve["lr"].tolist() == pytest.approx(np.geomspace(1e-5, 1e-2, 13))
    assert (found.curve["loss"] > 0).all()
    smoothed = 0.0
    for step, (loss, shown) in enumerate(zip(found.curve["loss"], found.curve["smoothed"]), start=1):
        smoothed = 0.9 * smoothed + 0.1 * loss
        assert shown == pytest.approx(smoothed / (1 - 0.9**step))
    assert found.lr == found.curve["lr"][found.curve["smoothed"].idxmin()] / 10


def test_what_diverges_is_gone_no_further_with():
    found = find_lr(quick(freeze_depth=-1), IMAGES, LABELS, highest=1e4, n_steps=60)
    assert len(found.curve) < 60
    assert found.lr < found.curve["lr"].iloc[-1] / 10


def test_the_estimator_is_left_alone_and_the_same_is_found_again():
    state = np.random.RandomState(3)
    tuner = quick(random_state=state, unfreezing="gradual", early_stopping=True, warm_start=True).fit(IMAGES, LABELS)
    before, drawn = tuner.predict_proba(IMAGES), repr(state.get_state())
    parameters = {**tuner.get_params()}
    one, other = (find_lr(tuner, IMAGES, LABELS, n_steps=5) for _ in range(2))
    assert one.curve.equals(other.curve)
    np.testing.assert_array_equal(tuner.predict_proba(IMAGES), before)
    assert repr(state.get_state()) == drawn
    assert tuner.get_params() == parameters
    assert clone(tuner).lr == "auto"


def test_numbers_too():
    assert find_lr(FineTuneRegressor(random_state=0), IMAGES, np.arange(24.0), n_steps=4).lr > 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lowest": 0}, "lowest=0"),
        ({"lowest": 1.0, "highest": 0.1}, "less than highest"),
        ({"n_steps": 1}, "n_steps=1"),
    ],
)
def test_wrong_ranges(options, match):
    with pytest.raises(InvalidParameterError, match=match):
        find_lr(quick(), IMAGES, LABELS, **options)
