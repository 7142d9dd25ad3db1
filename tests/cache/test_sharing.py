"""Sharing of a folder store by processes, and invalidation of entries by file content and weights."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import sktransfer
from sktransfer import ImageFeaturizer, TextFeaturizer, cache_info
from tests.cache.test_faults import TEXTS, features_elsewhere


@pytest.fixture
def image_files(tmp_path):
    """Four image files of the same size and modification time."""
    noise, paths = np.random.default_rng(0), [tmp_path / f"{n}.bmp" for n in range(4)]
    for path in paths:
        Image.fromarray(noise.integers(0, 256, (24, 24, 3), np.uint8)).save(path)
        os.utime(path, (10**9, 10**9))
    return paths


def test_cache_misses_a_file_with_changed_content(image_files, tmp_path):
    featurizer = ImageFeaturizer(cache=tmp_path / "kept")
    before = featurizer.fit_transform(image_files)
    pixels = np.random.default_rng(1)
    Image.fromarray(pixels.integers(0, 256, (24, 24, 3), np.uint8)).save(image_files[1])  # same size, other time
    Image.fromarray(pixels.integers(0, 256, (24, 30, 3), np.uint8)).save(image_files[2])  # larger, same time
    os.utime(image_files[2], (10**9, 10**9))
    after = featurizer.transform(image_files)
    plain = ImageFeaturizer(cache=None).fit_transform(image_files)
    np.testing.assert_allclose(after, plain, atol=1e-5 * np.abs(plain).max())
    assert [np.array_equal(a, b) for a, b in zip(before, after)] == [True, False, False, True]


def test_cache_misses_changed_weights(image_files, tmp_path):
    file, features = tmp_path / "weights.safetensors", []
    (shipped,) = (Path(sktransfer.__file__).parent / "providers" / "shipped").glob("tiny_cnn.safetensors")
    for factor in (1.0, 0.5):
        save_file({name: tensor * factor for name, tensor in load_file(shipped).items()}, file)
        for cache in (tmp_path / "kept", None):
            features.append(ImageFeaturizer(weights=file, cache=cache).fit_transform(image_files))
    np.testing.assert_allclose(features[0], features[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features[2], features[3], rtol=1e-4, atol=1e-5)
    assert not np.allclose(features[0], features[2], rtol=1e-2)


@pytest.mark.process
def test_cache_hits_entries_of_another_process(tmp_path):
    assert features_elsewhere(tmp_path / "kept") == ["equal"]
    features = TextFeaturizer(cache=tmp_path / "kept").fit_transform(TEXTS)
    assert np.array_equal(features, TextFeaturizer(cache=None).fit_transform(TEXTS))
    info = cache_info(tmp_path / "kept")
    assert (info.hits, info.misses) == (len(TEXTS), 0)


@pytest.mark.process
@pytest.mark.loky
def test_cache_is_shared_by_grid_search_processes(tmp_path):
    X, y = [f"film {n} {'good' if n % 2 else 'bad'}" for n in range(24)], np.arange(24) % 2
    scores = {}
    for cache, n_jobs in ((tmp_path / "kept", 2), (None, 1)):
        pipeline = make_pipeline(TextFeaturizer(cache=cache), LogisticRegression())
        search = GridSearchCV(pipeline, {"logisticregression__C": [0.01, 1.0]}, cv=3, n_jobs=n_jobs)
        scores[n_jobs] = search.fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores[2], scores[1])
    info = cache_info(tmp_path / "kept")
    assert info.n_entries % 24 == 0
    assert info.misses == 0  # the refit in this process finds the entries of the workers
