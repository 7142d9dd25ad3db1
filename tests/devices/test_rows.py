"""Trainings whose samples stay on a GPU: the results of those without, and copies that they save."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from sktransfer import (
    Backbone,
    FineTuneClassifier,
    FineTuneTagger,
    MicroBatches,
    Mixup,
    clear_cache,
    config_context,
    find_lr,
)
from sktransfer.devices.rows import DeviceRows, DeviceStore
from sktransfer.engine.inputs import collate
from tests.test_gpu import BERT, IMAGES, LABELS, SENTENCES, TAGS, TEXTS, TRAINING, used

pytestmark = pytest.mark.gpu
OFF = {"cache_device": 1}  # too little for any sample
COLUMNS = {"text": [*TEXTS[:8], *[None] * 4], "image": IMAGES}


class Uploads(Callback):
    """Record the bytes that were copied to the device until the end of each epoch."""

    def __init__(self, gpu, uploaded):
        self.gpu, self.uploaded = gpu, uploaded

    def on_epoch_end(self, net, **kwargs):
        self.uploaded(self.gpu.uploaded)


def fitted(X=IMAGES, backbone="tiny/cnn", y=LABELS, make=FineTuneClassifier, **parameters):
    options = {**TRAINING, "freeze_depth": -1, "device": "cuda", **parameters}
    return make(backbone, **options).fit(X, y)


def weights(estimator):
    return [value.numpy() for value in estimator.net_.module_.state_dict().values()]


RECIPES = {
    "images, several layers": {"layer": [2, -1], "freeze_depth": 3},
    "images, frozen": {"freeze_depth": "all"},
    "images, validation data": {"early_stopping": True, "validation_fraction": 0.5},
    "texts, all stages": {"X": TEXTS, "backbone": BERT, "freeze_depth": 0},
    "texts, mixed layers": {"X": TEXTS, "backbone": BERT, "layer": "mix", "callbacks": [Mixup(), MicroBatches(2)]},
    "tags": {"X": SENTENCES, "backbone": BERT, "y": TAGS, "make": FineTuneTagger, "layer": [0, -1]},
}


@pytest.mark.parametrize("name", RECIPES)
def test_cache_device_changes_no_bit(name, gpu):
    clear_cache()  # on a GPU, the last bits of a value depend on the batch that it was computed in
    before = used(gpu)
    found = weights(fitted(**RECIPES[name]))
    assert used(gpu) == before
    with config_context(**OFF):
        expected = weights(fitted(**RECIPES[name]))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_cache_device_changes_no_bit_of_joined_backbones(gpu):
    backbone = Backbone.join({"text": BERT, "image": "tiny/cnn"}, missing="zero")
    options = {"X": COLUMNS, "backbone": backbone, "freeze_depth": {"text": -1, "image": -1}}
    found = weights(fitted(**options))
    with config_context(**OFF):
        expected = weights(fitted(**options))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert gpu is None or gpu.hazards == []


@pytest.mark.parametrize(("X", "backbone"), [(IMAGES, "tiny/cnn"), (TEXTS, BERT)], ids=["images", "texts"])
def test_cache_device_ends_the_copies_of_samples_after_the_first_epoch(X, backbone, gpu):
    if gpu is None:
        pytest.skip("only the simulation counts")
    copied = {}
    for name, limit in (("kept", "1 GB"), ("copied", 1)):
        uploaded = []
        with config_context(cache_device=limit):
            fitted(X, backbone, callbacks=[Uploads(gpu, uploaded.append)], max_epochs=3)
        copied[name] = np.diff(uploaded)
    boundary = copied["copied"] - copied["kept"]  # bytes of the activations of all samples, in each later epoch
    assert (boundary > 10 * copied["kept"]).all()
    # Later epochs copy places, targets and weights, a few numbers per sample.
    assert (copied["kept"] <= len(X) * 64).all()


def test_cache_device_is_a_limit_and_half_of_the_free_memory(gpu):
    if gpu is None:
        pytest.skip("needs a device whose memory can be limited")
    device = torch.device("cuda", 0)
    store = DeviceStore(device, 1000)
    assert store.reserve(600)
    assert not store.reserve(600)
    assert store.reserve(400)
    gpu.memory = gpu.used[0] + 1000
    store = DeviceStore(device, 10**6)
    assert store.reserve(500)
    assert not store.reserve(501)


@pytest.mark.parametrize("without", [{"cache": None}, {"augment": "light"}, {"max_epochs": 1}, {"device": "cpu"}])
def test_nothing_is_kept_on_the_device(without, gpu, monkeypatch):
    monkeypatch.setattr(DeviceStore, "reserve", lambda *args: pytest.fail("memory was reserved"))
    fitted(**without)


def test_cache_device_is_freed_if_the_training_needs_its_memory(gpu, monkeypatch):
    if gpu is None:
        pytest.skip("needs a device whose memory can be limited")

    def trained(limit):
        gc.collect()
        gpu.most = list(gpu.used)
        with config_context(cache_device=limit):
            clf = fitted(freeze_depth=0, batch_size=len(IMAGES), callbacks=[MicroBatches(6)])
        return weights(clf), gpu.most[0]

    kept, reserve = [], DeviceStore.reserve
    monkeypatch.setattr(DeviceStore, "reserve", lambda *args: kept.append(reserve(*args)) or kept[-1])
    expected, without = trained(1)
    most = trained("1 GB")[1]
    monkeypatch.setattr(gpu, "memory", (without + most) // 2)  # too little for the samples and a step
    found, _ = trained("1 GB")
    assert kept == [False, True, True]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_cache_device_is_freed_after_an_error(gpu):
    class Fail(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                raise ZeroDivisionError

    before = used(gpu)
    with pytest.raises(ZeroDivisionError) as caught:
        fitted(callbacks=[Fail()])
    del caught
    assert used(gpu) == before


def test_find_lr_gives_the_rate_without_cache_device(gpu):
    clf = FineTuneClassifier(freeze_depth=-1, device="cuda", head_init="random", **TRAINING)
    found = find_lr(clf, IMAGES, LABELS, n_steps=8).curve
    with config_context(**OFF):
        np.testing.assert_array_equal(found, find_lr(clf, IMAGES, LABELS, n_steps=8).curve)


def table(limit=10**6):
    return DeviceStore(torch.device("cuda", 0), limit)


@pytest.mark.parametrize("shape", [(5,), (), None], ids=["values", "token ids", "vectors"])
def test_batch_pads_texts_as_collate_does(shape, gpu):
    store = table()
    lengths = [3, 1, 4, 2, 4]
    if shape is None:
        values = [torch.rand(7) for _ in lengths]
    elif shape:
        values = [torch.rand(length, *shape) for length in lengths]
    else:
        values = [torch.randint(9, (length,)) for length in lengths]
    rows, read = store.rows(len(lengths), lengths, [8]), []

    def of_rows(missing):
        read.extend(missing)
        return [[values[row] for row in missing]]

    for index in ([0, 2], [1, 0, 0], [3, 1], [4, 3, 2, 1, 0], [4, 2]):
        ((found, mask),) = rows.batch(index, of_rows)
        expected, expected_mask = collate([values[row] for row in index], "text", 8)
        assert torch.equal(found.cpu(), expected)
        assert torch.equal(mask.cpu(), expected_mask)
    assert read == [0, 2, 1, 3, 4]
    store.clear()
    assert rows.batch([0], of_rows) is None


def test_batch_is_none_if_the_values_do_not_fit(gpu):
    store = table(limit=99)
    rows = store.rows(10, None, [0])
    assert rows.batch([1], lambda missing: [[torch.rand(3)] for _ in missing]) is None
    assert not rows.is_open


def test_batch_is_none_if_images_differ_in_size(gpu):
    values = [torch.rand(3, 4, 4), torch.rand(3, 4, 4), torch.rand(3, 5, 4)]
    rows = table().rows(3, None, [0])
    ((found, mask),) = rows.batch([1, 0], lambda missing: [[values[row] for row in missing]])
    assert mask is None
    assert torch.equal(found.cpu(), torch.stack([values[1], values[0]]))
    assert rows.batch([2], lambda missing: [[values[row] for row in missing]]) is None


def test_a_pickle_of_the_rows_holds_nothing_of_the_device(gpu):
    store = table()
    rows = store.rows(2, None, [0])
    rows.batch([0, 1], lambda missing: [[torch.rand(3) for _ in missing]])
    copied = pickle.loads(pickle.dumps(rows))
    assert isinstance(copied, DeviceRows)
    assert gpu is None or gpu.pickled == 0
    assert copied.batch([0], lambda missing: [[torch.rand(3) for _ in missing]]) is None
