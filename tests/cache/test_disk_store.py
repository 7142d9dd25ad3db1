from __future__ import annotations

import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sktransfer.cache import disk_columns, disk_store
from sktransfer.cache.disk_store import DiskStore
from sktransfer.cache.types import CacheNamespace
from sktransfer.exceptions import StoreError, StoreWarning
from tests.helpers.plugin_zoo import python

COLUMN = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")
KEYS = [n.to_bytes(20, "big") for n in range(100)]
VALUES = [torch.full((500, 2), float(n)) for n in range(100)]


def keep(store, column, keys, values):
    store.put(column, keys, values)
    store.flush()


def keep_each(store, column, keys, values):
    for key, value in zip(keys, values):
        keep(store, column, [key], [value])


def same(found, values=VALUES):
    return [one is not None and torch.equal(one, value) for one, value in zip(found, values)]


def damage(store, key):
    """Turn one bit of a value, behind the back of its checksum."""
    full = disk_columns.key_of(COLUMN, key)
    with store._environment.transaction(write=True) as transaction:
        record = bytearray(transaction.get(full))
        record[100] ^= 1
        transaction.put(full, bytes(record))


def test_values_outlive_the_process_that_put_them(tmp_path):
    store = DiskStore(tmp_path, 10**8)
    keep(store, COLUMN, KEYS, VALUES)
    store._environment.close()
    again = DiskStore(tmp_path, 10**8)
    assert all(same(again.get(COLUMN, KEYS)))
    assert (again.info().hits, again.info().misses) == (100, 0)


def test_what_was_put_is_found_at_once_and_by_others_when_it_is_flushed(tmp_path):
    store = DiskStore(tmp_path, 10**8)
    store.put(COLUMN, KEYS, VALUES)
    assert all(same(store.get(COLUMN, KEYS)))
    assert disk_columns.list_columns(store._environment) == []
    store.flush()
    assert disk_columns.list_columns(store._environment)[0].n_entries == 100
    assert all(same(store.get(COLUMN, KEYS)))


