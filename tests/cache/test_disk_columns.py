from __future__ import annotations

import json
import os
import time

import lmdb
import pytest
import torch

from sktransfer.cache import disk_columns
from sktransfer.cache.disk_columns import KeptColumn, clear, compact, forget, list_columns, other_versions, prune
from sktransfer.cache.disk_store import DiskStore
from sktransfer.cache.lmdb_environment import Environment
from sktransfer.cache.types import CacheNamespace
from tests.cache.test_disk_store import keep, keep_each

LIMIT = 10**8
OLD, MIDDLE, NEW = (
    CacheNamespace(bytes([n]) * 16, f"tiny/{n}", f"stage {n}", "average" if n else "", "float32") for n in range(3)
)
KEYS = [n.to_bytes(20, "big") for n in range(50)]
VALUES = [torch.full((1500,), float(n)) for n in range(50)]


@pytest.fixture
def store(tmp_path):
    """A store with three columns, which were used 30, 20 and 10 days ago."""
    store = DiskStore(tmp_path / "kept", LIMIT)
    for days, column in ((30, OLD), (20, MIDDLE), (10, NEW)):
        keep(store, column, KEYS, VALUES)
        when = time.time() - days * 86400
        os.utime(store._environment.layout / "used" / column.digest.hex(), (when, when))
    return store


def backbones(environment):
    return [one.column.backbone for one in list_columns(environment)]


def file_size(environment):
    return (environment.database / "data.mdb").stat().st_size


def test_columns_are_listed_with_what_they_are_the_last_used_first(store):
    found = list_columns(store._environment)
    assert [one.column for one in found] == [NEW, MIDDLE, OLD]
    assert {one.n_entries for one in found} == {50}
    assert all(50 * 6000 < one.n_bytes < 50 * 6100 for one in found)
    assert [round((time.time() - one.used) / 86400) for one in found] == [10, 20, 30]


def test_counts_follow_what_is_written(store):
    keep(store, NEW, [*KEYS[:3], bytes(19) + b"\xff"], VALUES[:4])  # one of them is new
    assert list_columns(store._environment)[0].n_entries == 51
    with store._environment.transaction() as transaction, transaction.cursor() as cursor:
        sizes = [len(value) for key, value in cursor if bytes(key).startswith(b"v" + NEW.digest)]
    assert list_columns(store._environment)[0].n_bytes == sum(sizes)
    assert len(sizes) == 51


def test_forgetting_takes_one_column_whole_and_leaves_the_others(store, monkeypatch):
    monkeypatch.setattr(disk_columns, "_PART", 7)
    forget(store._environment, [MIDDLE])
    assert backbones(store._environment) == ["tiny/2", "tiny/0"]
    assert store.get(MIDDLE, KEYS) == [None] * 50
    for column in (OLD, NEW):
        assert all(torch.equal(*pair) for pair in zip(store.get(column, KEYS), VALUES))
    with store._environment.transaction() as transaction:
        assert transaction.stat()["entries"] == 2 * 51


def test_a_part_that_is_forgotten_is_counted(store, monkeypatch):
    monkeypatch.setattr(disk_columns, "_PART", 20)
    before = list_columns(store._environment)[-1]
    assert disk_columns._forget_part(store._environment, OLD)
    after = list_columns(store._environment)[-1]
    assert (after.n_entries, after.n_bytes) == (30, before.n_bytes * 3 // 5)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"size": 10**7}, ["tiny/2", "tiny/1", "tiny/0"]),
        ({"size": 700_000}, ["tiny/2", "tiny/1"]),
        ({"size": 600_000}, ["tiny/2"]),
        ({"size": 0}, []),
        ({"days": 31}, ["tiny/2", "tiny/1", "tiny/0"]),
        ({"days": 15}, ["tiny/2"]),
        ({"days": 0}, []),
        ({"size": 700_000, "days": 15}, ["tiny/2"]),
        ({}, ["tiny/2", "tiny/1", "tiny/0"]),
    ],
)
def test_pruning_forgets_what_was_not_used_for_longest_and_frees_the_disk(given, left, store):
    gone = prune(store._environment, **given)
    assert backbones(store._environment) == left
    assert {one.column.backbone for one in gone} == {"tiny/0", "tiny/1", "tiny/2"} - set(left)
    assert all(isinstance(one, KeptColumn) for one in gone)
    assert file_size(store._environment) < 60_000 + 450_000 * len(left)
    for column in (OLD, MIDDLE, NEW):
        found = store.get(column, KEYS)
        assert all((one is not None) == (column.backbone in left) for one in found)
        assert all(torch.equal(one, value) for one, value in zip(found, VALUES) if one is not None)


