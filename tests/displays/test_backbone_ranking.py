from __future__ import annotations

import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from sktransfer import BestBackbone, ImageFeaturizer
from sktransfer.displays.backbone_ranking import BackboneRankingDisplay
from sktransfer.displays.layer_score import LayerScoreDisplay
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.pictures import cut_labels

TABLE = pd.DataFrame(
    {
        "backbone": ["good", "good", "hf//home/someone/models/bert-large-uncased", "bad", "none"],
        "layer": ["top", "stem", "layer12", "top", "top"],
        "logme": [0.5, 0.4, 0.3, -0.2, None],
        "knn": [0.1, 0.2, 0.3, 0.4, None],
        "probe_mean": [0.9, 0.8, 0.85, 0.6, 0.5],
        "probe_std": [0.01, 0.02, 0.03, 0.04, 0.05],
        "seconds": 1.0,
        "bytes": 10,
    }
)


def test_from_ranking_draws_one_bar_per_backbone_with_its_best_layer():
    display = BackboneRankingDisplay.from_ranking(TABLE)
    assert display.names == ["good · top", "hf/…/models/bert-large-uncased · layer12", "bad · top"]
    assert [bar.get_width() for bar in display.ax_.patches] == [0.5, 0.3, -0.2]
    assert "probe 0.900 ± 0.010" in display.ax_.texts[0].get_text()
    assert cut_labels(display.figure_) == []


def test_from_ranking_metric_and_top():
    display = BackboneRankingDisplay.from_ranking(TABLE, metric="knn", top=2)
    assert display.names[0] == "bad · top"
    assert len(display.names) == 2
    with pytest.raises(InvalidParameterError, match="metric='leep' is no column"):
        BackboneRankingDisplay.from_ranking(TABLE, metric="leep")


def test_from_estimator_draws_a_fitted_best_backbone_without_a_probe():
    best = BestBackbone({"one": "tiny/cnn", "other": "tiny/cnn"}, layers="last").fit(*make_samples("image", 24))
    display = BackboneRankingDisplay.from_estimator(best)
    assert display.metric == "logme"
    assert display.names == ["one · top", "other · top"]
    assert "probe" not in display.ax_.texts[0].get_text()


@pytest.mark.parametrize("display", [BackboneRankingDisplay, LayerScoreDisplay])
def test_rankings_come_from_a_fitted_best_backbone(display):
    with pytest.raises(NotFittedError, match="BestBackbone"):
        display.from_estimator(BestBackbone(["tiny/cnn"]))
    with pytest.raises(InvalidParameterError, match="ImageFeaturizer ranks no backbones; pass a fitted BestBackbone"):
        display.from_estimator(ImageFeaturizer())
