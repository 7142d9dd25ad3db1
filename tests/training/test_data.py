"""Batches that start at the freezing boundary, and the features of the pretrained network."""

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
from tests.helpers.runs import dataset


@pytest.mark.parametrize("boundary", [0, 1, 3])
def test_batch_of_texts_resumes_to_the_output_of_the_whole_network(boundary):
    data = dataset("text", boundary)
    arguments, _ = data.batch([3, 0, 8])
    backbone = data.backbone
    ids = data.inputs.tensors([3, 0, 8])
    with torch.no_grad():
        found = list(backbone.run(arguments["values"], arguments["mask"], start=boundary))[-1]
        for i, one in enumerate(ids):
            whole = list(backbone.run(one[None], torch.ones(1, len(one), dtype=torch.bool)))[-1][0]
            torch.testing.assert_close(found[i, : len(one)], whole, atol=1e-5, rtol=1e-5)


def test_batch_holds_values_only_if_stages_are_trained():
    layers = [LayerOutput(1, "average"), LayerOutput(7, "average")]
    arguments, _ = dataset("image", 7, layers=layers).batch([0, 1])
    assert set(arguments) == {"fixed"}
    assert arguments["fixed"].shape == (2, 32 + 512)


def test_batch_keeps_the_order_of_rows():
    data = dataset("image", 2)
    forth, back = data.batch([5, 1, 9])[0]["values"], data.batch([9, 1, 5])[0]["values"]
    np.testing.assert_allclose(forth.flip(0).numpy(), back.numpy(), atol=1e-5)


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
def test_precompute_features_stores_all_values_at_the_freezing_boundary(rows):
    store = MemoryStore(
        int(1.6 * 9 * cut_value().nbytes)
    )  # room for the cut, and hardly for what may be spared besides
    backbone, inputs, (features,), ran = run(store, rows, seed=len(rows))
    assert sum(ran) == 9
    collect_features(backbone, inputs, [LayerOutput(3)], range(9), compute=COMPUTE, store=store)
    assert sum(ran) == 9
    expected = ImageFeaturizer(backbone, cache=None).fit_transform(IMAGES)[list(rows)]
    np.testing.assert_allclose(torch.stack(features), expected, atol=1e-5 * np.abs(expected).max())


def test_precompute_features_without_a_store_runs_only_the_given_rows():
    _, _, (features,), ran = run(None, [4], seed=60)
    assert torch.stack(features).shape == (1, 512)
    assert sum(ran) == 1
