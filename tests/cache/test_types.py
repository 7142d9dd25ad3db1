from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from sktransfer import cache_info, clear_cache, config_context
from sktransfer.cache.resolve import resolve_store
from sktransfer.cache.types import CacheInfo, CacheNamespace, readable_size
from sktransfer.exceptions import InvalidParameterError
from tests.helpers.plugin_zoo import python

COLUMN = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")
KEYS = [bytes([n]) * 20 for n in range(8)]


@pytest.fixture(autouse=True)
def _empty():
    clear_cache()
    yield
    clear_cache()


def test_memory_is_one_store_a_process():
    assert resolve_store("memory") is resolve_store("memory")


def test_a_folder_is_one_store_a_process_however_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to("kept")
    named = ["kept", Path("kept"), tmp_path / "kept", "./a/../kept", "~/kept", "link"]
    assert len({id(resolve_store(name)) for name in named}) == 1
    assert resolve_store("other") is not resolve_store("kept")


def test_none_is_no_store():
    assert resolve_store(None) is None


@pytest.mark.parametrize("cache", ["", " ", "Memory", "none", "None", "disk", "auto", True, 3, b"folder", ["folder"]])
def test_what_is_no_folder_is_refused(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (resolve_store, cache_info, clear_cache):
        with pytest.raises(InvalidParameterError, match=r"cache=.* must be 'memory', a folder"):
            call(cache)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_can_have_any_name_that_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_store("./None").info().location == str(tmp_path / "None")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidParameterError, match="is a file"):
        resolve_store(tmp_path / "file")


def test_none_has_no_counts():
    for call in (cache_info, clear_cache):
        with pytest.raises(InvalidParameterError, match="names no store"):
            call(None)


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_both_kinds_keep_count_and_forget_alike(where, tmp_path):
    cache = "memory" if where == "memory" else tmp_path / "kept"
    store = resolve_store(cache)
    values = [torch.full((3, n), float(n)) for n in range(4)]
    assert store.get(COLUMN, KEYS[:4]) == [None] * 4
    store.put(COLUMN, KEYS[:4], values)
    found = store.get(COLUMN, KEYS[2:6])
    assert [one is not None for one in found] == [True, True, False, False]
    assert torch.equal(found[0], values[2])
    info = cache_info(cache)
    assert (info.hits, info.misses, info.n_entries) == (2, 6, 4)
    assert info.n_bytes >= sum(value.nbytes for value in values)
    assert info.location == (where if where == "memory" else str(tmp_path / "kept"))
    assert 0 < store.room() <= info.limit
    clear_cache(cache)
    after = cache_info(cache)
    assert (after.hits, after.misses, after.n_entries, after.n_bytes) == (0, 0, 0, 0)
    assert store.get(COLUMN, KEYS[:4]) == [None] * 4


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_columns_do_not_mix(where, tmp_path):
    store = resolve_store("memory" if where == "memory" else tmp_path / "kept")
    other = CacheNamespace(b"\1" * 16, "tiny/cnn", "top", "average", "float32")
    store.put(COLUMN, KEYS[:1], [torch.zeros(2)])
    assert store.get(other, KEYS[:1]) == [None]
    store.put(other, KEYS[:1], [torch.ones(2)])
    assert [store.get(column, KEYS[:1])[0].sum().item() for column in (COLUMN, other)] == [0, 2]


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_of_two_values_under_one_key_the_first_is_kept(where, tmp_path):
    store = resolve_store("memory" if where == "memory" else tmp_path / "kept")
    store.put(COLUMN, [KEYS[0], KEYS[0]], [torch.zeros(2), torch.ones(2)])
    store.put(COLUMN, KEYS[:1], [torch.ones(2)])
    assert store.get(COLUMN, KEYS[:1])[0].sum() == 0
    assert store.info().n_entries == 1


def test_settings_are_the_limits(tmp_path):
    with config_context(cache_memory=20_000, cache_disk="3 MB"):
        store = resolve_store("memory")
        store.put(COLUMN, KEYS, [torch.zeros(1000) for _ in KEYS])
        assert cache_info().n_entries == 4
        assert (cache_info().limit, cache_info(tmp_path / "kept").limit) == (20_000, 3_000_000)
    assert cache_info().limit == 2 * 1024**3
    assert cache_info(tmp_path / "kept").limit == 10 * 1024**3


def test_counts_are_readable():
    info = CacheInfo("memory", 12, 3, 15, 46_080, 2 * 1024**3)
    assert repr(info) == "<cache memory: 15 values, 46.1 kB of 2.1 GB; 12 hits, 3 misses>"


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (1_500_000_000, "1.5 GB"),
        (2 * 10**12, "2.0 TB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes_are_readable(n_bytes, text):
    assert readable_size(n_bytes) == text


@pytest.mark.process
def test_counts_need_neither_torch_nor_a_database():
    code = (
        "import sys, sktransfer; sktransfer.cache_info(); print(sorted({'torch', 'numpy', 'lmdb'} & set(sys.modules)))"
    )
    assert python("-c", code).stdout.strip() == "[]"


@pytest.mark.process
def test_an_estimators_cache_is_the_same_folder_in_each_process(tmp_path):
    code = (
        "import sys, torch; from sktransfer.cache.types import CacheNamespace, resolve_store; "
        "column = CacheNamespace(bytes(16), 'tiny/cnn', 'stem', 'average', 'float32'); "
        f"resolve_store({os.fspath(tmp_path / 'kept')!r}).put(column, [bytes(20)], [torch.arange(5)])"
    )
    python("-c", code)
    assert resolve_store(tmp_path / "kept").get(COLUMN, [bytes(20)])[0].tolist() == [0, 1, 2, 3, 4]