def test_a_full_store_can_be_pruned(tmp_path):
    store = DiskStore(tmp_path, 10**6)
    with pytest.warns(UserWarning, match="limit"):
        keep_each(store, OLD, KEYS, [torch.zeros(10_000) for _ in KEYS])
    n_kept = sum(one.n_entries for one in list_columns(store._environment))
    assert 15 < n_kept < 25
    store._environment.close()
    roomy = Environment(tmp_path, 10**9)
    assert len(prune(roomy, size=1)) == 1
    assert backbones(roomy) == []
    assert file_size(roomy) < 20_000


def test_compacting_leaves_nothing_behind_and_can_be_done_again(store):
    for _ in range(2):
        compact(store._environment)
    assert sorted(path.name for path in store._environment.layout.iterdir()) == ["lmdb", "used"]
    keep(store, NEW, [b"x" * 20], VALUES[:1])
    assert torch.equal(store.get(NEW, [b"x" * 20])[0], VALUES[0])


def test_a_compaction_that_fails_leaves_the_store_as_it_was(store, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        compact(store._environment)
    assert sorted(path.name for path in store._environment.layout.iterdir()) == ["lmdb", "used"]
    assert all(torch.equal(*pair) for pair in zip(store.get(OLD, KEYS), VALUES))
    keep(store, NEW, [b"x" * 20], VALUES[:1])


def test_a_store_that_another_process_begins_in_between_gives_way(store, monkeypatch):
    move_away = disk_columns._move_away

    def moved_and_begun(environment):
        monkeypatch.setattr(disk_columns, "_move_away", move_away)
        gone = move_away(environment)
        environment.database.mkdir()
        (environment.database / "data.mdb").touch()
        return gone

    monkeypatch.setattr(disk_columns, "_move_away", moved_and_begun)
    compact(store._environment)
    assert all(torch.equal(*pair) for pair in zip(store.get(OLD, KEYS), VALUES))


def test_what_a_dead_process_left_is_removed_in_time(store):
    layout = store._environment.layout
    for name, age in (("gone-a", 7200), ("new-b", 7200), ("new-c", 60)):
        (layout / name).mkdir()
        os.utime(layout / name, (time.time() - age,) * 2)
    compact(store._environment)
    assert sorted(path.name for path in layout.iterdir()) == ["lmdb", "new-c", "used"]


def test_clearing_frees_the_disk(store):
    clear(store._environment)
    assert list(store._environment.layout.iterdir()) == []
    assert list_columns(store._environment) == []


def test_a_description_that_is_damaged_is_an_error_of_the_database(store):
    with store._environment.transaction(write=True) as transaction:
        transaction.put(b"c" + OLD.digest, b"{")
    with pytest.raises(lmdb.CorruptedError, match="description"):
        list_columns(store._environment)


def test_a_description_names_its_fields(store):
    """Other versions that know this layout read them."""
    with store._environment.transaction() as transaction:
        found = json.loads(bytes(transaction.get(b"c" + OLD.digest)))
    assert list(found) == ["backbone", "stage", "pooling", "dtype", "n_entries", "n_bytes"]


def test_other_versions_are_known_by_their_folders(tmp_path):
    assert other_versions(tmp_path / "nothing") == []
    for name in ("sktransfer-store-1", "sktransfer-store-2", "sktransfer-store-0", "sktransfer", "store-3"):
        (tmp_path / name).mkdir()
    assert other_versions(tmp_path) == ["sktransfer-store-0", "sktransfer-store-2"]
