from __future__ import annotations

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sktransfer.cache.memory import OVERHEAD, MemoryStore
from sktransfer.cache.types import CacheNamespace

COLUMN = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")
SIZE = 4 + OVERHEAD  # of a value of one float


def key(n):
    return n.to_bytes(20, "big")


def put(store, *numbers):
    store.put(COLUMN, [key(n) for n in numbers], [torch.full((1,), float(n)) for n in numbers])


def held(store, numbers):
    """Return which are kept, without asking for them."""
    return [n for n in numbers if COLUMN.digest + key(n) in store._kept]


def ask(store, numbers, batch=4):
    """Ask for samples as `forward` does, put what is missing, and return how many were found."""
    found = 0
    numbers = list(numbers)
    for start in range(0, len(numbers), batch):
        part = numbers[start : start + batch]
        values = store.get(COLUMN, [key(n) for n in part])
        assert all(value is None or value.item() == n for n, value in zip(part, values))
        missing = [n for n, value in zip(part, values) if value is None]
        found += len(part) - len(missing)
        put(store, *missing)
    return found


def test_what_is_put_is_got_and_is_not_copied():
    store, value = MemoryStore(), torch.rand(3, 4)
    store.put(COLUMN, [key(1)], [value])
    (found, nothing) = store.get(COLUMN, [key(1), key(2)])
    assert found is value
    assert nothing is None


def test_bytes_are_counted_by_size_of_elements():
    store = MemoryStore()
    dtypes = [torch.float32, torch.bfloat16, torch.int64, torch.bool]
    store.put(COLUMN, [key(n) for n in range(4)], [torch.zeros(10, dtype=dtype) for dtype in dtypes])
    assert store.info().n_bytes == store.n_bytes == 40 + 20 + 80 + 10
    assert store._used == store.n_bytes + 4 * OVERHEAD


def test_the_limit_is_kept_and_reached():
    store = MemoryStore(limit=3 * SIZE)
    put(store, 0, 1, 2)
    assert held(store, range(4)) == [0, 1, 2]
    put(store, 3)
    assert held(store, range(4)) == [1, 2, 3]
    assert (store._used, store.n_bytes) == (store.limit, 12)


def test_the_least_recently_used_go_first():
    store = MemoryStore(limit=3 * SIZE)
    put(store, 0, 1, 2)
    store.get(COLUMN, [key(0)])
    put(store, 3)
    assert held(store, range(4)) == [0, 2, 3]


def test_a_large_one_pushes_out_as_many_as_it_takes():
    store = MemoryStore(limit=4 * SIZE)
    put(store, 0, 1, 2, 3)
    store.put(COLUMN, [key(4)], [torch.zeros(1 + 2 * SIZE // 4)])
    assert held(store, range(5)) == [3, 4]
    assert store._used == store.limit


def test_what_is_larger_than_the_limit_is_not_kept_and_pushes_nothing_out():
    store = MemoryStore(limit=2 * SIZE)
    put(store, 0)
    store.put(COLUMN, [key(1)], [torch.zeros(SIZE)])
    assert held(store, range(2)) == [0]


def test_a_lower_limit_holds_at_once():
    store = MemoryStore(limit=4 * SIZE)
    put(store, 0, 1, 2, 3)
    store.resize(2 * SIZE + 1)
    assert held(store, range(4)) == [2, 3]
    assert store.n_bytes == 8


def test_hits_and_misses_are_counted():
    store = MemoryStore()
    assert [ask(store, range(10)), ask(store, range(5, 15))] == [0, 5]
    assert (store.info().hits, store.info().misses) == (5, 15)


@pytest.mark.parametrize("rounds", [1.25, 2, 5, 10])
def test_rounds_over_more_than_fits_find_the_part_that_does(rounds):
    store, fits = MemoryStore(limit=100 * SIZE), 100
    n = int(fits * rounds)
    ask(store, range(n))
    ask(store, range(n))
    found = [ask(store, range(n)) for _ in range(3)]
    assert min(found) >= 0.9 * fits


@pytest.mark.parametrize("rounds", [1.25, 2, 5])
def test_shuffled_rounds_too(rounds):
    store, order, fits = MemoryStore(limit=200 * SIZE), random.Random(0), 200
    n = int(fits * rounds)
    found = [ask(store, order.sample(range(n), n)) for _ in range(10)]
    assert sum(found[4:]) >= 0.8 * fits * 6


def test_a_new_data_set_displaces_an_abandoned_one():
    store, fits = MemoryStore(limit=200 * SIZE), 200
    for _ in range(5):
        ask(store, range(fits))
    new = range(1000, 1000 + fits)
    ask(store, new)
    assert len(held(store, new)) >= 0.7 * fits
    ask(store, new)
    assert ask(store, new) >= 0.95 * fits


def test_a_new_data_set_displaces_one_that_was_larger_than_the_limit():
    store, fits = MemoryStore(limit=200 * SIZE), 200
    for _ in range(5):
        ask(store, range(3 * fits))
    new = range(1000, 1000 + fits)
    for _ in range(2):
        ask(store, new)
    assert ask(store, new) >= 0.9 * fits


def test_a_validation_set_lives_beside_the_training_set():
    store, order = MemoryStore(limit=100 * SIZE), random.Random(0)
    found = 0
    for _ in range(10):
        found = ask(store, order.sample(range(70), 70)) + ask(store, range(1000, 1030))
    assert found == 100


def test_what_is_waited_for_takes_room_and_what_was_abandoned_does_not():
    store = MemoryStore(limit=20 * SIZE)
    for _ in range(10):
        ask(store, range(10))
    assert store.room() == 10 * SIZE
    ask(store, range(1000, 1200))  # a new data set, after which the first one has not been asked for
    assert store.room() >= 10 * SIZE


def test_clear_forgets():
    store = MemoryStore()
    put(store, 0)
    store.get(COLUMN, [key(0)])
    store.clear()
    info = store.info()
    assert (info.n_entries, info.n_bytes, info.hits, info.misses) == (0, 0, 0, 0)
    assert store.room() == store.limit
    assert store.get(COLUMN, [key(0)]) == [None]


def test_as_many_values_as_keys():
    with pytest.raises(ValueError, match="zip"):
        MemoryStore().put(COLUMN, [key(0), key(1)], [torch.zeros(1)])


def test_threads_keep_the_count_right():
    store = MemoryStore(limit=50 * SIZE)

    def work(seed):
        for n in range(1000):
            ask(store, [(n * 7 + seed * 13) % 120])
            if n % 500 == 499:
                store.clear()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    kept = held(store, range(120))
    assert store.n_bytes == 4 * len(kept)
    assert store._used == SIZE * len(kept) <= store.limit


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_process_has_a_copy_whatever_other_threads_were_at():
    store, stop = MemoryStore(), threading.Event()
    put(store, *range(50))

    def busy():
        while not stop.is_set():
            ask(store, range(50))

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                whole = ask(store, range(50)) == 50
                put(store, 99)
                os._exit(0 if whole else 1)
            assert status_of(child) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert held(store, [99]) == []


def status_of(child):
    """Wait for a process, which a deadlock would keep from ending."""
    for _ in range(6000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hangs"
