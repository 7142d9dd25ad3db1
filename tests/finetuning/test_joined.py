"""Fine-tuning of joined backbones."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from torch import nn

from sktransfer import (
    Backbone,
    BestBackbone,
    ContrastiveFineTuner,
    DomainAdaptationClassifier,
    FeatureMapDisplay,
    FineTuneClassifier,
    FineTuneRegressor,
    FineTuneSegmenter,
    FineTuneTagger,
    ImageFeaturizer,
    JoinedFeaturizer,
    Mixup,
    MultiTaskFineTuner,
    SelfSupervisedTuner,
    TextFeaturizer,
    ZeroShotClassifier,
    as_module,
    clear_cache,
    export_onnx,
    load,
    load_backbone,
    rank_backbones,
    save,
)
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.estimators import BERT, quick

IMAGES, Y = make_samples("image", 12)
TEXTS, _ = make_samples("text", 12)
FRAME = pd.DataFrame({"image": IMAGES, "text": TEXTS})
PARTS = FRAME.assign(text=[None, *TEXTS[1:]], image=[*IMAGES[:-1], None])
JOINED = Backbone.join({"text": BERT, "image": "tiny/cnn"})
ZERO = Backbone.join({"text": BERT, "image": "tiny/cnn"}, missing="zero")


class Counting(nn.Module):
    """Stage that counts the samples that it and its copies have seen."""

    def __init__(self, name):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, stride=2)
        self.name = name

    def forward(self, values):
        SEEN[self.name] += len(values)
        return self.convolution(values)


SEEN = Counter()


def counting_backbone(name):
    return Backbone.from_modules([("count", Counting(name)), ("top", nn.Conv2d(4, 6, 3))], input_size=(12, 12))


@pytest.mark.parametrize("layer", [-1, "auto", {"text": "all", "image": [0, -1]}], ids=["last", "auto", "dict"])
def test_fit_without_training_reads_the_features_of_the_towers(layer):
    clf = quick(ZERO, layer=layer, freeze_depth="all", max_epochs=0).fit(PARTS, Y)
    layers = clf._layers["features"]
    parts = []
    for one in layers:
        samples = PARTS[one.tower].dropna()
        featurizer = ImageFeaturizer if one.tower == "image" else TextFeaturizer
        alone = featurizer(ZERO.towers[one.tower], layer=one.stop - 1, pooling=one.pooling).fit_transform(list(samples))
        full = np.zeros((len(PARTS), alone.shape[1]), np.float32)
        full[PARTS.index.isin(samples.index)] = alone
        parts.append(full)
    logits = clf.head_(np.concatenate(parts, axis=1))  # (n_samples, n_classes)
    assert np.allclose(logits[:, 1] - logits[:, 0], clf.decision_function(PARTS), atol=1e-4)


@pytest.mark.parametrize(
    "depth",
    [0, "all", 0.5, {"text": "all", "image": -2}, {"text": 0, "image": "block4"}],
    ids=["none", "all", "half", "text", "both"],
)
def test_freeze_depth_keeps_frozen_stages_and_trains_the_others(depth):
    clf = quick(JOINED, freeze_depth=depth, layer=-1, lr=1e-3).fit(FRAME, Y)
    for trains, before, after in zip(
        JOINED.trains(clf.freeze_depth_), JOINED.stages, clf.backbone_.stages, strict=True
    ):
        same = [torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
        assert any(same) != trains or all(same) != trains, (trains, same)
    assert clf.stages_["trained"].tolist() == JOINED.trains(clf.freeze_depth_)


@pytest.mark.parametrize("X", [FRAME, PARTS], ids=["whole", "parts"])
def test_training_and_prediction_read_the_same_features(X):
    options = {"layer": {"text": [0, -1], "image": ["block2", -1]}, "freeze_depth": {"text": 1, "image": "block3"}}
    clf = quick(ZERO, **options, lr=1e-3, max_epochs=1).fit(X, Y, X_val=X, y_val=Y)
    of_class = clf.predict_proba(X)[np.arange(12), np.searchsorted(clf.classes_, Y)]  # (12,)
    assert clf.history_["valid_loss"].iloc[-1] == pytest.approx(-np.log(of_class).mean(), rel=1e-4)


def test_fit_repeats_and_the_order_of_columns_does_not_matter():
    first = quick(JOINED, layer=-1, lr=1e-3).fit(FRAME, Y).predict_proba(FRAME)
    assert np.array_equal(quick(JOINED, layer=-1, lr=1e-3).fit(FRAME[["text", "image"]], Y).predict_proba(FRAME), first)
    assert np.array_equal(quick(JOINED, layer=-1, lr=1e-3, cache=None).fit(FRAME, Y).predict_proba(FRAME), first)


def test_frozen_prefix_of_all_towers_is_computed_once():
    clear_cache()
    SEEN.clear()
    joined = Backbone.join({"left": counting_backbone("left"), "right": counting_backbone("right")})
    X = {"left": IMAGES, "right": IMAGES[::-1]}
    quick(joined, layer=-1, freeze_depth=1, max_epochs=3).fit(X, Y)
    assert SEEN == {"left": 12, "right": 12}
    quick(joined, layer=-1, freeze_depth={"left": 1, "right": 0}, max_epochs=1).fit(X, Y).predict(X)
    assert SEEN["left"] == 12
    assert SEEN["right"] > 12


def test_features_of_a_column_alone_are_those_of_its_tower():
    clear_cache()
    SEEN.clear()
    backbone = counting_backbone("image")
    ImageFeaturizer(backbone, layer=-1).fit_transform(IMAGES)
    assert SEEN["image"] == 12
    JoinedFeaturizer(Backbone.join({"text": BERT, "image": backbone}), layer=-1).fit_transform(FRAME)
    quick(Backbone.join({"image": backbone, "text": BERT}), layer=-1, freeze_depth="all").fit(FRAME, Y)
    assert SEEN["image"] == 12


def test_shared_network_is_trained_once_with_the_gradients_of_both_columns():
    network = load_backbone("tiny/cnn")
    shared = Backbone.join({"left": network, "right": network})
    X = {"left": IMAGES, "right": IMAGES[::-1]}
    clf = quick(shared, layer=-1, freeze_depth="block4", max_epochs=1, lr=1e-3).fit(X, Y)
    (names, trained), *others = clf.backbone_.networks
    assert names == ("left", "right")
    assert not others
    assert clf.backbone_.towers["left"] is clf.backbone_.towers["right"]
    n_above = sum(p.numel() for stage in network.stages[5:] for p in stage.parameters())
    n_trained = sum(p.numel() for group in clf.net_.optimizer_.param_groups for p in group["params"])
    head = sum(p.numel() for p in clf.net_.module_.heads.parameters())
    assert n_trained == n_above + head

    network = clf.net_.module_
    values = torch.rand(4, *_input_shape(trained, 5))
    gradients = {}
    for left, right in ((True, True), (True, False), (False, True)):
        network.zero_grad()
        towers = {
            "left": {"values": values, "present": torch.full((4,), left)},
            "right": {"values": values.flip(0), "present": torch.full((4,), right)},
        }
        network.requires_grad_(True)
        _, features = network(towers=towers)
        features["features"].square().sum().backward()
        gradients[left, right] = [p.grad.clone() for p in network.stages.parameters()]
    both, one, other = gradients.values()
    assert all(torch.allclose(a, b + c, atol=1e-4) for a, b, c in zip(both, one, other, strict=True))
    assert any(a.abs().max() > 0 for a in one)


def _input_shape(backbone, stop):
    """Return the shape of a sample's values after some stages."""
    *_, values = backbone.run(torch.rand(1, 3, 32, 32), stop=stop)
    return values.shape[1:]


