from __future__ import annotations

import os
import random
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from sktransfer.cache.memory import OVERHEAD, SLAB_BYTES, MemoryStore, ScanResistantLRU
from sktransfer.cache.types import CacheNamespace
from tests.helpers.elsewhere import run_code

NAMESPACE = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")
SIZE = 4 + OVERHEAD  # bytes of an entry of one float


def key(n):
    return n.to_bytes(20, "big")


def put(store, *numbers):
    store.put(NAMESPACE, [key(n) for n in numbers], [torch.full((1,), float(n)) for n in numbers])


def stored(store, numbers):
    """Return the numbers that have an entry, without a lookup."""
    return [n for n in numbers if NAMESPACE.digest + key(n) in store._entries]


def look_up_and_add(store, numbers, batch=4):
    """Look up samples in batches, add the missing ones, and return the number of hits."""
    n_hits = 0
    numbers = list(numbers)
    for start in range(0, len(numbers), batch):
        part = numbers[start : start + batch]
        values = store.get(NAMESPACE, [key(n) for n in part])
        assert all(value is None or value.item() == n for n, value in zip(part, values))
        missing = [n for n, value in zip(part, values) if value is None]
        n_hits += len(part) - len(missing)
        put(store, *missing)
    return n_hits


def test_get_returns_the_stored_memory_without_a_copy():
    store, value = MemoryStore(), torch.rand(3, 4)
    store.put(NAMESPACE, [key(1)], [value])
    (entry, missing) = store.get(NAMESPACE, [key(1), key(2)])
    assert torch.equal(entry, value)
    assert store.get(NAMESPACE, [key(1)])[0].data_ptr() == entry.data_ptr()
    assert missing is None


def test_get_gathers_small_vectors_that_are_all_there():
    store, values = MemoryStore(), torch.rand(5, 7)
    put(store, 10, 11)  # lie between those of the rows
    store.put(NAMESPACE, [key(n) for n in range(3)], values[:3])
    put(store, 12)
    store.put(NAMESPACE, [key(3), key(4)], values[3:])
    gathered = store.get(NAMESPACE, [key(n) for n in (4, 0, 2, 0)])
    assert torch.equal(gathered, values[[4, 0, 2, 0]])
    gathered.zero_()
    assert torch.equal(store.get(NAMESPACE, [key(n) for n in range(5)]), values)


def test_get_gathers_vectors_of_one_layout_only():
    store = MemoryStore()
    values = [torch.rand(4), torch.rand(2), torch.rand(4).bfloat16(), torch.rand(2, 2), torch.rand(0), torch.rand(4097)]
    store.put(NAMESPACE, [key(n) for n in range(6)], values)
    for some in ([0, 1], [0, 2], [0, 3], [3, 3], [4, 4], [5, 5], [0, 6], [6, 0]):
        found = store.get(NAMESPACE, [key(n) for n in some])
        assert isinstance(found, list)
        assert all(torch.equal(one, values[n]) if n < 6 else one is None for n, one in zip(some, found, strict=True))
    for n in (0, 1, 2):
        assert torch.equal(store.get(NAMESPACE, [key(n)] * 2), torch.stack([values[n]] * 2))
    assert store.get(NAMESPACE, []) == []


def test_get_of_many_keys_counts_like_one_by_one():
    stores = [MemoryStore(limit=40 * SIZE) for _ in range(2)]
    order = random.Random(0)
    for _ in range(100):
        numbers = order.sample(range(60), 8)
        stores[0].get(NAMESPACE, [key(n) for n in numbers])
        for n in numbers:
            stores[1].get(NAMESPACE, [key(n)])
        for store in stores:
            put(store, *numbers[:3])
    one, other = ([(name, entry.last_lookup) for name, entry in store._entries.items()] for store in stores)
    assert one == other
    assert stores[0]._policy.protected == stores[1]._policy.protected > 0
    assert stores[0].info() == stores[1].info()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_put_of_one_tensor_equals_that_of_its_rows(dtype):
    values = (100 * torch.rand(6, 5)).to(dtype).T  # not contiguous
    whole, rows = MemoryStore(), MemoryStore()
    whole.put(NAMESPACE, [key(n) for n in range(5)], values)
    rows.put(NAMESPACE, [key(n) for n in range(5)], list(values))
    assert torch.equal(whole.get(NAMESPACE, [key(n) for n in range(5)]), values)
    assert torch.equal(rows.get(NAMESPACE, [key(n) for n in range(5)]), values)
    assert whole.info().n_bytes == rows.info().n_bytes == values.nbytes


