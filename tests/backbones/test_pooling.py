from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sktransfer import ImageFeaturizer, TextFeaturizer, cache_info, clear_cache
from sktransfer.backbones.pooling import POOLINGS, cheap_poolings, check_pooling, default_pooling, pool, pooling_names
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(2, 3, 6, 6)).astype(np.float32)
TOKENS = RNG.normal(size=(2, 2 + 9, 4)).astype(np.float32)  # two prefix tokens, nine patches
TEXT = RNG.normal(size=(3, 4, 2)).astype(np.float32)
LENGTHS = (4, 2, 0)
MASK = torch.arange(4) < torch.tensor(LENGTHS)[:, None]


def pooled(values, kind, mask=None, prefix_tokens=0):
    return pool(torch.from_numpy(values), mask, kind, prefix_tokens=prefix_tokens).numpy()


def cells(maps, n):
    """Average a map whose sides n divides, channel by channel, rows first."""
    size = maps.shape[-1] // n
    blocks = [maps[..., r * size : (r + 1) * size, c * size : (c + 1) * size] for r in range(n) for c in range(n)]
    return np.stack([block.mean((2, 3)) for block in blocks], axis=2).reshape(len(maps), -1)


PATCHES = TOKENS[:, 2:].transpose(0, 2, 1).reshape(2, 4, 3, 3)
IMAGES = {
    ("maps", "average"): MAPS.mean((2, 3)),
    ("maps", "max"): MAPS.max((2, 3)),
    ("maps", "flatten"): MAPS.reshape(2, -1),
    ("maps", "grid2"): cells(MAPS, 2),
    ("maps", "grid3"): cells(MAPS, 3),
    ("tokens", "average"): TOKENS[:, 2:].mean(1),
    ("tokens", "max"): TOKENS[:, 2:].max(1),
    ("tokens", "class_token"): TOKENS[:, 0],
    ("tokens", "flatten"): TOKENS.reshape(2, -1),
    ("tokens", "grid3"): PATCHES.reshape(2, -1),
}


@pytest.mark.parametrize(("shape", "kind"), IMAGES)
def test_pool_of_images_equals_the_reference(shape, kind):
    values, prefix = (MAPS, 0) if shape == "maps" else (TOKENS, 2)
    np.testing.assert_allclose(pooled(values, kind, prefix_tokens=prefix), IMAGES[shape, kind], rtol=1e-5, atol=1e-6)


def test_pool_grid_size_is_fixed_for_maps_it_does_not_divide():
    assert pooled(MAPS[:, :, :5, :3], "grid2").shape == (2, 3 * 4)
    assert pooled(MAPS[:, :, :1, :1], "grid3").shape == (2, 3 * 9)


def test_pool_treats_patches_that_are_no_square_as_a_strip():
    np.testing.assert_allclose(pooled(TOKENS[:, :9], "average", prefix_tokens=1), TOKENS[:, 1:9].mean(1), rtol=1e-5)
    assert pooled(TOKENS[:, :9], "grid2", prefix_tokens=1).shape == (2, 4 * 4)


@pytest.mark.parametrize("kind", ["average", "max", "flatten"])
def test_pool_keeps_vectors_of_images(kind):
    assert (pooled(MAPS[:, :, 0, 0], kind) == MAPS[:, :, 0, 0]).all()


def by_hand(kind):
    rows = []
    for values, length in zip(TEXT, LENGTHS):
        real = values[:length]
        mean, highest = (real.mean(0), real.max(0)) if length else (np.zeros(2), np.zeros(2))
        choices = {"mean": mean, "max": highest, "mean+max": np.concatenate([mean, highest])}
        choices |= {"class_token": values[0], "last_token": values[max(length - 1, 0)]}
        rows.append(choices[kind])
    return np.stack(rows)