def test_missing_rows_give_their_tower_no_gradient():
    clf = quick(ZERO, layer=-1, freeze_depth={"text": "all", "image": -1}, lr=1e-3).fit(PARTS, Y)
    alone = PARTS.assign(image=[IMAGES[0], *[None] * 11], text=TEXTS)
    other = PARTS.assign(image=[IMAGES[5], *[None] * 11], text=TEXTS)
    predictions = [clf.decision_function(X)[1:] for X in (alone, other)]
    assert np.array_equal(*predictions)
    network = clf.net_.module_.requires_grad_(True)
    values = torch.rand(3, *_input_shape(ZERO.towers["image"], 6), requires_grad=True)
    present = torch.tensor([True, False, True])
    n_text = clf.net_.module_.heads["y"].blocks[0]
    _, features = network(
        towers={"text": {"fixed": torch.rand(3, n_text)}, "image": {"values": values, "present": present}}
    )
    features["features"].sum().backward()
    assert values.grad[1].abs().sum() == 0
    assert (values.grad[[0, 2]].abs().sum((1, 2, 3)) > 0).all()


def test_missing_features_are_the_mean_after_scaling():
    clf = quick(ZERO, layer=-1, max_epochs=0, freeze_depth="all").fit(PARTS, Y)
    head = clf.net_.module_.heads["y"]
    n_text = head.blocks[0]
    features = torch.rand(2, sum(head.blocks))
    absent = features.clone()
    absent[:, :n_text] = 0
    mean = features.clone()
    mean[:, :n_text] = head.mean[:n_text]
    assert torch.allclose(head(absent), head(mean), atol=1e-5)
    assert not torch.allclose(head(absent), head(features), atol=1e-3)


