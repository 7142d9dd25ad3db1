"""One pass before the training: features for the head, and what the cut gives for the store."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sktransfer import ImageFeaturizer, load_backbone
from sktransfer.cache.memory import MemoryStore
from sktransfer.engine.compute import Compute
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layers import LayerOutput
from sktransfer.samples.images import check_images
from sktransfer.testing.samples import make_samples
from sktransfer.training.data import collect_features, precompute_features

IMAGES, _ = make_samples("image", 9)
COMPUTE = Compute(torch.device("cpu"))


def run(store, rows, seed=0):
    backbone = load_backbone("tiny/cnn", weights="random", seed=900 + seed)
    ran = []
    # Before the first run: the stages that run are copies, made then.
    backbone.stages[0].register_forward_hook(lambda module, args, out: ran.append(len(out)))
    inputs = PreprocessedSamples(check_images(IMAGES), backbone.preprocess)
    found = precompute_features(
        backbone, inputs, [LayerOutput(7, "average")], 3, rows, train_rows=range(9), compute=COMPUTE, store=store
    )
    return backbone, inputs, found, ran


def cut_value():
    backbone, inputs, _, _ = run(None, [0], seed=50)
    ((value,),) = collect_features(backbone, inputs, [LayerOutput(3)], [0], compute=COMPUTE)
    return value


@pytest.mark.parametrize("rows", [range(9), range(1)], ids=["all", "one"])
def test_features_are_returned_and_all_values_at_the_cut_are_kept(rows):
    store = MemoryStore(
        int(1.6 * 9 * cut_value().nbytes)
    )  # room for the cut, and hardly for what may be spared besides
    backbone, inputs, (features,), ran = run(store, rows, seed=len(rows))
    assert sum(ran) == 9
    collect_features(backbone, inputs, [LayerOutput(3)], range(9), compute=COMPUTE, store=store)
    assert sum(ran) == 9
    expected = ImageFeaturizer(backbone, cache=None).fit_transform(IMAGES)[list(rows)]
    np.testing.assert_allclose(torch.stack(features), expected, atol=1e-5 * np.abs(expected).max())


def test_without_a_store_only_the_rows_asked_for_run():
    _, _, (features,), ran = run(None, [4], seed=60)
    assert torch.stack(features).shape == (1, 512)
    assert sum(ran) == 1
