"""Batch samplers: order, prefetching, and pairs of one class."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from sktransfer import FineTuneClassifier, Mixup
from sktransfer.exceptions import InvalidParameterError
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
    compute = SimpleNamespace(on_cpu=on_cpu, device=torch.device("cpu"))
    dataset = SimpleNamespace(compute=compute, on_device=None, augmentation=object() if changed else None)
    batches = Batches(dataset, 2, no_prefetch=no_prefetch)
    monkeypatch.setattr(batches, "_order", lambda: [[0, 1], [2]])
    dataset.batch = lambda rows: ({"values": torch.tensor(rows)}, {})
    assert [arguments["values"].tolist() for arguments, _ in batches] == [[0, 1], [2]]
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


def drawn(sizes, sampling, *, n=None, batch_size=8, seed=0, epoch=0, ragged=False):
    """Return batches of sources, given as arrays of rows, or as sizes of sources next to each other."""
    sources, stop = {}, 0
    for name, rows in sizes.items():
        sources[name] = rows if isinstance(rows, np.ndarray) else np.arange(stop, stop := stop + rows)
    n = stop if n is None else n
    inputs = SimpleNamespace(is_ragged=ragged, lengths=lambda rows: [(7 * row) % 31 for row in rows])
    data = SimpleNamespace(sources=sources, epoch=epoch, inputs=inputs, rows=range(n))
    batches = Batches(data, batch_size, seed, sampling=sampling)
    order = batches._order()
    assert len(batches) == len(order)
    return order


def flat(batches):
    return [row for batch in batches for row in batch]


SIZES = {"a": 64, "b": 16, "c": 4}


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ("proportional", [64, 16, 4]),
        ("uniform", [28, 28, 28]),
        ("sqrt", [48, 24, 12]),
        ({"a": 1, "b": 2, "c": 0}, [27, 53, 0]),  # 80 rows can be drawn
        ({"a": 1, "b": 0, "c": 0}, [64, 0, 0]),
        ({"a": 1000, "b": 1, "c": 1}, [82, 1, 1]),
        ("joint", [28, 28, 28]),  # 14 batches of 6
    ],
)
def test_sampling_gives_each_source_its_share_of_as_many_draws_as_rows(sampling, expected):
    for epoch in range(3):
        rows = flat(drawn(SIZES, sampling, epoch=epoch))
        counts = [sum(start <= row < stop for row in rows) for start, stop in ((0, 64), (64, 80), (80, 84))]
        assert counts == expected


@pytest.mark.parametrize("sampling", ["uniform", "sqrt", {"a": 3, "b": 7, "c": 2}, "joint"])
@pytest.mark.parametrize("ragged", [False, True])
def test_sampling_reads_an_endless_sequence_of_permutations(sampling, ragged):
    """No epoch repeats a row before all of its source, and all rows of a source are drawn equally often in the end."""
    total = Counter()
    for epoch in range(12):
        rows = Counter(flat(drawn(SIZES, sampling, epoch=epoch, ragged=ragged)))
        for start, stop in ((0, 64), (64, 80), (80, 84)):
            times = [rows[row] for row in range(start, stop)]
            assert max(times) - min(times) <= 1
        total += rows
    for start, stop in ((0, 64), (64, 80), (80, 84)):
        times = [total[row] for row in range(start, stop)]
        assert max(times) - min(times) <= 1


def test_sampling_depends_on_seed_and_epoch_alone():
    first, again = (drawn(SIZES, "sqrt", epoch=3) for _ in range(2))
    assert first == again
    assert first != drawn(SIZES, "sqrt", epoch=4)
    assert first != drawn(SIZES, "sqrt", epoch=3, seed=1)


@pytest.mark.parametrize("sampling", ["proportional", "uniform", "sqrt", "joint", {"a": 1}])
def test_sampling_of_one_source_is_the_shuffled_order(sampling):
    expected = drawn({"a": 20}, "proportional")
    assert drawn({"a": 20}, sampling) == expected
    generator = np.random.default_rng([0, 0])
    order = generator.permutation(20).tolist()
    by_hand = [order[:8], order[8:16], order[16:]]
    generator.shuffle(by_hand)
    assert expected == by_hand


def test_sampling_joint_puts_equal_numbers_into_each_batch():
    for batch_size, each in ((8, 2), (6, 2), (2, 1)):
        for batch in drawn(SIZES, "joint", batch_size=batch_size):
            counts = Counter("a" if row < 64 else "b" if row < 80 else "c" for row in batch)
            assert counts == {"a": each, "b": each, "c": each}


def test_sampling_joint_puts_texts_of_equal_length_together():
    spread = {}
    for ragged in (False, True):
        batches = drawn({"a": 400, "b": 200}, "joint", ragged=ragged)
        spread[ragged] = np.mean([np.ptp([(7 * row) % 31 for row in batch]) for batch in batches])
    assert spread[True] < 0.4 * spread[False]


def test_sampling_draws_no_rows_that_only_unlearned_tasks_know():
    sources = {"a": np.array([0, 2, 4]), "b": np.array([4, 6])}
    assert sorted(flat(drawn(sources, "proportional", n=9))) == [0, 2, 4, 6]
    assert set(flat(drawn(sources, "uniform", n=9))) <= {0, 2, 4, 6}


def test_sampling_skips_sources_without_rows():
    sources = {"a": np.arange(5), "b": np.arange(0)}
    assert sorted(flat(drawn(sources, "uniform", n=5))) == list(range(5))
    with pytest.raises(InvalidParameterError, match=r"task_sampling=.*draws no row"):
        drawn(sources, {"a": 0, "b": 1}, n=5)


@pytest.mark.parametrize("n", [1, 2, 8, 9, 16, 17, 18])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_len_of_batches_counts_those_of_an_epoch(n, batch_size):
    order = drawn({"a": n}, "proportional", batch_size=batch_size)  # compares the numbers
    assert min(map(len, order)) > 1 or n == 1 or batch_size == 1
    drawn({"a": n, "b": 3}, "uniform", batch_size=batch_size)
    assert len(PairBatches(range(n), 8)) == len(orders(np.arange(n) % 2, 8))
