from __future__ import annotations

import pytest

from sktransfer import FineTuneClassifier
from sktransfer.displays.training_history import TrainingHistoryDisplay
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.pictures import close, cut_labels

X, y = make_samples("image", 24)


@pytest.fixture(autouse=True)
def _closed():
    yield
    close()


def test_losses_of_a_fitted_estimator_are_drawn_by_epoch():
    clf = FineTuneClassifier(max_epochs=3, random_state=0).fit(X, y)
    display = TrainingHistoryDisplay.from_estimator(clf)
    (line,) = display.ax_.lines
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert line.get_ydata().tolist() == clf.net_.history[:, "train_loss"]
    assert display.right_ax_ is None
    assert display.figure_ is display.ax_.figure


def test_scores_have_an_axis_of_their_own_and_nothing_is_cut():
    losses = {"train_loss": [0.9, 0.5], "valid_loss": [0.95, 0.7]}
    display = TrainingHistoryDisplay(losses, {"valid_acc": [0.5, 0.8]}).plot()
    assert display.right_ax_.lines[0].get_ydata().tolist() == [0.5, 0.8]
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["train loss", "valid loss", "valid acc"]
    assert cut_labels(display.figure_) == []


def test_no_epoch_is_an_error():
    with pytest.raises(InvalidParameterError, match="no epoch was trained"):
        TrainingHistoryDisplay.from_estimator(FineTuneClassifier(max_epochs=0).fit(X, y))
