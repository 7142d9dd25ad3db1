from __future__ import annotations

import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from sktransfer.cache import disk, lmdb
from sktransfer.cache.disk import N_BYTES, SECONDS, DiskStore, WriteBuffer
from sktransfer.cache.lmdb import list_namespaces, namespace_path
from sktransfer.cache.types import CacheNamespace
from sktransfer.exceptions import StoreError, StoreWarning
from tests.helpers.elsewhere import run_code

NAMESPACE = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")
KEYS = [n.to_bytes(20, "big") for n in range(100)]
VALUES = [torch.full((500, 2), float(n)) for n in range(100)]
MANY = [CacheNamespace(bytes([n]) * 16, "tiny/cnn", f"stage {n}", "average", "float32") for n in range(10)]


def keep(store, namespace, keys, values):
    store.put(namespace, keys, values)
    store.flush()


def keep_each(store, namespace, keys, values):
    for key, value in zip(keys, values):
        keep(store, namespace, [key], [value])


def same(entries, values=VALUES):
    return [entry is not None and torch.equal(entry, value) for entry, value in zip(entries, values)]


def damage(store, key):
    """Flip one bit of a record and keep its checksum."""
    with store._environment(NAMESPACE).transaction(write=True) as transaction:
        record = bytearray(transaction.get(key))
        record[100] ^= 1
        transaction.put(key, bytes(record))


def test_get_finds_entries_of_another_disk_store(tmp_path):
    store = DiskStore(tmp_path, 10**8)
    keep(store, NAMESPACE, KEYS, VALUES)
    store._environment(NAMESPACE).close()
    again = DiskStore(tmp_path, 10**8)
    assert all(same(again.get(NAMESPACE, KEYS)))
    assert (again.info().hits, again.info().misses) == (100, 0)


def test_put_is_visible_at_once_and_to_other_processes_after_flush(tmp_path):
    store = DiskStore(tmp_path, 10**8)
    store.put(NAMESPACE, KEYS, VALUES)
    assert all(same(store.get(NAMESPACE, KEYS)))
    assert list_namespaces(tmp_path) == []
    store.flush()
    assert list_namespaces(tmp_path)[0].n_entries == 100
    assert all(same(store.get(NAMESPACE, KEYS)))


