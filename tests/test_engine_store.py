from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sktransfer.engine.store import BUDGET, MemoryStore, resolve_store
from sktransfer.exceptions import InvalidParameterError


def key(n, what="stem"):
    return bytes([n]), what


def test_what_is_put_is_got():
    store, value = MemoryStore(), torch.rand(3, 4)
    store.put(key(1), value)
    assert store.get(key(1)) is value
    assert store.get(key(2)) is None
    assert store.get(key(1, "top")) is None


def test_bytes_are_counted_by_size_of_elements():
    store = MemoryStore()
    store.put(key(1), torch.zeros(10, dtype=torch.float32))
    store.put(key(2), torch.zeros(10, dtype=torch.int64))
    store.put(key(3), torch.zeros(10, dtype=torch.bool))
    assert store.n_bytes == 40 + 80 + 10


def test_the_budget_is_kept_and_reached():
    store = MemoryStore(budget=12)
    for n in range(3):
        store.put(key(n), torch.zeros(1))
    assert [store.get(key(n)) is not None for n in range(3)] == [True] * 3
    store.put(key(3), torch.zeros(1))
    assert [store.get(key(n)) is not None for n in range(4)] == [False, True, True, True]
    assert store.n_bytes == 12


def test_the_least_recently_used_go_first():
    store = MemoryStore(budget=12)
    for n in range(3):
        store.put(key(n), torch.zeros(1))
    store.get(key(0))
    store.put(key(3), torch.zeros(1))
    assert [store.get(key(n)) is not None for n in range(4)] == [True, False, True, True]


def test_a_large_one_pushes_out_as_many_as_it_takes():
    store = MemoryStore(budget=16)
    for n in range(4):
        store.put(key(n), torch.zeros(1))
    store.put(key(4), torch.zeros(3))
    assert [store.get(key(n)) is not None for n in range(5)] == [False, False, False, True, True]
    assert store.n_bytes == 16


def test_what_is_larger_than_the_budget_is_not_kept_and_pushes_nothing_out():
    store = MemoryStore(budget=8)
    store.put(key(0), torch.zeros(1))
    store.put(key(1), torch.zeros(3))
    assert store.get(key(0)) is not None
    assert store.get(key(1)) is None
    assert store.n_bytes == 4


def test_putting_again_counts_once_and_keeps_the_first():
    store, first = MemoryStore(), torch.zeros(1)
    store.put(key(0), first)
    store.put(key(0), torch.ones(1))
    assert store.get(key(0)) is first
    assert store.n_bytes == 4


def test_clear_forgets():
    store = MemoryStore()
    store.put(key(0), torch.zeros(1))
    store.clear()
    assert store.get(key(0)) is None
    assert store.n_bytes == 0


def test_threads_keep_the_count_right():
    store = MemoryStore(budget=4 * 50)

    def work(seed):
        for n in range(2000):
            number = (n * 7 + seed * 13) % 120
            found = store.get(key(number))
            assert found is None or found.item() == number
            store.put(key(number), torch.full((1,), float(number)))
            if n % 500 == 499:
                store.clear()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    kept = [store.get(key(n)) for n in range(120)]
    assert store.n_bytes == 4 * sum(one is not None for one in kept) <= store.budget


def test_memory_is_one_store_a_process():
    store = resolve_store("memory")
    assert resolve_store("memory") is store
    assert store.budget == BUDGET == 2 * 1024**3


def test_none_is_no_store():
    assert resolve_store(None) is None


@pytest.mark.parametrize("cache", ["disk", "", True, 3, MemoryStore()])
def test_anything_else_is_refused(cache):
    with pytest.raises(InvalidParameterError, match=r"cache=.* must be"):
        resolve_store(cache)
