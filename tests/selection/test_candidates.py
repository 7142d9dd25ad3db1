from __future__ import annotations

import numpy as np
import pytest
import torch

from sktransfer import ImageFeaturizer, PretrainedClassifier, load_backbone
from sktransfer.cache.memory import MemoryStore
from sktransfer.engine.compute import Compute
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.images import check_images
from sktransfer.selection.candidates import Run, layer_taps, named, run_once
from sktransfer.testing.samples import make_samples

IMAGES, _ = make_samples("image", 9)
CNN = load_backbone("tiny/cnn")
RANDOM = load_backbone("tiny/cnn", weights="random")
RUN = Run(Compute(torch.device("cpu"), batch_size=4), None)


def test_names_are_those_of_the_backbones_or_those_of_the_dict():
    assert list(named(["tiny/cnn", RANDOM])) == ["tiny/cnn", "tiny/cnn (random)"]
    assert named(("tiny/cnn",))["tiny/cnn"] is CNN
    assert list(named({"one": CNN, "other": "tiny/cnn"})) == ["one", "other"]


@pytest.mark.parametrize(
    ("candidates", "match"),
    [
        ("tiny/cnn", "must be a list of names"),
        ([], "must be a list of names"),
        ({}, "must be a list of names"),
        (["tiny/cnn", CNN], "candidates name 'tiny/cnn' twice; a dict"),
        (["tiny/cnn", "tiny/bert"], "'tiny/cnn': 'image', 'tiny/bert': 'text'"),
        ([ImageFeaturizer()], "must be a name or a Backbone"),
    ],
)
def test_what_is_no_list_of_backbones_of_one_modality_is_an_error(candidates, match):
    with pytest.raises(InvalidParameterError, match=match):
        named(candidates)


def test_layers_are_named_as_a_featurizer_names_them():
    assert [tap.stop for tap in layer_taps(CNN, "all")] == [1, 2, 3, 4, 5, 6, 7]
    assert [tap.stop for tap in layer_taps(CNN, "last")] == [7]
    assert [tap.stop for tap in layer_taps(CNN, ["block2", 0])] == [3, 1]
    assert {tap.pooling for tap in layer_taps(CNN, "all")} == {"average"}
    assert layer_taps(CNN, [-1], "max")[0].pooling == "max"
    for wrong in ("first", 3, None):
        with pytest.raises(InvalidParameterError, match="layers="):
            layer_taps(CNN, wrong)


def test_every_layer_comes_out_of_one_pass():
    fresh = load_backbone("tiny/cnn", weights="random", seed=97)  # one that has run has copies, which no hook sees
    seen = []
    hook = fresh.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    run_once(fresh, check_images(IMAGES), layer_taps(fresh, "all"), RUN, with_head=True)
    hook.remove()
    assert sum(seen) == len(IMAGES)


def test_each_layer_has_its_features_and_the_head_its_probabilities():
    one = run_once(CNN, check_images(IMAGES), layer_taps(CNN, "all"), RUN, with_head=True)
    for layer, features in enumerate(one.features):
        expected = ImageFeaturizer(layer=layer, cache=None).fit_transform(IMAGES)
        np.testing.assert_allclose(features, expected, atol=1e-5 * np.abs(expected).max())
    order = np.argsort(CNN.categories)
    np.testing.assert_allclose(one.probabilities[:, order], PretrainedClassifier().predict_proba(IMAGES), atol=1e-5)
    assert one.seconds > 0


def test_without_a_head_or_its_names_there_are_no_probabilities():
    taps = layer_taps(RANDOM, "last")
    assert run_once(RANDOM, check_images(IMAGES), taps, RUN, with_head=True).probabilities is None
    assert run_once(CNN, check_images(IMAGES), taps, RUN).probabilities is None


def test_the_same_layer_twice_comes_twice():
    one = run_once(CNN, check_images(IMAGES), layer_taps(CNN, ["top", -1]), RUN)
    np.testing.assert_array_equal(one.features[0], one.features[1])


def test_a_bar_is_shown_and_the_store_is_filled(capsys):
    store = MemoryStore()
    run = Run(RUN.compute, store, verbose=1)
    run_once(CNN, check_images(IMAGES), layer_taps(CNN, "all"), run, name="tiny/cnn")
    assert "9/9" in capsys.readouterr().err
    assert store.info().n_entries == 7 * len(IMAGES)
