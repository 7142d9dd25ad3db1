"""Batch samplers: order, prefetching, and pairs of one class."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from sktransfer import FineTuneClassifier, Mixup
from sktransfer.testing.samples import make_samples
from sktransfer.training import samplers
from sktransfer.training.samplers import Batches, PairBatches
from tests.helpers.runs import dataset


def batch_targets(batches):
    return [targets["y"][0] for _, targets in batches]


@pytest.mark.parametrize("modality", ["image", "text"])
def test_batches_hold_each_row_once_per_epoch_in_a_new_order(modality):
    data, epochs = dataset(modality, 2), []
    for data.epoch in (0, 1, 0):
        epochs.append([targets.tolist() for targets in batch_targets(Batches(data, 4, seed=0))])
    for epoch in epochs:
        assert sorted(row for batch in epoch for row in batch) == list(range(13))
        assert min(map(len, epoch)) > 1  # a last batch of one is joined to the one before
    assert epochs[0] != epochs[1]
    assert epochs[0] == epochs[2]  # by its number alone, not by what came before
    assert epochs[0] != [targets.tolist() for targets in batch_targets(Batches(data, 4, seed=1))]


def test_batches_without_seed_keep_the_order_of_rows():
    batches = Batches(dataset("image", 2), 4)
    assert [row for targets in batch_targets(batches) for row in targets.tolist()] == list(range(13))


@pytest.mark.parametrize(
    ("on_cpu", "no_prefetch", "changed", "expected"),
    [
        (True, False, True, False),
        (False, False, True, True),
        (False, True, False, True),
        (False, True, True, False),
    ],
)
def test_no_prefetch_keeps_augmentation_in_the_calling_thread(monkeypatch, on_cpu, no_prefetch, changed, expected):
    ran_ahead = []
    monkeypatch.setattr(samplers, "ahead", lambda batches: ran_ahead.append(True) or batches)
    dataset = SimpleNamespace(compute=SimpleNamespace(on_cpu=on_cpu), augmentation=object() if changed else None)
    batches = Batches(dataset, 2, no_prefetch=no_prefetch)
    monkeypatch.setattr(batches, "_order", lambda: [[0, 1], [2]])
    dataset.batch = list
    assert list(batches) == [[0, 1], [2]]
    assert bool(ran_ahead) == expected


def test_no_prefetch_is_set_by_mixup():
    said = []

    class Watched(Callback):
        def on_epoch_begin(self, net, dataset_train=None, **kwargs):
            said.append(net.get_iterator(dataset_train, training=True).no_prefetch)

    for callbacks in ([], [Mixup()]):
        clf = FineTuneClassifier("tiny/cnn", max_epochs=1, callbacks=[*callbacks, Watched()], random_state=0)
        clf.fit(*make_samples("image", 12))
    assert said == [False, True]


class PairTargets(SimpleNamespace):
    """What an order is drawn from: a data set's targets, and its epoch."""

    def __len__(self):
        return len(self.targets["y"])


def orders(targets, batch_size, seed=0, epoch=0):
    return PairBatches(PairTargets(targets={"y": torch.as_tensor(targets)}, epoch=epoch), batch_size, seed)._order()


def test_pair_batches_puts_few_samples_into_one_batch():
    assert orders([0, 1, 1, 0, 2], 8) == [[0, 1, 2, 3, 4]]


def test_pair_batches_holds_pairs_of_each_class_in_each_batch():
    targets = np.array([0] * 90 + [1] * 6 + [2] * 4)
    batches = orders(targets, 8)
    assert len(batches) == 13  # 100 samples in batches of 8
    seen = Counter()
    for batch in batches:
        of_class = Counter(targets[batch].tolist())
        assert len(batch) == 8
        assert min(of_class.values()) >= 2
        assert len(of_class) == 3
        seen += of_class
    assert max(seen.values()) - min(seen.values()) <= 2  # classes take turns


def test_pair_batches_shares_batches_among_many_classes():
    targets = np.repeat(np.arange(50), 3)
    batches = orders(targets, 16)
    assert all(len(set(targets[batch])) == 8 for batch in batches)
    assert len({int(target) for batch in batches for target in targets[batch]}) == 50


def test_pair_batches_order_depends_only_on_seed_and_epoch():
    targets = [0, 1] * 20
    assert orders(targets, 8) == orders(targets, 8)
    assert orders(targets, 8) != orders(targets, 8, seed=1)
    assert orders(targets, 8) != orders(targets, 8, epoch=1)
