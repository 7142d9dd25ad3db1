"""Joined backbones: towers, shared networks, parameters by tower, and pickles."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import Backbone, JoinedBackbone, load_backbone
from sktransfer.engine.compute import Compute
from sktransfer.engine.forward import forward
from sktransfer.engine.inputs import PreprocessedSamples, preprocessed
from sktransfer.engine.layers import resolve_layers
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.images import check_images
from sktransfer.samples.texts import check_texts
from tests.helpers.estimators import BERT

CPU = Compute(torch.device("cpu"))
TEXTS = ["one", "two words", "three more words", "four"]
IMAGES = np.random.default_rng(0).integers(0, 255, (4, 8, 8), dtype=np.uint8)


def convolutions(n=2):
    modules = [(f"conv{i}", nn.Conv2d(3, 3, 3, padding=1)) for i in range(n)]
    return Backbone.from_modules(modules, input_size=(8, 8))


@pytest.fixture(scope="module")
def joined():
    return Backbone.join({"text": BERT, "image": "tiny/cnn"}, missing="zero")


def outputs(backbone, X, layers, rows=None):
    inputs = preprocessed(backbone.takes.read(X), backbone.preprocess)
    found = {}
    for part, values in forward(backbone, inputs, layers, compute=CPU, rows=rows):
        found |= {row: [one[i] for one in values] for i, row in enumerate(part)}
    return found


def test_join_names_stages_by_tower(joined):
    assert isinstance(joined, JoinedBackbone)
    text, image = load_backbone(BERT), load_backbone("tiny/cnn")
    assert joined.stage_names == (
        *(f"text.{name}" for name in text.stage_names),
        *(f"image.{name}" for name in image.stage_names),
    )
    assert list(joined.stages) == [*text.stages, *image.stages]


def test_join_shares_a_network_under_two_names():
    shared = Backbone.join({"left": "tiny/cnn", "right": load_backbone("tiny/cnn"), "text": BERT})
    assert [names for names, _ in shared.networks] == [("left", "right"), ("text",)]
    assert len(shared.stages) == len(load_backbone("tiny/cnn").stages) + len(load_backbone(BERT).stages)
    smaller = load_backbone("tiny/cnn").with_preprocess(load_backbone("tiny/cnn").preprocess.updated({"resize": 16}))
    other = Backbone.join({"left": "tiny/cnn", "right": smaller})
    assert [names for names, _ in other.networks] == [("left", "right")]
    assert other.preprocess.towers["left"].key != other.preprocess.towers["right"].key


@pytest.mark.parametrize(
    ("towers", "message"),
    [
        ({"text": "tiny/bert"}, "a backbone for each of two columns or more"),
        (["tiny/bert", "tiny/cnn"], "must be a dict"),
        ({"my text": "tiny/bert", "image": "tiny/cnn"}, "'my text' is not an identifier"),
        ({0: "tiny/bert", "image": "tiny/cnn"}, "0 is not an identifier"),
        ({"text": 3, "image": "tiny/cnn"}, "must be a name or a Backbone"),
    ],
    ids=["one", "list", "blank", "number", "type"],
)
def test_join_refuses_other_towers(towers, message):
    with pytest.raises(InvalidParameterError, match=message):
        Backbone.join(towers)


def test_join_refuses_joined_towers(joined):
    with pytest.raises(InvalidParameterError, match="is joined itself"):
        Backbone.join({"both": joined, "image": "tiny/cnn"})


def test_missing_must_be_known():
    with pytest.raises(InvalidParameterError, match="missing='mean'"):
        Backbone.join({"text": BERT, "image": "tiny/cnn"}, missing="mean")


def test_forward_equals_the_towers_alone(joined):
    layers = resolve_layers(joined, {"text": [0, -1], "image": "block3"}, "auto")
    found = outputs(joined, {"text": TEXTS, "image": IMAGES}, layers)
    alone = {}
    for tower, samples in (("text", check_texts(TEXTS)), ("image", check_images(IMAGES))):
        backbone = joined.towers[tower]
        own = [layer.alone() for layer in layers if layer.tower == tower]
        for rows, values in forward(backbone, PreprocessedSamples(samples, backbone.preprocess), own, compute=CPU):
            for i, row in enumerate(rows):
                alone.setdefault(row, []).extend(one[i] for one in values)
    for row in range(4):
        assert all(map(torch.equal, found[row], alone[row]))


def test_forward_gives_zeros_without_a_sample(joined):
    layers = resolve_layers(joined, -1, "auto")
    X = {"text": ["one", None, "three", "four"], "image": [IMAGES[0], IMAGES[1], None, None]}
    found = outputs(joined, X, layers)
    full = outputs(joined, {"text": TEXTS, "image": IMAGES}, layers)
    assert torch.equal(found[1][0], torch.zeros_like(full[1][0]))
    assert torch.equal(found[1][1], full[1][1])
    only_texts = outputs(joined, X, layers, rows=[2, 3])  # no row shows the width of the images' features
    assert torch.equal(only_texts[2][1], torch.zeros_like(full[2][1]))


def test_run_refuses_towers(joined):
    with pytest.raises(InvalidParameterError, match=r"backbone\.towers\['text'\]\.run"):
        joined.run(torch.zeros(1))


def test_n_frozen_by_tower(joined):
    n_text, n_image = (len(tower.stages) for tower in joined.towers.values())
    assert joined.n_frozen(-1) == {"text": n_text - 1, "image": n_image - 1}
    assert joined.n_frozen(0.5) == {"text": n_text // 2, "image": n_image // 2}
    depths = joined.n_frozen({"text": 1, "image": "all"})
    assert depths == {"text": 1, "image": n_image}
    assert joined.trains(depths) == [False] + [True] * (n_text - 1) + [False] * n_image


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        ({"text": 1, "imag": 0}, "has the key 'imag'.*Did you mean 'image'"),
        ({"text": 1}, r"lacks a value for \['image'\]"),
        ({"text": 1, "image": "layer1"}, "is not a stage of tiny/cnn"),
        ("block1", "is not a stage of"),
    ],
    ids=["key", "tower", "stage", "stage of one"],
)
def test_n_frozen_refuses_other_depths(joined, depth, message):
    with pytest.raises(InvalidParameterError, match=message):
        joined.n_frozen(depth)


def test_n_frozen_is_one_for_a_shared_network():
    shared = Backbone.join({"left": "tiny/cnn", "right": "tiny/cnn"})
    assert shared.n_frozen({"left": 2, "right": 2}) == {"left": 2, "right": 2}
    with pytest.raises(InvalidParameterError, match="share one network"):
        shared.n_frozen({"left": 1, "right": 2})


def test_max_length_by_tower():
    two = Backbone.join({"title": BERT, "body": BERT, "image": "tiny/cnn"})
    limits = [
        [one.preprocess.limit for one in list(load_backbone(two, max_length=length).towers.values())[:2]]
        for length in (6, {"title": 4, "body": 8}, {"title": 4})
    ]
    assert limits[:2] == [[6, 6], [4, 8]]
    assert limits[2] == [4, load_backbone(BERT).preprocess.limit]
    with pytest.raises(InvalidParameterError, match="'image' is none of them"):
        load_backbone(two, max_length={"image": 4})
    with pytest.raises(InvalidParameterError, match=r"the columns of texts are \[\]"):
        load_backbone(Backbone.join({"left": "tiny/cnn", "right": "tiny/cnn"}), max_length=4)


def test_preprocess_by_tower():
    two = Backbone.join({"left": "tiny/cnn", "right": "tiny/cnn"})
    both = load_backbone(two, preprocess={"resize": 16})
    assert [tower.preprocess.resize for tower in both.towers.values()] == [16, 16]
    one = load_backbone(two, preprocess={"right": {"resize": 16}})
    assert one.towers["left"].preprocess == load_backbone("tiny/cnn").preprocess
    assert one.towers["right"].preprocess.resize == 16
    assert [names for names, _ in one.networks] == [("left", "right")]


def test_fingerprint_and_properties_tell_joined_backbones_apart(joined):
    other = Backbone.join({"image": "tiny/cnn", "text": BERT}, missing="zero")
    strict = Backbone.join(dict(joined.towers))
    assert joined.fingerprint() == strict.fingerprint()
    assert joined.properties() != strict.properties()
    assert joined.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("name", ["names", "modules"])
def test_pickle_keeps_shared_networks(name):
    network = load_backbone("tiny/cnn") if name == "names" else convolutions()
    shared = Backbone.join({"left": network, "right": network}, missing="zero")
    copied = pickle.loads(pickle.dumps(shared))
    assert [names for names, _ in copied.networks] == [("left", "right")]
    assert copied.fingerprint() == shared.fingerprint()
    assert copied.missing == "zero"
