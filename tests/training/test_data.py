"""Batches that begin at the cut."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from sktransfer import FineTuneClassifier, Mixup, load_backbone
from sktransfer.engine.compute import Compute
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layers import LayerOutput
from sktransfer.samples.images import check_images
from sktransfer.samples.texts import check_texts
from sktransfer.tasks.base import Targets
from sktransfer.testing.samples import make_samples
from sktransfer.training import samplers
from sktransfer.training.data import FrozenPrefixDataset
from sktransfer.training.samplers import Batches
from tests.helpers.small_bert import small_bert


def dataset(modality, boundary, n=13, layers=()):
    X, _ = make_samples(modality, n)
    backbone = load_backbone("tiny/cnn" if modality == "image" else "hf/" + small_bert())
    samples = check_images(X) if modality == "image" else check_texts(X)
    return FrozenPrefixDataset(
        backbone,
        PreprocessedSamples(samples, backbone.preprocess),
        boundary,
        len(backbone.stages),
        {"features": list(layers)},
        rows=range(n),
        targets={"y": Targets(np.arange(n), np.ones(n))},
        compute=Compute(torch.device("cpu")),
        store=None,
    )


def batch_targets(batches):
    return [targets["y"][0] for _, targets in batches]


@pytest.mark.parametrize("modality", ["image", "text"])
def test_each_row_comes_once_an_epoch_in_a_new_order(modality):
    data, epochs = dataset(modality, 2), []
    for data.epoch in (0, 1, 0):
        epochs.append([targets.tolist() for targets in batch_targets(Batches(data, 4, seed=0))])
    for epoch in epochs:
        assert sorted(row for batch in epoch for row in batch) == list(range(13))
        assert min(map(len, epoch)) > 1  # a last batch of one is joined to the one before
    assert epochs[0] != epochs[1]
    assert epochs[0] == epochs[2]  # by its number alone, not by what came before
    assert epochs[0] != [targets.tolist() for targets in batch_targets(Batches(data, 4, seed=1))]


def test_without_a_seed_rows_keep_their_order():
    batches = Batches(dataset("image", 2), 4)
    assert [row for targets in batch_targets(batches) for row in targets.tolist()] == list(range(13))


@pytest.mark.parametrize("boundary", [0, 1, 3])
def test_text_values_at_the_cut_go_on_to_what_the_whole_network_gives(boundary):
    data = dataset("text", boundary)
    arguments, _ = data.batch([3, 0, 8])
    backbone = data.backbone
    ids = data.inputs.tensors([3, 0, 8])
    with torch.no_grad():
        found = list(backbone.run(arguments["values"], arguments["mask"], start=boundary))[-1]
        for i, one in enumerate(ids):
            whole = list(backbone.run(one[None], torch.ones(1, len(one), dtype=torch.bool)))[-1][0]
            torch.testing.assert_close(found[i, : len(one)], whole, atol=1e-5, rtol=1e-5)


def test_frozen_taps_come_as_vectors_and_values_only_where_they_are_needed():
    layers = [LayerOutput(1, "average"), LayerOutput(7, "average")]
    arguments, _ = dataset("image", 7, layers=layers).batch([0, 1])
    assert set(arguments) == {"fixed"}
    assert arguments["fixed"].shape == (2, 32 + 512)


def test_rows_come_back_in_the_order_asked_for():
    data = dataset("image", 2)
    forth, back = data.batch([5, 1, 9])[0]["values"], data.batch([9, 1, 5])[0]["values"]
    np.testing.assert_allclose(forth.flip(0).numpy(), back.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("on_cpu", "no_prefetch", "changed", "expected"),
    [
        (True, False, True, False),
        (False, False, True, True),
        (False, True, False, True),
        (False, True, True, False),
    ],
)
def test_no_prefetch_keeps_augmentation_in_the_thread_that_draws(monkeypatch, on_cpu, no_prefetch, changed, expected):
    ran_ahead = []
    monkeypatch.setattr(samplers, "ahead", lambda batches: ran_ahead.append(True) or batches)
    dataset = SimpleNamespace(compute=SimpleNamespace(on_cpu=on_cpu), augmentation=object() if changed else None)
    batches = Batches(dataset, 2, no_prefetch=no_prefetch)
    monkeypatch.setattr(batches, "_order", lambda: [[0, 1], [2]])
    dataset.batch = list
    assert list(batches) == [[0, 1], [2]]
    assert bool(ran_ahead) == expected


def test_who_draws_random_numbers_of_the_cpu_says_so():
    said = []

    class Watched(Callback):
        def on_epoch_begin(self, net, dataset_train=None, **kwargs):
            said.append(net.get_iterator(dataset_train, training=True).no_prefetch)

    for callbacks in ([], [Mixup()]):
        clf = FineTuneClassifier("tiny/cnn", max_epochs=1, callbacks=[*callbacks, Watched()], random_state=0)
        clf.fit(*make_samples("image", 12))
    assert said == [False, True]