def test_put_keeps_no_other_tensor_alive():
    store, batch = MemoryStore(), torch.rand(8, 3, 50_000)
    batch_memory = weakref.ref(batch.untyped_storage())
    store.put(NAMESPACE, [key(1), key(2), key(3)], [batch[2, :, :4].T, batch[5, 1], batch[0, 0, :0]])
    expected = [batch[2, :, :4].T.clone(), batch[5, 1].clone(), torch.empty(0)]
    del batch
    assert batch_memory() is None
    for entry, value in zip(store.get(NAMESPACE, [key(1), key(2), key(3)]), expected, strict=True):
        assert torch.equal(entry, value)
        assert entry.shape == value.shape


def test_evicted_entries_give_their_memory_back():
    store = MemoryStore()
    sizes = np.random.default_rng(0).integers(1, 2000, 3000).tolist()
    store.put(NAMESPACE, [key(n) for n in range(3000)], [torch.full((size,), float(size)) for size in sizes])
    kept = list(range(0, 3000, 10))
    store.get(NAMESPACE, [key(n) for n in kept])  # the most recently used
    store.resize(sum(4 * sizes[n] + OVERHEAD for n in kept))
    slabs = {id(entry.slab): len(entry.slab.data) for entry in store._entries.values()}
    assert sum(slabs.values()) <= 2 * store.n_bytes + 2 * SLAB_BYTES
    for n, value in zip(kept, store.get(NAMESPACE, [key(n) for n in kept]), strict=True):
        assert torch.equal(value, torch.full((sizes[n],), float(sizes[n])))


GROWTH = """
import gc
import numpy as np
from sktransfer import ImageFeaturizer, cache_info

def resident():
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024

rng = np.random.default_rng(0)
featurizer = ImageFeaturizer("tiny/cnn").fit(rng.integers(0, 256, (1, 40, 40, 3), np.uint8))
for n in range(400):
    featurizer.transform(rng.integers(0, 256, (1, 40, 40, 3), np.uint8))
    if n == 99:
        resident_before, stored_before = resident(), cache_info().n_bytes
print(resident() - resident_before, cache_info().n_bytes - stored_before)
"""


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of the process from /proc")
def test_process_grows_by_the_size_of_the_cache_if_samples_come_one_by_one():
    grown, stored = map(int, run_code(GROWTH).stdout.split())
    assert stored > 10**6
    assert grown < 5 * stored  # and 15 times as much if each value has a block of memory of its own


def test_n_bytes_counts_bytes_of_each_dtype():
    store = MemoryStore()
    dtypes = [torch.float32, torch.bfloat16, torch.int64, torch.bool]
    store.put(NAMESPACE, [key(n) for n in range(4)], [torch.zeros(10, dtype=dtype) for dtype in dtypes])
    assert store.info().n_bytes == store.n_bytes == 40 + 20 + 80 + 10
    assert store._used == store.n_bytes + 4 * OVERHEAD


def test_limit_is_reached_and_not_exceeded():
    store = MemoryStore(limit=3 * SIZE)
    put(store, 0, 1, 2)
    assert stored(store, range(4)) == [0, 1, 2]
    put(store, 3)
    assert stored(store, range(4)) == [1, 2, 3]
    assert (store._used, store.n_bytes) == (store.limit, 12)


