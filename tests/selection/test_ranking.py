"""Rankings of backbones and layers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from torch import nn

from sktransfer import Backbone, ImageFeaturizer, PretrainedClassifier, load_backbone, rank_backbones
from sktransfer.exceptions import DisagreementWarning, InvalidParameterError, InvalidSampleError
from sktransfer.selection.feature_scores import h_score, knn, logme
from sktransfer.selection.head_scores import leep, nce
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 40)
TEXTS, MOODS = make_samples("text", 30)
LABELS = np.where(np.arange(40) % 7 == 0, "odd", LABELS)
CNN = load_backbone("tiny/cnn")
RANDOM = load_backbone("tiny/cnn", weights="random")


def test_rank_backbones_rows_hold_the_scores_of_the_layers_features():
    table = rank_backbones(["tiny/cnn", RANDOM], IMAGES, LABELS)
    assert list(table.columns) == ["backbone", "layer", "h_score", "logme", "knn", "seconds", "bytes"]
    assert len(table) == 14
    assert table["h_score"].is_monotonic_decreasing
    in_order = table.sort_index()
    assert in_order["layer"].tolist() == list(CNN.stage_names) * 2
    assert in_order["backbone"].tolist() == ["tiny/cnn"] * 7 + ["tiny/cnn (random)"] * 7
    for row in in_order.itertuples():
        Z = ImageFeaturizer(CNN if row.backbone == "tiny/cnn" else RANDOM, layer=row.layer).fit_transform(IMAGES)
        expected = [score(Z, LABELS) for score in (h_score, logme, knn)]
        np.testing.assert_allclose([row.h_score, row.logme, row.knn], expected, rtol=1e-4)


def test_rank_backbones_bytes_of_the_stages_up_to_the_layer_and_seconds_of_the_pass():
    table = rank_backbones([CNN], IMAGES, LABELS, metrics="knn").sort_index()
    sizes = [sum(t.nbytes for t in [*CNN.stages[:k].parameters(), *CNN.stages[:k].buffers()]) for k in range(1, 8)]
    assert table["bytes"].tolist() == sizes
    assert table["seconds"].nunique() == 1


def test_rank_backbones_bytes_count_shared_weights_once():
    stage = nn.Conv2d(3, 3, 1)
    twice = Backbone.from_modules([("one", stage), ("same", stage)])
    table = rank_backbones([twice], IMAGES, LABELS, metrics="knn").sort_index()
    assert table["bytes"].tolist() == [48, 48]


def test_rank_backbones_runs_each_sample_once_and_a_featurizer_afterwards_none():
    backbone = load_backbone("tiny/cnn", weights="random", seed=4321)
    seen = []
    hook = backbone.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    table = rank_backbones([backbone], IMAGES, LABELS, metrics=["h_score", "knn", "logme"], probe=True, random_state=0)
    ImageFeaturizer(backbone, layer=table["layer"].iloc[0]).fit_transform(IMAGES)
    hook.remove()
    assert sum(seen) == len(IMAGES)


def test_rank_backbones_metrics_leep_and_nce_are_defined_for_the_last_layer_only():
    table = rank_backbones([CNN, RANDOM], IMAGES, LABELS, metrics=["leep", "nce"])
    P = PretrainedClassifier().predict_proba(IMAGES)
    assert table.iloc[0][["backbone", "layer"]].tolist() == ["tiny/cnn", "top"]
    assert table.iloc[0]["leep"] == pytest.approx(leep(P, LABELS), rel=1e-4)
    assert table.iloc[0]["nce"] == pytest.approx(nce(P, LABELS), rel=1e-4)
    assert table["leep"].isna().sum() == 13


def test_rank_backbones_target_of_numbers_and_of_several_labels():
    one_layer = {"probe": True, "random_state": 0, "layers": "last"}
    numbers = np.array([image.mean() for image in IMAGES])
    table = rank_backbones([CNN], IMAGES, numbers, metrics=["logme", "h_score", "knn"], **one_layer)
    assert table["h_score"].isna().all()
    assert table["probe_mean"].max() > 0.85
    counts = np.arange(40)
    as_numbers = rank_backbones([CNN], IMAGES, counts, metrics="logme", target="numbers", layers="last")
    Z = ImageFeaturizer(CNN).fit_transform(IMAGES)
    assert as_numbers["logme"].iloc[0] == pytest.approx(logme(Z, counts, target="numbers"), rel=1e-4)
    both = np.stack([LABELS == "good", LABELS == "odd"], axis=1).astype(int)
    several = rank_backbones([CNN], IMAGES, both, metrics=["knn"], layers=["top"])
    assert several["knn"].iloc[0] == pytest.approx(knn(Z, both))


def test_rank_backbones_of_texts_with_layers_and_pooling():
    table = rank_backbones(["tiny/bert"], TEXTS, MOODS, layers=[0, "layer2"], pooling="max", probe=True, random_state=0)
    assert set(table["layer"]) == {"embeddings", "layer2"}
    assert table["probe_mean"].min() > 0.8


def test_rank_backbones_subsample_is_stratified_and_drawn_by_random_state():
    seen = []

    class Probe(LogisticRegression):
        def fit(self, X, y):
            seen.append(y)
            return super().fit(X, y)

    kwargs = {"metrics": "knn", "layers": "last", "probe": Probe(max_iter=1000), "cv": 2}
    for subsample in (0.5, 20):
        rank_backbones([CNN], IMAGES, LABELS, subsample=subsample, random_state=0, **kwargs)
        drawn = np.concatenate(seen)
        shares = {label: np.mean(drawn == label) for label in set(LABELS)}
        assert len(drawn) == 20
        assert all(abs(shares[label] - np.mean(label == LABELS)) < 0.06 for label in shares)
        seen.clear()
    one, same, other = (rank_backbones([CNN], IMAGES, LABELS, subsample=20, random_state=s)["logme"] for s in (0, 0, 1))
    assert one.equals(same)
    assert not one.equals(other)
    assert rank_backbones([CNN], IMAGES, LABELS, subsample=999)["knn"].equals(
        rank_backbones([CNN], IMAGES, LABELS)["knn"]
    )


def test_rank_backbones_warns_of_a_score_that_disagrees_with_the_probe(monkeypatch):
    from sktransfer.selection import scores

    order = {32: 3, 64: 2, 128: 1, 192: 0.5, 512: 0}  # by width: deeper is worse, the reverse of the true order
    wrong = scores.Score(name="wrong", function=lambda Z, y, target: order[Z.shape[1]])
    monkeypatch.setitem(scores.BUILT_IN, "wrong", wrong)
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    kwargs = {"layers": ["stem", "block1", "block4", "block5"], "probe": True, "random_state": 0}
    with pytest.warns(DisagreementWarning, match=r"wrong ranks these 4 rows differently.*it chooses tiny/cnn, stem"):
        table = rank_backbones([CNN], X[:150] / 16, y[:150], metrics=["wrong"], **kwargs)
    assert table.attrs["agreement"]["wrong"] < 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = rank_backbones([CNN], X[:150] / 16, y[:150], metrics=["logme"], **kwargs)
    assert table.attrs["agreement"]["logme"] > 0.5
    assert rank_backbones([CNN], IMAGES, LABELS, layers=[0, 1], probe=True, random_state=0).attrs["agreement"] == {}


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"metrics": ["lome"]}, "Did you mean 'logme'"),
        ({"layers": "first"}, "layers='first'"),
        ({"target": "words"}, "target='words'"),
        ({"subsample": 1.5}, "subsample=1.5"),
        ({"subsample": True}, "subsample=True"),
        ({"subsample": 2}, "subsample=2 cannot be drawn from 40 samples"),
        ({"probe": "yes"}, "probe='yes'"),
        ({"pooling": "middle"}, "pooling='middle'"),
        ({"batch_size": 0}, "batch_size"),
        ({"cache": 3}, "cache=3"),
    ],
)
def test_rank_backbones_checks_its_parameters(parameters, match):
    with pytest.raises(InvalidParameterError, match=match):
        rank_backbones([CNN], IMAGES, LABELS, **parameters)


def test_rank_backbones_checks_samples_and_the_length_of_y():
    with pytest.raises(InvalidSampleError, match="row 2"):
        rank_backbones([CNN], [*IMAGES[:2], None], LABELS[:3])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        rank_backbones([CNN], IMAGES, LABELS[:-1])


def test_rank_backbones_names_a_missing_label():
    with pytest.raises(InvalidParameterError, match=r"y\[3\] is None: 1 of 4 samples has no label"):
        rank_backbones(["tiny/bert"], ["one", "two", "three", "four"], ["a", "b", "a", None])
