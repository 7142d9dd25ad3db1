"""Stages in a runtime that runs programs of `torch.export` as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import sktransfer
from sktransfer import Backbone, FineTuneClassifier, ImageFeaturizer, TextFeaturizer, load_backbone
from sktransfer.exceptions import InvalidParameterError, RuntimeFallbackWarning
from sktransfer.testing.samples import make_samples
from tests.runtimes.test_resolve import Made, installed  # noqa: F401, a fixture

IMAGES, LABELS = make_samples("image", 12)
TEXTS, _ = make_samples("text", 7)


class Counting(Made):
    """Runtime that counts what it converts, and whose results can be wrong."""

    def __init__(self, *args, factor=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor, self.n_converted = factor, 0

    def convert(self, program):
        self.n_converted += 1
        return super().convert(program)

    def compile(self, model, precision, n_threads):
        run = super().compile(model, precision, n_threads)
        return lambda arrays: run(arrays) * np.float32(self.factor)


class Branch(nn.Module):
    """Stage that torch cannot export, because the code that runs depends on values."""

    def forward(self, values):
        return values if float(values.mean()) < 1e9 else -values


def small(*more):
    network = [("stem", nn.Conv2d(3, 4, 3, stride=2)), ("top", nn.Conv2d(4, 6, 3, stride=2)), *more]
    return Backbone.from_modules(network, input_size=(16, 16))


@pytest.fixture
def runtime(installed):  # noqa: F811
    made = Counting("made", precisions=("float32", "int8"))
    installed(made)
    with sktransfer.config_context(runtime="made"):
        yield made


def in_torch(estimator, X):
    with sktransfer.config_context(runtime="torch"):
        return estimator.fit_transform(X)


@pytest.mark.parametrize("layer", [-1, [0, 1]])
def test_compile_stages_makes_one_model_between_two_outputs(runtime, layer):
    featurizer = ImageFeaturizer(small(), layer=layer, cache=None)
    np.testing.assert_allclose(featurizer.fit_transform(IMAGES), in_torch(featurizer, IMAGES), atol=1e-6)
    assert runtime.n_converted == np.size(layer)
    featurizer.fit_transform(IMAGES)
    assert runtime.n_converted == np.size(layer)  # kept with the backbone


def test_compile_stages_of_padded_texts_equal_torch(runtime):
    featurizer = TextFeaturizer("tiny/bert", layer=1, cache=None)
    np.testing.assert_allclose(featurizer.fit_transform(TEXTS), in_torch(featurizer, TEXTS), atol=1e-5)
    assert runtime.n_converted == 1


def test_compile_stages_resumes_from_cached_values(runtime):
    backbone = small()
    sktransfer.clear_cache()
    ImageFeaturizer(backbone, layer=0, cache="memory").fit_transform(IMAGES)
    resumed = ImageFeaturizer(backbone, cache="memory").fit_transform(IMAGES)
    np.testing.assert_allclose(resumed, in_torch(ImageFeaturizer(backbone, cache=None), IMAGES), atol=1e-6)
    assert runtime.n_converted == 2
    sktransfer.clear_cache()


def test_compile_stages_leaves_trained_stages_to_torch(runtime):
    backbone = small()
    clf = FineTuneClassifier(backbone, freeze_depth=1, max_epochs=1, lr=1e-3, random_state=0, cache=None)
    n_converted = clf.fit(IMAGES, LABELS) and runtime.n_converted
    clf.predict_proba(IMAGES)
    assert runtime.n_converted == n_converted + 1  # the frozen stage of the trained backbone
    with sktransfer.config_context(runtime="torch"):
        expected = clf.predict_proba(IMAGES)
    np.testing.assert_allclose(clf.predict_proba(IMAGES), expected, atol=1e-5)


def test_compile_stages_falls_back_to_torch_with_one_warning(runtime, recwarn):
    featurizer = ImageFeaturizer(small(("branch", Branch())), cache=None)
    with pytest.warns(RuntimeFallbackWarning, match="made cannot compute own/network .*: torch computes it instead"):
        found = featurizer.fit_transform(IMAGES)
    np.testing.assert_array_equal(found, featurizer.fit_transform(IMAGES))
    assert not recwarn.list
    np.testing.assert_array_equal(found, in_torch(featurizer, IMAGES))


def test_cache_has_values_of_a_fallback_as_those_of_torch(runtime):
    sktransfer.clear_cache()
    featurizer = ImageFeaturizer(small(("branch", Branch())), cache="memory")
    with pytest.warns(RuntimeFallbackWarning):
        found = featurizer.fit_transform(IMAGES)
    before = sktransfer.cache_info()
    np.testing.assert_array_equal(in_torch(featurizer, IMAGES), found)
    np.testing.assert_array_equal(featurizer.fit_transform(IMAGES), found)
    after = sktransfer.cache_info()
    assert (after.misses, after.n_entries) == (before.misses, before.n_entries)
    assert after.hits > before.hits
    sktransfer.clear_cache()


def test_cache_has_no_values_of_torch_that_resume_from_a_runtime(runtime):
    sktransfer.clear_cache()
    backbone = small(("branch", Branch()))
    ImageFeaturizer(backbone, layer=0, cache="memory").fit_transform(IMAGES)
    before = sktransfer.cache_info()
    with pytest.warns(RuntimeFallbackWarning):
        ImageFeaturizer(backbone, cache="memory").fit_transform(IMAGES)
    assert sktransfer.cache_info().n_entries == before.n_entries
    sktransfer.clear_cache()


def test_compile_stages_in_int8_never_falls_back(runtime):
    with pytest.raises(InvalidParameterError, match=r"precision='int8': made cannot compute .*precision='float32'"):
        ImageFeaturizer(small(), cache=None, precision="int8").fit_transform(IMAGES)


def test_compile_stages_refuses_a_runtime_with_other_values(runtime):
    runtime.factor = 1.01
    with pytest.warns(RuntimeFallbackWarning, match="gives values that differ by"):
        ImageFeaturizer(small(), cache=None).fit_transform(IMAGES)


def test_compile_stages_forgets_models_of_changed_weights(runtime):
    backbone = small()
    featurizer = ImageFeaturizer(backbone, cache=None)
    before = featurizer.fit_transform(IMAGES)
    with torch.no_grad():
        next(backbone.stages.parameters()).mul_(2)
    after = featurizer.fit_transform(IMAGES)
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, in_torch(featurizer, IMAGES), atol=1e-6)


def test_runtime_cache_that_cannot_be_written_or_read_is_left_aside(runtime, tmp_path):
    (tmp_path / "file").write_text("")
    expected = in_torch(ImageFeaturizer(small(), cache=None), IMAGES).shape
    for folder in (tmp_path / "models", tmp_path / "models", tmp_path / "file"):
        with sktransfer.config_context(runtime_cache=folder):
            assert ImageFeaturizer(small(), cache=None).fit_transform(IMAGES).shape == expected
    assert not list((tmp_path / "models").glob(".new-*"))


def test_models_of_a_runtime_are_shared_by_users_of_a_backbone(runtime):
    load_backbone("tiny/cnn").copies.clear()
    for _ in range(2):
        ImageFeaturizer("tiny/cnn", layer=0, cache=None).fit_transform(IMAGES)
    assert runtime.n_converted == 1