def test_put_evicts_the_least_recently_used_entries():
    store = MemoryStore(limit=3 * SIZE)
    put(store, 0, 1, 2)
    store.get(NAMESPACE, [key(0)])
    put(store, 3)
    assert stored(store, range(4)) == [0, 2, 3]


def test_put_of_a_large_entry_evicts_several():
    store = MemoryStore(limit=4 * SIZE)
    put(store, 0, 1, 2, 3)
    store.put(NAMESPACE, [key(4)], [torch.zeros(1 + 2 * SIZE // 4)])
    assert stored(store, range(5)) == [3, 4]
    assert store._used == store.limit


def test_put_of_an_entry_larger_than_the_limit_evicts_nothing():
    store = MemoryStore(limit=2 * SIZE)
    put(store, 0)
    store.put(NAMESPACE, [key(1)], [torch.zeros(SIZE)])
    assert stored(store, range(2)) == [0]


def test_resize_to_a_lower_limit_evicts_entries():
    store = MemoryStore(limit=4 * SIZE)
    put(store, 0, 1, 2, 3)
    store.resize(2 * SIZE + 1)
    assert stored(store, range(4)) == [2, 3]
    assert store.n_bytes == 8


def test_info_counts_hits_and_misses():
    store = MemoryStore()
    assert [look_up_and_add(store, range(10)), look_up_and_add(store, range(5, 15))] == [0, 5]
    assert (store.info().hits, store.info().misses) == (5, 15)


@pytest.mark.parametrize("rounds", [1.25, 2, 5, 10])
def test_get_hits_the_part_that_fits_in_cyclic_scans(rounds):
    store, fits = MemoryStore(limit=100 * SIZE), 100
    n = int(fits * rounds)
    look_up_and_add(store, range(n))
    look_up_and_add(store, range(n))
    n_hits = [look_up_and_add(store, range(n)) for _ in range(3)]
    assert min(n_hits) >= 0.9 * fits


@pytest.mark.parametrize("rounds", [1.25, 2, 5])
def test_get_hits_the_part_that_fits_in_shuffled_scans(rounds):
    store, order, fits = MemoryStore(limit=200 * SIZE), random.Random(0), 200
    n = int(fits * rounds)
    n_hits = [look_up_and_add(store, order.sample(range(n), n)) for _ in range(10)]
    assert sum(n_hits[4:]) >= 0.8 * fits * 6


def test_put_of_a_new_data_set_evicts_the_old_one():
    store, fits = MemoryStore(limit=200 * SIZE), 200
    for _ in range(5):
        look_up_and_add(store, range(fits))
    new = range(1000, 1000 + fits)
    look_up_and_add(store, new)
    assert len(stored(store, new)) >= 0.7 * fits
    look_up_and_add(store, new)
    assert look_up_and_add(store, new) >= 0.95 * fits


def test_put_of_a_new_data_set_evicts_one_larger_than_the_limit():
    store, fits = MemoryStore(limit=200 * SIZE), 200
    for _ in range(5):
        look_up_and_add(store, range(3 * fits))
    new = range(1000, 1000 + fits)
    for _ in range(2):
        look_up_and_add(store, new)
    assert look_up_and_add(store, new) >= 0.9 * fits


def test_get_hits_training_and_validation_sets():
    store, order = MemoryStore(limit=100 * SIZE), random.Random(0)
    n_hits = 0
    for _ in range(10):
        n_hits = look_up_and_add(store, order.sample(range(70), 70)) + look_up_and_add(store, range(1000, 1030))
    assert n_hits == 100


def test_room_counts_evictable_entries_as_free():
    store = MemoryStore(limit=20 * SIZE)
    for _ in range(10):
        look_up_and_add(store, range(10))
    assert store.room() == 10 * SIZE
    look_up_and_add(store, range(1000, 1200))  # a new data set, during which the first one has no lookups
    assert store.room() >= 10 * SIZE


def test_clear_deletes_entries_and_counts():
    store = MemoryStore()
    put(store, 0)
    store.get(NAMESPACE, [key(0)])
    store.clear()
    info = store.info()
    assert (info.n_entries, info.n_bytes, info.hits, info.misses) == (0, 0, 0, 0)
    assert store.room() == store.limit
    assert store.get(NAMESPACE, [key(0)]) == [None]


def test_put_raises_for_different_numbers_of_keys_and_values():
    with pytest.raises(ValueError, match="zip"):
        MemoryStore().put(NAMESPACE, [key(0), key(1)], [torch.zeros(1)])


def test_put_and_clear_from_several_threads_keep_n_bytes():
    store = MemoryStore(limit=50 * SIZE)

    def work(seed):
        for n in range(1000):
            look_up_and_add(store, [(n * 7 + seed * 13) % 120])
            if n % 500 == 499:
                store.clear()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    kept = stored(store, range(120))
    assert store.n_bytes == 4 * len(kept)
    assert store._used == SIZE * len(kept) <= store.limit


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_fork_copies_the_store_while_threads_use_it():
    store, stop = MemoryStore(), threading.Event()
    put(store, *range(50))

    def busy():
        while not stop.is_set():
            look_up_and_add(store, range(50))

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                whole = look_up_and_add(store, range(50)) == 50
                put(store, 99)
                os._exit(0 if whole else 1)
            assert status_of(child) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert stored(store, [99]) == []


def status_of(child):
    """Return the exit status of a process, or "hangs" after a deadlock."""
    for _ in range(6000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hangs"


def look_up(policy, *rounds):
    for keys in rounds:
        for key in keys:
            policy.record_lookups([key])


def test_scan_resistant_lru_protects_nothing_without_reuse():
    policy = ScanResistantLRU()
    look_up(policy, range(1000))
    assert (policy.protected, policy.clock) == (0, 1000)


@pytest.mark.parametrize("n", [10, 300, 5000])
def test_scan_resistant_lru_protects_for_two_scans(n):
    policy = ScanResistantLRU()
    look_up(policy, *[range(n)] * (2 + 1000 // n))
    assert policy.protected == pytest.approx(2 * n, rel=0.01)


def test_scan_resistant_lru_protects_in_shuffled_scans():
    policy, order = ScanResistantLRU(), random.Random(0)
    look_up(policy, *[order.sample(range(500), 500) for _ in range(6)])
    assert 400 < policy.protected < 1600  # intervals in shuffled scans vary


def test_scan_resistant_lru_ends_protection_for_a_new_data_set():
    policy = ScanResistantLRU()
    look_up(policy, *[range(1000)] * 3, range(1000, 1050))
    assert policy.protected < 0.01 * 2000


def test_scan_resistant_lru_ends_protection_for_a_new_data_set_with_stride_8(monkeypatch):
    monkeypatch.setattr(ScanResistantLRU, "MAX_TRACKED", 150)
    policy = ScanResistantLRU()
    look_up(policy, *[range(1000)] * 3)
    assert policy._stride == 8
    look_up(policy, range(1000, 1050))
    assert policy.protected < 0.01 * 2000


def test_scan_resistant_lru_keeps_protection_with_a_tenth_of_new_samples():
    policy, new = ScanResistantLRU(), iter(range(10**6, 10**7))
    for _ in range(5):
        for key in range(900):
            policy.record_lookups([key])
            if key % 9 == 8:
                policy.record_lookups([next(new)])
    assert policy.protected > 1000


def test_scan_resistant_lru_max_tracked_bounds_memory(monkeypatch):
    monkeypatch.setattr(ScanResistantLRU, "MAX_TRACKED", 100)
    policy = ScanResistantLRU()
    look_up(policy, *[range(2000)] * 3)
    assert len(policy._last_lookup) <= 100
    assert policy.protected == pytest.approx(4000, rel=0.1)
