from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sktransfer import BestBackbone, rank_backbones
from sktransfer.displays.layer_score import LayerScoreDisplay
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.pictures import cut_labels

X, y = make_samples("image", 24)


def lines(display):
    return {
        line.get_label().partition(",")[0]: line.get_ydata() for line in display.ax_.lines if "," in line.get_label()
    }


def test_from_ranking_orders_layers_from_the_input_and_scales_each_score():
    ranking = rank_backbones(["tiny/cnn"], X, y, metrics=["logme", "knn", "leep"], layers=["top", "stem", "block2"])
    display = LayerScoreDisplay.from_ranking(ranking)
    in_order = ranking.sort_index()
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == in_order["layer"].tolist()
    drawn = lines(display)
    assert set(drawn) == {"logme", "knn"}  # leep is not defined below the last layer
    logme = in_order["logme"].to_numpy()
    np.testing.assert_allclose(drawn["logme"], (logme - logme.min()) / np.ptp(logme))


def test_plot_cuts_off_no_label_with_many_layers_and_scores():
    layers = [f"layer{k}.attention" for k in range(13)]
    scores = {name: np.random.default_rng(0).normal(size=13) for name in ("h_score", "logme", "knn", "probe_mean")}
    display = LayerScoreDisplay(layers, scores, "hf/…/all-MiniLM-L6-v2").plot()
    assert cut_labels(display.figure_) == []
    assert set(lines(display)) == {"h_score", "logme", "knn", "probe"}
    flat = LayerScoreDisplay(["a", "b"], {"knn": [1, 1]}).plot()
    assert lines(flat)["knn"].tolist() == [1, 1]


def test_from_estimator_draws_the_chosen_backbone_and_from_ranking_one_by_name():
    best = BestBackbone({"one": "tiny/cnn", "other": "tiny/cnn"}, layers=[0, 1]).fit(X, y)
    assert LayerScoreDisplay.from_estimator(best).name == "one"
    assert LayerScoreDisplay.from_ranking(best.ranking_, backbone="other").name == "other"
    with pytest.raises(InvalidParameterError, match="Did you mean 'other'"):
        LayerScoreDisplay.from_ranking(best.ranking_, backbone="othr")
    with pytest.raises(InvalidParameterError, match="as rank_backbones returns it"):
        LayerScoreDisplay.from_ranking(pd.DataFrame({"knn": [1]}))
