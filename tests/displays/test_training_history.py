from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sktransfer import FineTuneClassifier, FineTuneRegressor, FineTuneSegmenter, ImageFeaturizer
from sktransfer.displays.training_history import TrainingHistoryDisplay
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.pictures import cut_labels

X, y = make_samples("image", 24)


def test_from_estimator_draws_losses_by_epoch():
    clf = FineTuneClassifier(max_epochs=3, random_state=0).fit(X, y)
    display = TrainingHistoryDisplay.from_estimator(clf)
    (line,) = display.ax_.lines
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert line.get_ydata().tolist() == clf.net_.history[:, "train_loss"]
    assert display.right_ax_ is None
    assert display.figure_ is display.ax_.figure


def test_plot_draws_scores_on_a_second_axis_and_cuts_off_no_label():
    losses = {"train_loss": [0.9, 0.5], "valid_loss": [0.95, 0.7]}
    display = TrainingHistoryDisplay(losses, {"valid_acc": [0.5, 0.8]}).plot()
    assert display.right_ax_.lines[0].get_ydata().tolist() == [0.5, 0.8]
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["train loss", "valid loss", "valid acc"]
    assert cut_labels(display.figure_) == []


def test_from_estimator_draws_the_score_of_validation_data():
    reg = FineTuneRegressor(max_epochs=2, random_state=0).fit(X, range(24), X_val=X[:9], y_val=range(9))
    display = TrainingHistoryDisplay.from_estimator(reg)
    assert display.right_ax_.lines[0].get_ydata().tolist() == reg.history_["valid_r2"].tolist()


def test_from_estimator_draws_the_score_of_masks():
    masks = [(np.arange(size).reshape(-1, 1) > size // 2) * np.ones((size, size), int) for size in (24, 24, 24)]
    images = [np.repeat(mask[..., None] / 2, 3, axis=2) for mask in masks]
    options = {"freeze_depth": -1, "max_epochs": 1, "lr": 1e-3, "random_state": 0}
    segmenter = FineTuneSegmenter(layer="block2", **options).fit(images, masks, X_val=images, y_val=masks)
    display = TrainingHistoryDisplay.from_estimator(segmenter)
    assert display.right_ax_.lines[0].get_ydata().tolist() == segmenter.history_["valid_iou"].tolist()


def test_from_estimator_of_a_pipeline_names_the_tuner():
    pipeline = make_pipeline(ImageFeaturizer(layer=1), LogisticRegression()).fit(X, y)
    with pytest.raises(InvalidParameterError, match=r"Pipeline has no history of a training.*pipeline\[-1\]"):
        TrainingHistoryDisplay.from_estimator(pipeline)


def test_from_estimator_without_an_epoch_is_an_error():
    with pytest.raises(InvalidParameterError, match="no epoch was trained"):
        TrainingHistoryDisplay.from_estimator(FineTuneClassifier(max_epochs=0).fit(X, y))


def test_scores_are_a_list_of_names():
    clf = FineTuneClassifier("tiny/bert", freeze_depth="all", max_epochs=1, layer=-1).fit(["a", "b"] * 2, [0, 1] * 2)
    with pytest.raises(InvalidParameterError, match="scores='valid_acc' must be a list of names"):
        TrainingHistoryDisplay.from_estimator(clf, scores="valid_acc")
