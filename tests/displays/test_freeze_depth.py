from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktransfer import FineTuneClassifier, load_backbone
from sktransfer.displays.freeze_depth import FreezeDepthDisplay
from sktransfer.exceptions import FreezingWarning, InvalidParameterError
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
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["0", "-1", "all"]
    assert display.ax_.get_ylabel() == "accuracy"
    assert display.figure_ is display.ax_.figure
    assert cut_labels(display.figure_) == []


def _as_column(values):
    if all(isinstance(value, (int, float)) for value in values):
        return np.array(values)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def results_of(name, values, means):
    """Return results of a search as scikit-learn gives them: the column of a parameter has one type."""
    candidates = [{name: value} for value in values]
    column = np.ma.MaskedArray(_as_column(values), mask=False)
    return {
        f"param_{name}": column,
        "params": candidates,
        "mean_test_score": np.array(means),
        "std_test_score": np.array(means) / 10,
    }


def test_from_cv_results_finds_freeze_depth_of_a_pipeline_step_and_separates_1_from_1_0():
    display = FreezeDepthDisplay.from_cv_results(results_of("tuner__freeze_depth", [1, 1.0, 1], [0.5, 0.7, 0.6]))
    assert display.depths == [1, 1.0]
    assert display.mean.tolist() == [0.6, 0.7]
    assert display.deviation.tolist() == pytest.approx([0.06, 0.07])
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["1", "1.0"]


def test_from_cv_results_labels_freeze_depth_1_among_floats_as_given_and_warns():
    grid = {"freeze_depth": [0, 0.5, 1]}
    search = GridSearchCV(TUNER, grid, cv=2).fit(X, y)
    assert search.cv_results_["param_freeze_depth"].tolist() == [0.0, 0.5, 1.0]  # what scikit-learn makes of it
    with pytest.warns(FreezingWarning, match=r"freeze_depth=1 among \[0, 0.5, 1\] freezes one stage.*1.0 or 'all'"):
        display = FreezeDepthDisplay.from_cv_results(search)
    assert [type(depth) for depth in display.depths] == [int, float, int]
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["0", "0.5", "1"]


@pytest.mark.parametrize("depths", [[0, 0.5, 1.0], [0, 1, -1], [0.5, 1, 1.0], [0, 1, "all"]])
def test_from_cv_results_does_not_warn_of_freeze_depths_that_are_clear(depths, recwarn):
    FreezeDepthDisplay.from_cv_results(results_of("freeze_depth", depths, [0.1, 0.2, 0.3]))
    assert not [one for one in recwarn if one.category is FreezingWarning]


def test_from_cv_results_draws_any_parameter_and_leaves_out_fits_that_failed():
    backbone = load_backbone("tiny/cnn")
    values = [backbone, (0, -1), None, len, [1, 2]]
    display = FreezeDepthDisplay.from_cv_results(
        results_of("model__backbone", values, [np.nan, 0.2, 0.5, 0.1, 0.3]), parameter="model__backbone"
    )
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["tiny/cnn", "(0, -1)", "None", "len", "[1, 2]"]
    assert display.ax_.get_xlabel() == "backbone"
    assert display.ax_.lines[-1].get_xydata().tolist() == [[2, 0.5]]  # the ring around the best one


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
