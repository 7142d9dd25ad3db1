from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktransfer import FineTuneClassifier
from sktransfer.displays.freeze_depth import FreezeDepthDisplay
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.pictures import cut_labels

X, y = make_samples("image", 24)
TUNER = FineTuneClassifier(max_epochs=1, random_state=0)


def test_from_cv_results_draws_the_best_candidate_of_each_depth():
    grid = {"freeze_depth": [0, -1, "all"], "max_epochs": [0, 1]}
    search = GridSearchCV(TUNER, grid, cv=2).fit(X, y)
    display = FreezeDepthDisplay.from_cv_results(search, score_name="accuracy")
    results = search.cv_results_
    for depth, mean in zip(display.depths, display.mean):
        rows = [k for k, one in enumerate(results["params"]) if one["freeze_depth"] == depth]
        assert mean == max(results["mean_test_score"][rows])
    assert display.depths == [0, -1, "all"]
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["0", "-1", "'all'"]
    assert display.ax_.get_ylabel() == "accuracy"
    assert display.figure_ is display.ax_.figure
    assert cut_labels(display.figure_) == []


def test_from_cv_results_finds_freeze_depth_of_a_pipeline_step_and_separates_1_from_1_0():
    results = {
        "param_tuner__freeze_depth": [1, 1.0, 1],
        "param_tuner__lr": [1, 2, 3],
        "mean_test_score": np.array([0.5, 0.7, 0.6]),
        "std_test_score": np.array([0.1, 0.2, 0.3]),
    }
    display = FreezeDepthDisplay.from_cv_results(results)
    assert display.depths == [1, 1.0]
    assert display.mean.tolist() == [0.6, 0.7]
    assert display.deviation.tolist() == [0.3, 0.2]


def test_from_cv_results_names_the_searched_parameters_if_freeze_depth_is_missing():
    pipeline = make_pipeline(FunctionTransformer(), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [1, 2]}, cv=2).fit(np.arange(24.0)[:, None], y)
    with pytest.raises(InvalidParameterError, match="logisticregression__C"):
        FreezeDepthDisplay.from_cv_results(search)


def test_from_estimator_cross_validates_at_each_depth():
    display = FreezeDepthDisplay.from_estimator(TUNER, X, y, depths=[-1, "all"], cv=2, scoring="neg_log_loss")
    by_hand = cross_val_score(TUNER.set_params(freeze_depth="all"), X, y, cv=2, scoring="neg_log_loss")
    assert display.mean[1] == pytest.approx(by_hand.mean(), abs=1e-5)
    assert display.deviation[1] == pytest.approx(by_hand.std(), abs=1e-5)
    assert display.ax_.get_ylabel() == "neg_log_loss"
    again = display.plot(display.ax_, name="once more", color="#D55E00")
    assert len(again.ax_.get_legend().get_texts()) == 1