def test_towers_have_the_same_variance_in_the_head():
    clf = quick(ZERO, layer=-1, max_epochs=0, freeze_depth="all", head_init="random").fit(FRAME, Y)
    head = clf.net_.module_.heads["y"]
    features = [
        cls(ZERO.towers[name], layer=-1).fit_transform(list(FRAME[name]))
        for name, cls in (("text", TextFeaturizer), ("image", ImageFeaturizer))
    ]
    with torch.no_grad():
        read = head.linear_input(torch.from_numpy(np.concatenate(features, 1))).numpy()  # (12, n_features)
    variances = [part.var(0).sum() for part in np.split(read, [head.blocks[0]], axis=1)]
    assert variances == pytest.approx([sum(head.blocks) / 2] * 2, rel=1e-3)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"freeze_depth": {"text": 1, "picture": 2}}, "freeze_depth=.*has the key 'picture'"),
        ({"layer": {"text": -1}}, r"layer=.*lacks a value for \['image'\]"),
        ({"layer": "mix"}, "layer='mix' adds layers up.*'all' concatenates"),
        ({"pooling": {"text": "mean", "image": "last_token"}}, "pooling='last_token'"),
        ({"augment": "light"}, "a dict with an augmentation of some of the columns"),
        ({"augment": {"text": "light"}}, "because X holds texts"),
        ({"freeze_depth": {"text": "auto", "image": 1}}, "freeze_depth='auto' is not a stage"),
    ],
    ids=["depth", "layer", "mix", "pooling", "augment", "augment of a text", "auto of one"],
)
def test_parameters_by_tower_are_checked(parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        quick(JOINED, **parameters).fit(FRAME, Y)


@pytest.mark.parametrize(
    "parameters",
    [
        {"freeze_depth": -2, "unfreezing": "gradual", "layer_lr_decay": 2.0, "max_epochs": 3},
        {"freeze_depth": -1, "unfreezing": "chain_thaw", "max_epochs": 3},
        {"augment": {"image": "light"}},
        {"callbacks": [Mixup(0.4)]},
        {"early_stopping": True, "validation_fraction": 0.25},
        {"freeze_depth": "auto", "head_init": "probe"},
        {"precision": "bfloat16"},
        {"batch_size": 3, "l2_sp": 0.01},
    ],
    ids=lambda parameters: next(iter(parameters)) if isinstance(parameters, dict) else parameters,
)
def test_recipes_take_joined_backbones(parameters):
    clf = quick(ZERO, **{"layer": -1, "head_init": "random", "lr": 1e-3, **parameters}).fit(PARTS, Y)
    assert np.isfinite(clf.predict_proba(PARTS)).all()
    again = quick(ZERO, **{"layer": -1, "head_init": "random", "lr": 1e-3, **parameters}).fit(PARTS, Y)
    assert np.array_equal(clf.predict_proba(PARTS), again.predict_proba(PARTS))


def test_regressor_and_partial_fit_and_warm_start():
    numbers = np.arange(12.0)
    reg = quick(ZERO, cls=FineTuneRegressor, layer=-1).fit(PARTS, numbers)
    assert reg.predict(PARTS).shape == (12,)
    clf = quick(ZERO, layer=-1)
    clf.partial_fit(PARTS, Y, classes=np.unique(Y)).partial_fit(PARTS[:6], Y[:6])
    assert clf.n_iter_ == 2
    warm = quick(ZERO, layer=-1, warm_start=True).fit(PARTS, Y).fit(PARTS, Y)
    assert warm.predict(PARTS).shape == (12,)


def test_several_tasks_read_joined_rows():
    targets = pd.DataFrame({"kind": Y, "size": np.arange(12.0)})
    targets.loc[[0, 3], "kind"] = None
    tuner = quick(ZERO, cls=MultiTaskFineTuner, layer="auto").fit(PARTS, targets)
    assert tuner.predict(PARTS).columns.tolist() == ["kind", "size"]
    assert {layer.tower for layer in tuner._layers["features"]} == {"text", "image"}
    assert "'text' alone" in quick(ZERO, layer="auto", max_epochs=0).fit(PARTS, Y).report_


def test_contrastive_tuner_reads_joined_rows():
    tuner = quick(JOINED, cls=ContrastiveFineTuner, layer=-1).fit(FRAME, Y)
    assert tuner.transform(FRAME).shape[0] == 12


def test_search_over_depths_by_tower():
    grid = {"finetuneclassifier__freeze_depth": [{"text": "all", "image": -1}, {"text": "all", "image": "all"}]}
    pipeline = make_pipeline(quick(ZERO, layer=-1, max_epochs=1))
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(PARTS, Y)
    assert search.best_params_["finetuneclassifier__freeze_depth"] in grid["finetuneclassifier__freeze_depth"]
    rows = np.empty((12, 2), dtype=object)
    rows[:, 0], rows[:, 1] = TEXTS, IMAGES
    assert len(cross_val_score(quick(JOINED, layer=-1, max_epochs=0), rows, Y, cv=2, error_score="raise")) == 2


@pytest.mark.parametrize("weights", ["reference", "embed"])
def test_save_and_load(weights, tmp_path):
    shared = Backbone.join({"left": "tiny/cnn", "right": "tiny/cnn", "text": BERT}, missing="zero")
    X = {"left": IMAGES, "right": [None, *IMAGES[1:]], "text": TEXTS}
    clf = quick(shared, layer="auto", max_epochs=1).fit(X, Y)
    save(clf, tmp_path / "clf.skt", weights=weights)
    loaded = load(tmp_path / "clf.skt")
    assert np.array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    assert [names for names, _ in loaded.backbone_.networks] == [("left", "right"), ("text",)]
    assert loaded.freeze_depth_ == clf.freeze_depth_
    assert np.array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), clf.predict_proba(X))