@pytest.mark.parametrize("kind", pooling_names("text"))
def test_pool_of_texts_equals_the_reference(kind):
    np.testing.assert_allclose(pooled(TEXT, kind, MASK), by_hand(kind), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("filler", [1e6, -1e6, np.nan, np.inf])
@pytest.mark.parametrize("kind", ["mean", "max", "mean+max", "last_token"])
def test_pool_ignores_values_in_padding(kind, filler):
    filled = np.where(MASK.numpy()[:, :, None], TEXT, np.float32(filler))
    assert (pooled(filled[:2], kind, MASK[:2]) == pooled(TEXT[:2], kind, MASK[:2])).all()


@pytest.mark.parametrize("kind", ["mean", "max", "mean+max"])
def test_pool_of_a_text_without_tokens_is_zero(kind):
    filled = np.where(MASK.numpy()[:, :, None], TEXT, np.float32(np.nan))
    assert (pooled(filled, kind, MASK)[2] == 0).all()


@pytest.mark.parametrize("kind", ["mean", "max"])
def test_pool_keeps_vectors_of_texts(kind):
    assert (pooled(TEXT[:, 0], kind, MASK) == TEXT[:, 0]).all()


@pytest.mark.parametrize(
    ("values", "mask", "kind", "prefix"),
    [
        (MAPS, None, "class_token", 0),
        (TOKENS, None, "class_token", 0),
        (MAPS[:, :, 0, 0], None, "class_token", 1),
        (MAPS[:, :, 0, 0], None, "grid2", 0),
        (TEXT[:, 0], MASK, "class_token", 0),
        (TEXT[:, 0], MASK, "mean+max", 0),
        (MAPS, None, "auto", 0),
        (MAPS, None, "mean", 0),
        (MAPS, None, "grid9", 0),
        (TEXT, MASK, "average", 0),
        (TEXT, MASK, "grid2", 0),
        (TEXT, MASK, "auto", 0),
    ],
)
def test_pool_refuses_a_kind_that_the_values_do_not_allow(values, mask, kind, prefix):
    with pytest.raises(InvalidParameterError, match=f"pooling='{kind}'".replace("+", r"\+")):
        pooled(values, kind, mask, prefix)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_check_pooling_allows_auto_and_the_names_of_the_modality(modality):
    for kind in ("auto", *pooling_names(modality)):
        assert check_pooling(kind, modality) == kind


@pytest.mark.parametrize(
    ("kind", "modality", "says"),
    [
        ("last_token", "image", "pooling='last_token' is not known.*'average'"),
        ("grid2", "text", "pooling='grid2'"),
        ("averge", "image", "Did you mean 'average'"),
        (None, "text", "pooling=None"),
        (["mean"], "text", "pooling="),
    ],
)
def test_check_pooling_names_the_allowed_values(kind, modality, says):
    with pytest.raises(InvalidParameterError, match=says):
        check_pooling(kind, modality)


@pytest.mark.parametrize(("modality", "backbone"), [("image", "tiny/cnn"), ("text", "tiny/bert")])
def test_check_pooling_accepts_the_other_name_of_the_mean(modality, backbone):
    assert {check_pooling(name, modality) for name in ("mean", "average")} == {default_pooling(modality)}
    X, _ = make_samples(modality, 3)
    estimator = {"image": ImageFeaturizer, "text": TextFeaturizer}[modality]
    clear_cache()
    found = [estimator(backbone, pooling="mean").fit_transform(X)]
    before = cache_info()
    found.append(estimator(backbone, pooling="average").fit_transform(X))
    assert np.array_equal(*found)
    assert (cache_info().n_entries, cache_info().misses) == (before.n_entries, before.misses)
    featurizer = pickle.loads(pickle.dumps(clone(estimator(backbone, pooling="average"))))
    assert featurizer.get_params()["pooling"] == "average"


def test_pooling_names_begin_with_default_pooling():
    assert pooling_names("image") == ("average", "max", "class_token", "flatten", "grid2", "grid3")
    assert pooling_names("text") == ("mean", "max", "class_token", "last_token", "mean+max")
    assert [default_pooling(modality) for modality in ("image", "text")] == ["average", "mean"]


def test_cheap_poolings_give_few_vectors_per_sample():
    assert set(cheap_poolings()) == {"average", "max", "mean", "mean+max"}
    assert all(POOLINGS[name].name == name for name in POOLINGS)


@pytest.mark.parametrize(("featurizer", "modality"), [(ImageFeaturizer, "image"), (TextFeaturizer, "text")])
def test_pooling_values_are_documented(featurizer, modality):
    documented = re.search(r"^ *pooling : \{(.*)\}", featurizer.__doc__, re.MULTILINE).group(1)
    assert set(documented.replace('"', "").split(", ")) == {"auto", *pooling_names(modality)}