def test_put_writes_after_half_a_second_or_32_megabytes(tmp_path, monkeypatch):
    store, now = DiskStore(tmp_path, 10**8), [1e6]
    monkeypatch.setattr(disk.time, "monotonic", lambda: now[0])

    def n_written():
        return sum(info.n_entries for info in list_namespaces(tmp_path))

    store.put(NAMESPACE, KEYS[:1], VALUES[:1])
    now[0] += 0.4
    store.put(NAMESPACE, KEYS[1:2], VALUES[1:2])
    assert n_written() == 0
    now[0] += 0.2
    store.put(NAMESPACE, KEYS[2:3], VALUES[2:3])
    assert n_written() == 3
    store.put(NAMESPACE, KEYS[3:4], [torch.zeros(32 * 1024**2 // 4)])
    assert n_written() == 4


@pytest.mark.process
def test_flush_at_exit_writes_buffered_records(tmp_path):
    code = (
        "import torch; from sktransfer.cache.resolve import resolve_store; from sktransfer.cache.types import *; "
        f"resolve_store({str(tmp_path)!r}).put(CacheNamespace(bytes(16), '', '', '', ''), [bytes(20)], [torch.ones(3)])"
    )
    run_code(code)
    assert DiskStore(tmp_path, 10**8).get(NAMESPACE, [bytes(20)])[0].sum() == 3


def test_flush_stores_the_part_of_a_batch_that_fits_the_limit(tmp_path):
    store = DiskStore(tmp_path, 300_000)
    with pytest.warns(StoreWarning, match="limit"):
        keep(store, NAMESPACE, KEYS, VALUES)
    entries = same(store.get(NAMESPACE, KEYS))
    assert 15 < sum(entries) < 75
    assert entries == sorted(entries, reverse=True)


def test_get_returns_a_copy(tmp_path):
    store = DiskStore(tmp_path, 10**8)
    keep(store, NAMESPACE, KEYS[:1], VALUES[1:2])
    (first,) = store.get(NAMESPACE, KEYS[:1])
    first += 1
    store.clear()
    assert first.sum() == 2000
    keep(store, NAMESPACE, KEYS[:1], VALUES[1:2])
    assert same(store.get(NAMESPACE, KEYS[:1]), VALUES[1:2]) == [True]


def test_get_counts_a_damaged_record_as_missing_and_put_replaces_it(tmp_path):
    store = DiskStore(tmp_path, 10**8)
    keep(store, NAMESPACE, KEYS, VALUES)
    before = store.info()
    damage(store, KEYS[3])
    assert [n for n, entry in enumerate(store.get(NAMESPACE, KEYS)) if entry is None] == [3]
    keep(store, NAMESPACE, KEYS, VALUES)
    assert all(same(store.get(NAMESPACE, KEYS)))
    assert (store.info().n_entries, store.info().n_bytes) == (before.n_entries, before.n_bytes)


def test_get_counts_a_record_of_another_key_as_missing(tmp_path):
    store = DiskStore(tmp_path, 10**8)
    keep(store, NAMESPACE, KEYS[:2], VALUES[:2])
    with store._environment(NAMESPACE).transaction(write=True) as transaction:
        transaction.put(KEYS[1], bytes(transaction.get(KEYS[0])))
    assert [entry is None for entry in store.get(NAMESPACE, KEYS[:2])] == [False, True]


def test_limit_reached_warns_once_and_keeps_entries(tmp_path):
    store = DiskStore(tmp_path, 200_000)
    with pytest.warns(StoreWarning, match="has reached its limit of 200.0 kB: going on without storing") as caught:
        keep_each(store, NAMESPACE, KEYS, VALUES)
    assert len(caught) == 1
    assert str(tmp_path) in str(caught[0].message)
    n_kept = store.info().n_entries
    assert 10 < n_kept < 50
    assert same(store.get(NAMESPACE, KEYS)) == [n < n_kept for n in range(100)]
    assert store.room() == 0


def test_put_resumes_after_the_pause_that_follows_the_limit(tmp_path, monkeypatch):
    store = DiskStore(tmp_path, 200_000)
    large = [torch.zeros(100_000)]
    with pytest.warns(StoreWarning):
        keep(store, NAMESPACE, KEYS[:1], large)
    keep(store, NAMESPACE, KEYS[:1], VALUES[:1])
    assert store.info().n_entries == 0  # writing is paused after the limit was reached
    monkeypatch.setattr(disk.time, "monotonic", lambda: 1e9)
    keep(store, NAMESPACE, KEYS[:1], VALUES[:1])
    assert store.info().n_entries == 1


def test_resize_to_a_higher_limit_ends_the_pause(tmp_path):
    store = DiskStore(tmp_path, 200_000)
    with pytest.warns(StoreWarning):
        keep(store, NAMESPACE, KEYS, VALUES)
    store.resize(10**8)
    keep(store, NAMESPACE, KEYS, VALUES)
    assert all(same(store.get(NAMESPACE, KEYS)))


def test_room_is_the_limit_minus_the_file_sizes(tmp_path):
    store = DiskStore(tmp_path, 10**6)
    before = store.room()
    keep(store, NAMESPACE, KEYS[:50], VALUES[:50])
    assert 50 * 4000 < before - store.room() < 2.2 * 50 * 4000  # a record of 4,014 bytes takes two pages of 4,096


def test_mark_used_is_called_once_per_minute_for_hits(tmp_path, monkeypatch):
    store = DiskStore(tmp_path, 10**8)
    keep(store, NAMESPACE, KEYS, VALUES)
    marks = []
    monkeypatch.setattr(disk, "mark_used", lambda folder, namespace: marks.append(namespace))
    now = [1e6]
    monkeypatch.setattr(disk.time, "monotonic", lambda: now[0])
    for _ in range(3):
        store.get(NAMESPACE, KEYS)
    assert marks == [NAMESPACE]
    now[0] += 61
    store.get(NAMESPACE, [b"not there".ljust(20)])
    assert marks == [NAMESPACE]
    store.get(NAMESPACE, KEYS)
    assert marks == [NAMESPACE, NAMESPACE]


def test_get_updates_the_last_use_of_a_namespace(tmp_path):
    store = DiskStore(tmp_path, 10**8)
    keep(store, NAMESPACE, KEYS, VALUES)
    path = namespace_path(tmp_path, NAMESPACE)
    os.utime(path, (1, 1))
    DiskStore(tmp_path / "x" / "..", 10**8)  # has no effect on the other object
    store._last_use.clear()
    store.get(NAMESPACE, KEYS)
    assert path.stat().st_mtime > 10**9


def test_clear_deletes_entries_and_ends_the_pause(tmp_path):
    store = DiskStore(tmp_path, 200_000)
    with pytest.warns(StoreWarning):
        keep(store, NAMESPACE, KEYS, VALUES)
    store.clear()
    assert store.get(NAMESPACE, KEYS) == [None] * 100
    keep(store, NAMESPACE, KEYS[:5], VALUES[:5])
    assert all(same(store.get(NAMESPACE, KEYS[:5])))
    assert store.info().n_entries == 5


def test_clear_raises_store_error_if_the_folder_cannot_be_written(tmp_path, monkeypatch):
    store = DiskStore(tmp_path, 10**8)
    keep(store, NAMESPACE, KEYS, VALUES)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StoreError, match=r"cannot be cleared: .*Permission denied"):
        store.clear()


def test_get_and_put_from_several_threads(tmp_path):
    store, wrong = DiskStore(tmp_path, 10**8), []
    started = threading.Barrier(6)

    def work(seed):
        started.wait()
        for start in range(0, 100, 5):
            rows = [(n * 7 + seed) % 100 for n in range(start, start + 5)]
            entries = zip(rows, store.get(NAMESPACE, [KEYS[n] for n in rows]))
            wrong.extend(n for n, entry in entries if entry is not None and not torch.equal(entry, VALUES[n]))
            keep(store, NAMESPACE, [KEYS[n] for n in rows], [VALUES[n] for n in rows])

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    info = store.info()
    assert wrong == []
    assert (info.n_entries, info.hits + info.misses) == (100, 600)
    assert all(same(store.get(NAMESPACE, KEYS)))


def test_disk_store_does_not_warn_without_a_cause(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            store = DiskStore(tmp_path, 10**8)
            keep(store, NAMESPACE, KEYS, VALUES)
            store.get(NAMESPACE, KEYS)
            store._environment(NAMESPACE).close()


def test_limit_holds_for_the_sum_of_all_namespaces(tmp_path):
    store, n_kept = DiskStore(tmp_path, 500_000), []

    def fill():
        for namespace in MANY:
            store._paused_until = 0
            keep(store, namespace, KEYS[:20], VALUES[:20])
            n_kept.append(sum(same(store.get(namespace, KEYS[:20]))))

    with pytest.warns(StoreWarning, match="has reached its limit of 500.0 kB") as caught:
        fill()
    assert len(caught) == 1
    assert n_kept[:2] == [20, 20]
    assert n_kept[6:] == [0] * (len(MANY) - 6)
    assert 350_000 < sum(file.stat().st_size for file in tmp_path.rglob("data.mdb")) <= 500_000


def test_put_grows_the_map_of_an_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "MAP_BYTES", 2**16)
    store = DiskStore(tmp_path, 10**8)
    for start in range(0, 100, 10):
        keep(store, NAMESPACE, KEYS[start : start + 10], [torch.full((50_000,), float(n)) for n in range(10)])
    assert store.info().n_entries == 100
    assert 20_000_000 < store._environment(NAMESPACE).map_size < 10**8


def test_get_of_an_unknown_namespace_creates_no_folder(tmp_path):
    store = DiskStore(tmp_path / "kept", 10**8)
    assert store.get(NAMESPACE, KEYS[:2]) == [None, None]
    assert list(tmp_path.iterdir()) == []


def test_max_open_closes_the_least_recently_used_environments(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb, "MAX_OPEN", 3)
    store = DiskStore(tmp_path, 10**8)
    for _ in range(2):
        for number, namespace in enumerate(MANY):
            keep(store, namespace, KEYS[:1], [torch.full((3,), float(number))])
            for other in MANY[: number + 1]:
                assert store.get(other, KEYS[:1])[0] is not None
            assert len(lmdb._opened) <= 3
    assert [store.get(namespace, KEYS[:1])[0][0].item() for namespace in MANY] == list(range(len(MANY)))


def test_disk_stores_of_one_folder_share_environments(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    first, second = DiskStore(tmp_path / "kept", 10**8), DiskStore(tmp_path / "link", 10**8)
    keep(first, NAMESPACE, KEYS, VALUES)
    assert all(same(second.get(NAMESPACE, KEYS)))
    assert second._environment(NAMESPACE) is first._environment(NAMESPACE)


@pytest.fixture
def now(monkeypatch):
    """Monotonic clock that the test sets."""
    now = [100.0]
    monkeypatch.setattr(disk.time, "monotonic", lambda: now[0])
    return now


def test_write_buffer_find_until_done():
    buffer = WriteBuffer(threading.Lock())
    buffer.add(NAMESPACE, [(b"a", b"1"), (b"b", b"22")])
    assert (buffer.find(NAMESPACE, b"a"), buffer.find(NAMESPACE, b"c"), buffer.n_bytes) == (b"1", None, 3)
    assert buffer.take() == [(NAMESPACE, b"a", b"1"), (NAMESPACE, b"b", b"22")]
    buffer.add(NAMESPACE, [(b"c", b"333")])
    assert [buffer.find(NAMESPACE, key) for key in (b"a", b"b", b"c")] == [b"1", b"22", b"333"]
    buffer.done()
    assert [buffer.find(NAMESPACE, key) for key in (b"a", b"b", b"c")] == [None, None, b"333"]
    assert buffer.n_bytes == 3


def test_write_buffer_add_keeps_the_first_record_of_a_key():
    buffer = WriteBuffer(threading.Lock())
    buffer.add(NAMESPACE, [(b"a", b"1"), (b"a", b"22")])
    buffer.add(NAMESPACE, [(b"a", b"333")])
    assert buffer.take() == [(NAMESPACE, b"a", b"1")]


def test_write_buffer_add_is_true_half_a_second_after_the_first_record(now):
    buffer = WriteBuffer(threading.Lock())
    assert not buffer.add(NAMESPACE, [(b"a", b"1")])
    now[0] += SECONDS / 2
    assert not buffer.add(NAMESPACE, [(b"b", b"1")])
    now[0] += SECONDS / 2
    assert buffer.add(NAMESPACE, [(b"c", b"1")])
    buffer.take()
    now[0] += 10
    assert not buffer.add(NAMESPACE, [(b"d", b"1")])


def test_write_buffer_add_is_true_at_n_bytes(now):
    buffer, half = WriteBuffer(threading.Lock()), bytes(N_BYTES // 2)
    assert not buffer.add(NAMESPACE, [(b"a", half)])
    assert buffer.add(NAMESPACE, [(b"b", half)])


def test_write_buffer_clear_drops_waiting_and_taken_records():
    buffer = WriteBuffer(threading.Lock())
    buffer.add(NAMESPACE, [(b"a", b"1")])
    buffer.take()
    buffer.add(NAMESPACE, [(b"b", b"1")])
    buffer.clear()
    assert (buffer.find(NAMESPACE, b"a"), buffer.find(NAMESPACE, b"b"), buffer.take(), buffer.n_bytes) == (
        None,
        None,
        [],
        0,
    )
