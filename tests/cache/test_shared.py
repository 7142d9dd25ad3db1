from __future__ import annotations

import os
import random
import time
import warnings
from pathlib import Path

import pytest
import torch

from benchmarks.speed.shared_cache import faults
from sktransfer import cache_info, clear_cache
from sktransfer.cache import shared as module
from sktransfer.cache.segments import LAYOUT
from sktransfer.cache.shared import SharedStore, shared_store
from sktransfer.cache.types import CacheNamespace
from sktransfer.cache.urls import Location
from sktransfer.exceptions import StoreError, StoreWarning
from tests.cache.test_faults import fork, key, value
from tests.cache.test_memory import status_of

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")

NAMESPACE = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")
OTHER = CacheNamespace(b"\1" * 16, "tiny/cnn", "top", "", "float16")


@pytest.fixture
def url(tmp_path):
    return f"file://{tmp_path}/shared"


@pytest.fixture
def store(url):
    return SharedStore(Location(url), refresh=0.0)


def another(store, **options):
    """Return a store of the same URL, as another process has it."""
    return SharedStore(Location(store.location.url), **{"refresh": 0.0, **options})


def keep(store, numbers, namespace=NAMESPACE):
    store.put(namespace, [key(n) for n in numbers], [value(n) for n in numbers])


def found(store, numbers, namespace=NAMESPACE):
    """Return the numbers that have an entry, after checking its value."""
    entries = store.fetch(namespace, [key(n) for n in numbers])
    numbers = [n for n in numbers if key(n) in entries]
    assert all(torch.equal(entries[key(n)], value(n)) for n in numbers)
    return numbers


def files(store):
    return sorted(path for path in Path(store.location.root).rglob("*") if path.is_file())


def test_fetch_returns_what_another_store_put(store):
    keep(store, range(10))
    assert found(another(store), range(10)) == []
    store.flush()
    assert found(another(store), range(5, 15)) == list(range(5, 10))
    assert found(another(store), range(10), OTHER) == []
    (file,) = files(store)
    assert file.parent == Path(store.location.path(LAYOUT, NAMESPACE.digest.hex()))


@pytest.mark.parametrize("url", ["memory://shared", "memory://"])
def test_fetch_in_memory_of_fsspec(url):
    store = SharedStore(Location(url))
    store.clear()
    keep(store, range(3))
    store.flush()
    assert found(another(store), range(4)) == [0, 1, 2]
    assert store.info().n_entries == 3
    store.clear()
    assert found(another(store), range(4)) == []


def test_fetch_returns_all_entries_of_a_segment_from_one_read(store):
    keep(store, range(10))
    store.flush()
    reader = another(store)
    assert len(reader.fetch(NAMESPACE, [key(3)])) == 10
    n_read = reader.n_read
    assert len(reader.fetch(NAMESPACE, [key(4)])) == 0  # the level of the machine has it, or did not want it
    assert len(reader.fetch(NAMESPACE, [key(4), key(5)])) == 10  # worth another read
    assert n_read < reader.n_read


def test_fetch_of_a_process_that_only_reads_writes_nothing(store):
    keep(store, range(10))
    store.flush()
    before, reader = files(store), another(store)
    found(reader, range(20))
    reader.flush()
    assert files(store) == before
    assert reader.n_written == 0


def test_put_writes_at_a_thousand_values(store):
    keep(store, range(module.N_VALUES - 1))
    assert files(store) == []
    keep(store, [module.N_VALUES])
    assert [one.n_entries for one in store.segments()] == [module.N_VALUES]


def test_put_writes_at_the_bytes_of_a_segment_and_of_all(store, monkeypatch):
    monkeypatch.setattr(module, "N_BYTES", 10_000)
    monkeypatch.setattr(module, "N_BYTES_ALL", 15_000)
    for _ in range(2):
        store.put(NAMESPACE, [key(1), key(2)], [torch.zeros(1250), torch.zeros(1249)])
    assert files(store) == []
    store.put(NAMESPACE, [key(3)], [torch.zeros(1)])
    assert [one.n_entries for one in store.segments()] == [3]
    for number in range(3):
        store.put(OTHER, [key(number)], [torch.zeros(700)])
        store.put(NAMESPACE, [key(10 + number)], [torch.zeros(600)])
    assert sorted(one.n_entries for one in store.segments()) == [3, 3, 3]


