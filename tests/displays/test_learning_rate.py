from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sktransfer import FineTuneClassifier, LearningRateDisplay, find_lr
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.pictures import cut_labels

X, y = make_samples("image", 24)
TUNER = FineTuneClassifier(head_init="random", freeze_depth="all", batch_size=8, random_state=0)


def marked(display):
    """Return the position of the dashed line."""
    (line,) = (line for line in display.ax_.lines if line.get_linestyle() == "--")
    return line.get_xdata()[0]


def test_from_finder_draws_the_curve_and_the_proposed_rate():
    result = find_lr(TUNER, X, y, n_steps=8)
    display = LearningRateDisplay.from_finder(result)
    np.testing.assert_array_equal(display.line_.get_xdata(), result.curve["lr"])
    np.testing.assert_array_equal(display.line_.get_ydata(), result.curve["smoothed"])
    np.testing.assert_array_equal(display.ax_.collections[0].get_offsets(), result.curve[["lr", "change"]])
    assert marked(display) == result.lr
    assert display.ax_.get_xscale() == "log"
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["a batch", "smoothed", f"proposed: {result.lr:.2g}"]
    assert display.figure_ is display.ax_.figure
    assert cut_labels(display.figure_) == []


def test_from_estimator_runs_find_lr_on_a_clone():
    options = {"lowest": 1e-4, "highest": 0.1, "n_steps": 5}
    weight = np.linspace(0.1, 2, len(y))
    display = LearningRateDisplay.from_estimator(TUNER, X, y, weight, **options)
    result = find_lr(TUNER, X, y, weight, **options)
    assert display.smoothed.tolist() == result.curve["smoothed"].tolist()
    assert display.rates.tolist() == result.curve["lr"].tolist()
    assert not hasattr(TUNER, "net_")
    with pytest.raises(InvalidParameterError, match="n_steps=1"):
        LearningRateDisplay.from_estimator(TUNER, X, y, n_steps=1)


def test_from_finder_takes_an_estimator_fitted_with_lr_find_only():
    clf = TUNER.__class__(lr="find", max_epochs=1, random_state=0).fit(X, y)
    display = LearningRateDisplay.from_finder(clf)
    assert marked(display) == clf.lr_
    assert display.smoothed.tolist() == clf.lr_curve_["smoothed"].tolist()
    clf.set_params(lr=1e-3).fit(X, y)
    with pytest.raises(InvalidParameterError, match=r"lr=0\.001 and max_epochs=1.*lr='find' and an epoch"):
        LearningRateDisplay.from_finder(clf)
    with pytest.raises(NotFittedError):
        LearningRateDisplay.from_finder(TUNER)


def test_plot_limits_follow_the_fall_and_cut_off_divergence():
    smoothed = [2.0, 2.1, 1.5, 1.0, 3.0, 500.0]
    display = LearningRateDisplay(10.0 ** np.arange(-6, 0), [2.0, 2.2, 0.9, 0.5, 5.0, 1000.0], smoothed, 1e-4).plot()
    bottom, top = display.ax_.get_ylim()
    assert 0.2 < bottom < 0.5
    assert 2.1 < top < 3.0
    (ring,) = (line for line in display.ax_.lines if line.get_fillstyle() == "none")
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (1e-3, 1.0)


@pytest.mark.parametrize("smoothed", [[0.5, 0.6, float("nan")], [float("nan")] * 3])
def test_plot_of_losses_that_never_fall_or_are_nan(smoothed):
    display = LearningRateDisplay([1e-4, 1e-3, 1e-2], smoothed, smoothed, 1e-5).plot()
    assert np.diff(display.ax_.get_ylim())[0] > 0.04
    assert cut_labels(display.figure_) == []


def test_plot_draws_on_given_axes():
    first = LearningRateDisplay([1e-3, 1e-2], [1.0, 0.5], [1.0, 0.8], 1e-3).plot()
    assert LearningRateDisplay([1e-3, 1e-2], [1.0, 0.5], [1.0, 0.8], 1e-3).plot(ax=first.ax_).ax_ is first.ax_