def test_much_is_written_at_once_and_little_after_a_while(tmp_path, monkeypatch):
    store, now = DiskStore(tmp_path, 10**8), [1e6]
    monkeypatch.setattr(disk_store.time, "monotonic", lambda: now[0])

    def n_written():
        return sum(one.n_entries for one in disk_columns.list_columns(store._environment))

    store.put(COLUMN, KEYS[:1], VALUES[:1])
    now[0] += 0.4
    store.put(COLUMN, KEYS[1:2], VALUES[1:2])
    assert n_written() == 0
    now[0] += 0.2
    store.put(COLUMN, KEYS[2:3], VALUES[2:3])
    assert n_written() == 3
    store.put(COLUMN, KEYS[3:4], [torch.zeros(32 * 1024**2 // 4)])
    assert n_written() == 4


@pytest.mark.process
def test_a_process_that_ends_writes_what_waits(tmp_path):
    code = (
        "import torch; from sktransfer.cache.types import *; "
        f"resolve_store({str(tmp_path)!r}).put(CacheNamespace(bytes(16), '', '', '', ''), [bytes(20)], [torch.ones(3)])"
    )
    python("-c", code)
    assert DiskStore(tmp_path, 10**8).get(COLUMN, [bytes(20)])[0].sum() == 3


def test_of_a_batch_that_does_not_fit_a_part_is_stored(tmp_path):
    store = DiskStore(tmp_path, 300_000)
    with pytest.warns(StoreWarning, match="limit"):
        keep(store, COLUMN, KEYS, VALUES)
    found = same(store.get(COLUMN, KEYS))
    assert 15 < sum(found) < 75
    assert found == sorted(found, reverse=True)


def test_what_was_read_is_the_readers_own(tmp_path):
    store = DiskStore(tmp_path, 10**8)
    keep(store, COLUMN, KEYS[:1], VALUES[1:2])
    (first,) = store.get(COLUMN, KEYS[:1])
    first += 1
    store.clear()
    assert first.sum() == 2000
    keep(store, COLUMN, KEYS[:1], VALUES[1:2])
    assert same(store.get(COLUMN, KEYS[:1]), VALUES[1:2]) == [True]


def test_a_damaged_value_is_a_miss_and_is_replaced(tmp_path):
    store = DiskStore(tmp_path, 10**8)
    keep(store, COLUMN, KEYS, VALUES)
    before = store.info()
    damage(store, KEYS[3])
    assert [n for n, one in enumerate(store.get(COLUMN, KEYS)) if one is None] == [3]
    keep(store, COLUMN, KEYS, VALUES)
    assert all(same(store.get(COLUMN, KEYS)))
    assert (store.info().n_entries, store.info().n_bytes) == (before.n_entries, before.n_bytes)


def test_a_value_under_another_key_is_a_miss(tmp_path):
    store = DiskStore(tmp_path, 10**8)
    keep(store, COLUMN, KEYS[:2], VALUES[:2])
    with store._environment.transaction(write=True) as transaction:
        record = bytes(transaction.get(disk_columns.key_of(COLUMN, KEYS[0])))
        transaction.put(disk_columns.key_of(COLUMN, KEYS[1]), record)
    assert [one is None for one in store.get(COLUMN, KEYS[:2])] == [False, True]


def test_a_full_store_is_told_once_and_computing_goes_on(tmp_path):
    store = DiskStore(tmp_path, 200_000)
    with pytest.warns(StoreWarning, match="has reached its limit of 200.0 kB: going on without storing") as told:
        keep_each(store, COLUMN, KEYS, VALUES)
    assert len(told) == 1
    assert str(tmp_path) in str(told[0].message)
    n_kept = store.info().n_entries
    assert 10 < n_kept < 50
    assert same(store.get(COLUMN, KEYS)) == [n < n_kept for n in range(100)]
    assert store.room() == 0


def test_storing_goes_on_where_there_is_room_again(tmp_path, monkeypatch):
    store = DiskStore(tmp_path, 200_000)
    large = [torch.zeros(100_000)]
    with pytest.warns(StoreWarning):
        keep(store, COLUMN, KEYS[:1], large)
    keep(store, COLUMN, KEYS[:1], VALUES[:1])
    assert store.info().n_entries == 0  # a full store is not tried at each batch
    monkeypatch.setattr(disk_store.time, "monotonic", lambda: 1e9)
    keep(store, COLUMN, KEYS[:1], VALUES[:1])
    assert store.info().n_entries == 1


def test_a_higher_limit_helps_at_once(tmp_path):
    store = DiskStore(tmp_path, 200_000)
    with pytest.warns(StoreWarning):
        keep(store, COLUMN, KEYS, VALUES)
    store.resize(10**8)
    keep(store, COLUMN, KEYS, VALUES)
    assert all(same(store.get(COLUMN, KEYS)))


def test_room_is_what_is_left(tmp_path):
    store = DiskStore(tmp_path, 10**6)
    before = store.room()
    keep(store, COLUMN, KEYS[:50], VALUES[:50])
    assert 50 * 4000 < before - store.room() < 2.2 * 50 * 4000  # values of a page and a bit take two


def test_a_column_is_marked_as_used_when_it_is_and_not_each_time(tmp_path, monkeypatch):
    store = DiskStore(tmp_path, 10**8)
    keep(store, COLUMN, KEYS, VALUES)
    marks = []
    monkeypatch.setattr(disk_columns, "mark_used", lambda environment, column: marks.append(column))
    now = [1e6]
    monkeypatch.setattr(disk_store.time, "monotonic", lambda: now[0])
    for _ in range(3):
        store.get(COLUMN, KEYS)
    assert marks == [COLUMN]
    now[0] += 61
    store.get(COLUMN, [b"not there".ljust(20)])
    assert marks == [COLUMN]
    store.get(COLUMN, KEYS)
    assert marks == [COLUMN, COLUMN]


def test_reading_refreshes_the_time_that_pruning_goes_by(tmp_path):
    store = DiskStore(tmp_path, 10**8)
    keep(store, COLUMN, KEYS, VALUES)
    mark = store._environment.layout / "used" / COLUMN.digest.hex()
    os.utime(mark, (1, 1))
    DiskStore(tmp_path / "x" / "..", 10**8)  # another object does not matter
    store._used.clear()
    store.get(COLUMN, KEYS)
    assert mark.stat().st_mtime > 10**9


def test_clear_forgets_in_all_processes_and_begins_anew(tmp_path):
    store = DiskStore(tmp_path, 200_000)
    with pytest.warns(StoreWarning):
        keep(store, COLUMN, KEYS, VALUES)
    store.clear()
    assert store.get(COLUMN, KEYS) == [None] * 100
    keep(store, COLUMN, KEYS[:5], VALUES[:5])
    assert all(same(store.get(COLUMN, KEYS[:5])))
    assert store.info().n_entries == 5


def test_a_folder_that_cannot_be_cleared_is_an_error(tmp_path, monkeypatch):
    store = DiskStore(tmp_path, 10**8)
    keep(store, COLUMN, KEYS, VALUES)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk_columns, "_move_away", refuse)
    with pytest.raises(StoreError, match=r"cannot be cleared: .*Permission denied"):
        store.clear()


def test_threads_fill_and_read_one_folder(tmp_path):
    store, wrong = DiskStore(tmp_path, 10**8), []
    started = threading.Barrier(6)

    def work(seed):
        started.wait()
        for start in range(0, 100, 5):
            rows = [(n * 7 + seed) % 100 for n in range(start, start + 5)]
            found = store.get(COLUMN, [KEYS[n] for n in rows])
            wrong.extend(n for n, one in zip(rows, found) if one is not None and not torch.equal(one, VALUES[n]))
            keep(store, COLUMN, [KEYS[n] for n in rows], [VALUES[n] for n in rows])

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    info = store.info()
    assert wrong == []
    assert (info.n_entries, info.hits + info.misses) == (100, 600)
    assert all(same(store.get(COLUMN, KEYS)))


def test_a_healthy_store_says_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            store = DiskStore(tmp_path, 10**8)
            keep(store, COLUMN, KEYS, VALUES)
            store.get(COLUMN, KEYS)
            store._environment.close()