def test_html_lists_the_stages_of_all_towers():
    html = quick(JOINED, layer=-1, max_epochs=0, freeze_depth={"text": 0, "image": "all"}).fit(FRAME, Y)._repr_html_()
    assert "text.embeddings" in html
    assert "image.top" in html


def test_ranking_has_a_row_for_all_towers_together():
    ranking = rank_backbones([JOINED], FRAME, Y, layers=[0, -1], metrics=["knn"])
    text, image = (tower.stage_names for tower in JOINED.towers.values())
    together = f"text.{text[-1]}+image.{image[-1]}"
    assert set(ranking["layer"]) == {
        *(f"text.{text[i]}" for i in (0, -1)),
        *(f"image.{image[i]}" for i in (0, -1)),
        together,
    }
    with pytest.raises(InvalidParameterError, match="rows of the same columns"):
        rank_backbones([JOINED, "tiny/cnn"], FRAME, Y)


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda path: FineTuneTagger(JOINED).fit([["a"]], [["O"]]), "a tagger reads words; give a backbone of texts"),
        (
            lambda path: FineTuneSegmenter(JOINED).fit(IMAGES, [np.zeros((8, 8), int)] * 12),
            "needs a backbone of images",
        ),
        (lambda path: SelfSupervisedTuner(JOINED).fit(FRAME), "SelfSupervisedTuner reads one column; adapt"),
        (
            lambda path: DomainAdaptationClassifier(JOINED).fit(FRAME, Y, sample_domain=[1, -1] * 6),
            "DomainAdaptationClassifier reads one column; adapt",
        ),
        (lambda path: ImageFeaturizer(JOINED).fit(FRAME), "use JoinedFeaturizer"),
        (
            lambda path: BestBackbone([JOINED]).fit(FRAME, Y),
            "BestBackbone reads one column; compare joined backbones by",
        ),
        (
            lambda path: ZeroShotClassifier(JOINED).fit(FRAME, Y),
            "ZeroShotClassifier reads one column; give the backbone",
        ),
        (
            lambda path: FeatureMapDisplay.from_estimator(JoinedFeaturizer(JOINED, layer=-1), FRAME, Y),
            "FeatureMapDisplay reads one column; draw the featurizer of one column",
        ),
        (lambda path: as_module(quick(JOINED, layer=-1, max_epochs=0).fit(FRAME, Y)), "Convert the networks of the"),
        (
            lambda path: export_onnx(quick(JOINED, layer=-1, max_epochs=0).fit(FRAME, Y), path / "model.onnx"),
            "Convert the networks of the",
        ),
        (lambda path: FineTuneClassifier({"text": BERT}).fit(FRAME, Y), r"by Backbone\.join"),
    ],
    ids=[
        "tagger",
        "segmenter",
        "self-supervised",
        "domains",
        "ImageFeaturizer",
        "BestBackbone",
        "ZeroShot",
        "map",
        "as_module",
        "export_onnx",
        "dict",
    ],
)
def test_others_refuse_joined_backbones_with_a_way_out(refuse, message, tmp_path):
    with pytest.raises(InvalidParameterError, match=message):
        refuse(tmp_path)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"freeze_depth": {"text": 0, "image": -9}}, "^tower 'image': freeze_depth=-9 is out of range for 7 stages"),
        ({"layer": {"text": 0, "image": "blok1"}}, "^tower 'image': layer='blok1' .* Did you mean 'block1'"),
        ({"layer": 0, "pooling": {"text": "grid2", "image": "grid2"}}, "^tower 'text': pooling='grid2'"),
        ({"layer": 0, "augment": {"image": "flip"}}, "^tower 'image': augment='flip' must be None"),
    ],
    ids=["freeze_depth", "layer", "pooling", "augment"],
)
def test_errors_of_parameters_name_the_tower(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        FineTuneClassifier(JOINED, max_epochs=0, **params).fit(FRAME, Y)
