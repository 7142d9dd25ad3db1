"""Candidate backbones and their outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sktransfer import ImageFeaturizer, PretrainedClassifier, load_backbone
from sktransfer.cache.memory import MemoryStore
from sktransfer.engine.compute import Compute
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.images import check_images
from sktransfer.selection.candidates import RunSettings, resolve_candidate_layers, resolve_candidates, run_backbone
from sktransfer.testing.samples import make_samples

IMAGES, _ = make_samples("image", 9)
CNN = load_backbone("tiny/cnn")
RANDOM = load_backbone("tiny/cnn", weights="random")
SETTINGS = RunSettings(Compute(torch.device("cpu"), batch_size=4), None)


def test_resolve_candidates_names_backbones_or_takes_the_names_of_a_dict():
    assert list(resolve_candidates(["tiny/cnn", RANDOM])) == ["tiny/cnn", "tiny/cnn (random)"]
    assert resolve_candidates(("tiny/cnn",))["tiny/cnn"] is CNN
    assert list(resolve_candidates({"one": CNN, "other": "tiny/cnn"})) == ["one", "other"]


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
def test_resolve_candidates_checks_candidates(candidates, match):
    with pytest.raises(InvalidParameterError, match=match):
        resolve_candidates(candidates)


def test_resolve_candidate_layers_takes_indices_and_names():
    assert [layer.stop for layer in resolve_candidate_layers(CNN, "all")] == [1, 2, 3, 4, 5, 6, 7]
    assert [layer.stop for layer in resolve_candidate_layers(CNN, "last")] == [7]
    assert [layer.stop for layer in resolve_candidate_layers(CNN, ["block2", 0])] == [3, 1]
    assert {layer.pooling for layer in resolve_candidate_layers(CNN, "all")} == {"average"}
    assert resolve_candidate_layers(CNN, [-1], "max")[0].pooling == "max"
    for wrong in ("first", 3, None):
        with pytest.raises(InvalidParameterError, match="layers="):
            resolve_candidate_layers(CNN, wrong)


def test_run_backbone_runs_each_sample_once_for_all_layers():
    fresh = load_backbone("tiny/cnn", weights="random", seed=97)  # a backbone that has run has copies without the hook
    batch_sizes = []
    hook = fresh.stages[0].register_forward_hook(lambda module, args, out: batch_sizes.append(len(out)))
    run_backbone(fresh, check_images(IMAGES), resolve_candidate_layers(fresh, "all"), SETTINGS, with_head=True)
    hook.remove()
    assert sum(batch_sizes) == len(IMAGES)


def test_run_backbone_returns_features_of_layers_and_probabilities_of_the_head():
    outputs = run_backbone(CNN, check_images(IMAGES), resolve_candidate_layers(CNN, "all"), SETTINGS, with_head=True)
    for layer, features in enumerate(outputs.features):
        expected = ImageFeaturizer(layer=layer, cache=None).fit_transform(IMAGES)
        np.testing.assert_allclose(features, expected, atol=1e-5 * np.abs(expected).max())
    order = np.argsort(CNN.categories)
    np.testing.assert_allclose(outputs.probabilities[:, order], PretrainedClassifier().predict_proba(IMAGES), atol=1e-5)
    assert outputs.seconds > 0


def test_run_backbone_without_a_head_or_with_head_false_returns_no_probabilities():
    layers = resolve_candidate_layers(RANDOM, "last")
    assert run_backbone(RANDOM, check_images(IMAGES), layers, SETTINGS, with_head=True).probabilities is None
    assert run_backbone(CNN, check_images(IMAGES), layers, SETTINGS).probabilities is None


def test_run_backbone_returns_a_repeated_layer_twice():
    outputs = run_backbone(CNN, check_images(IMAGES), resolve_candidate_layers(CNN, ["top", -1]), SETTINGS)
    np.testing.assert_array_equal(outputs.features[0], outputs.features[1])


def test_run_backbone_shows_progress_and_fills_the_store(capsys):
    store = MemoryStore()
    settings = RunSettings(SETTINGS.compute, store, verbose=1)
    run_backbone(CNN, check_images(IMAGES), resolve_candidate_layers(CNN, "all"), settings, name="tiny/cnn")
    assert "9/9" in capsys.readouterr().err
    assert store.info().n_entries == 7 * len(IMAGES)