def test_put_leaves_out_entries_that_are_there(store):
    keep(store, range(10))
    store.flush()
    other = another(store)
    keep(other, range(5, 15))
    other.flush()  # looks before it writes
    keep(store, range(10))
    store.flush()
    assert sorted(one.n_entries for one in store.segments()) == [5, 10]


def test_put_of_equal_values_by_two_processes_that_do_not_see_each_other(store):
    first, second = another(store), another(store)
    for one in (first, second):
        keep(one, range(4))
    first._look, second._look = lambda: None, lambda: None
    first.flush()
    second.flush()
    assert len(files(store)) == 1  # the content is the name
    assert found(store, range(4)) == [0, 1, 2, 3]


def test_refresh_is_the_time_between_looks(store):
    slow, eager = another(store, refresh=1e6), another(store)
    assert found(slow, [1]) == found(eager, [1]) == []
    keep(store, [1])
    store.flush()
    assert found(slow, [1]) == []
    assert found(eager, [1]) == [1]
    keep(slow, [2])
    slow.flush()  # looks before it writes
    assert found(slow, [1, 2]) == [1, 2]


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "cut in the header", "another namespace", "no segment"])
def test_fetch_names_a_damaged_segment_and_computes_its_values_again(store, damage):
    keep(store, range(10))
    store.flush()
    (file,) = files(store)
    content = file.read_bytes()
    file.write_bytes(
        {
            "cut": content[:-5],
            "changed": content[:-5] + b"12345",
            "empty": b"",
            "cut in the header": content[:50],
            "another namespace": content.replace(bytes(16).hex().encode(), b"1" * 32),
            "no segment": os.urandom(len(content)),
        }[damage]
    )
    reader = another(store)
    with pytest.warns(StoreWarning, match=f"segment .*{file.name} is not used: it") as caught:
        assert found(reader, range(10)) == []
    assert len(caught) == 1
    assert found(reader, range(10)) == []  # no second warning
    keep(reader, range(10))
    reader.flush()
    reader = another(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        assert found(reader, range(10)) == list(range(10))  # also if the damaged segment is met first


def test_fetch_of_a_segment_that_was_pruned_meanwhile_is_silent(store):
    for numbers in (range(5), range(5, 10)):
        keep(store, numbers)
        store.flush()
    reader = another(store)
    assert found(reader, [0]) == [0]
    for file in files(store):
        file.unlink()
    assert found(reader, [5, 6]) == []


def test_prune_deletes_segments_by_age_and_parts_of_killed_processes(store):
    for numbers in (range(3), range(3, 8)):
        keep(store, numbers)
        store.flush()
    old = next(file for file in files(store) if file.name.startswith("3-"))
    part, fresh = old.with_name("0123.part"), old.with_name("4567.part")
    for file, days in ((old, 10), (part, 2), (fresh, 0)):
        file.touch()
        os.utime(file, times=(time.time() - days * 86400,) * 2)
    assert [one.n_entries for one in store.prune(11)] == []
    assert [one.n_entries for one in store.prune(5)] == [3]
    assert found(another(store), range(8)) == list(range(3, 8))
    assert sorted(file.name[:2] for file in files(store)) == ["45", "5-"]


def test_namespaces_lists_the_last_written_first(store):
    keep(store, range(3))
    store.flush()
    os.utime(files(store)[0], (1000, 1000))
    keep(store, range(4), OTHER)
    store.flush()
    first, second = another(store).namespaces()
    assert (first.namespace, first.n_entries) == (OTHER, 4)
    assert (second.namespace, second.n_entries, second.used) == (NAMESPACE, 3, 1000)
    assert first.n_bytes + second.n_bytes == sum(file.stat().st_size for file in files(store))


def test_info_counts_hits_and_misses_of_this_store(store):
    keep(store, range(3))
    store.flush()
    reader = another(store)
    found(reader, range(5))
    info = reader.info()
    assert (info.hits, info.misses, info.n_entries, info.limit) == (3, 2, 3, None)
    assert repr(info).startswith(f"<cache {store.location.url}: 3 values, ")


def test_cache_info_and_clear_cache_of_a_url(url):
    store = shared_store(url)
    keep(store, range(3))
    store.flush()
    assert (cache_info(url).location, cache_info(url).n_entries) == (url, 3)
    clear_cache(url)
    assert cache_info(url).n_entries == 0
    assert files(store) == []


def test_flush_that_fails_warns_once_and_goes_on(store):
    keep(store, range(3))
    store.flush()
    folder = files(store)[0].parent.with_name("f" * 32)
    folder.write_text("in the way")
    unwritable = CacheNamespace(b"\xff" * 16, "tiny/cnn", "stem", "average", "float32")
    keep(store, range(3), unwritable)
    with pytest.warns(StoreWarning, match="cannot be written .*: going on without it"):
        store.flush()
    keep(store, range(3, 6), unwritable)
    store.flush()
    assert found(store, range(3)) == [0, 1, 2]  # reading goes on


def test_fetch_that_fails_warns_once_and_goes_on(store, tmp_path):
    keep(store, range(3))
    store.flush()
    (folder,) = (tmp_path / "shared" / LAYOUT).iterdir()
    reader = another(store)
    assert found(reader, [0]) == [0]
    file = files(store)[0]
    file.unlink()
    file.mkdir()  # reading it raises an error that is not "not found"
    with pytest.warns(StoreWarning, match="cannot be read .*: going on without it"):
        assert found(reader, range(3)) == []
    assert found(reader, range(3)) == []
    assert folder.is_dir()


@pytest.mark.parametrize("other", ["sktransfer-segments-0", "sktransfer-segments-2"])
def test_check_warns_of_other_layouts_which_are_not_read_and_not_changed(other, store, tmp_path):
    keep(store, range(10))
    store.flush()
    store.check()  # a warning would be an error
    (tmp_path / "shared" / LAYOUT).rename(tmp_path / "shared" / other)
    before = {path: path.read_bytes() for path in files(store)}
    reader = another(store)
    with pytest.warns(
        StoreWarning, match=rf"holds data of another version of sktransfer \({other}\), which is not read"
    ):
        reader.check()
    assert found(reader, range(10)) == []
    reader.clear()
    assert {path: path.read_bytes() for path in files(store)} == before


def test_clear_of_a_store_that_cannot_be_reached(store, tmp_path):
    keep(store, range(3))
    store.flush()
    file = files(store)[0]
    file.unlink()
    (file.parent / "in").mkdir()
    (tmp_path / "shared").rename(tmp_path / "moved")
    store.clear()  # nothing is there
    (tmp_path / "shared").touch()
    with pytest.raises(StoreError, match="cannot be used"):
        another(store).check()


def test_pending_entries_belong_to_the_parent_after_a_fork(url):
    store = shared_store(url)
    keep(store, range(3))

    def act():
        store.flush()
        assert files(store) == []
        keep(store, range(3, 5))
        store.flush()
        assert found(store, range(5)) == [3, 4]

    assert status_of(fork(act)) == 0
    store.flush()
    assert found(another(store), range(5)) == list(range(5))


def test_faults_of_a_folder_are_none(tmp_path):
    """Two processes write and three read. One is killed at a random moment."""
    sums = faults(f"file://{tmp_path}/shared", [random.Random(0).randrange(100)], n_values=1500)
    assert (sums["wrong"], sums["lost"], sums["failed"]) == (0, 0, 0)
    assert sums["written"] >= 1500
