from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from sktransfer import cache_info, clear_cache, config_context
from sktransfer.cache.resolve import resolve_store
from sktransfer.cache.types import CacheNamespace
from sktransfer.exceptions import InvalidParameterError
from tests.helpers.elsewhere import run_code
from tests.helpers.plugin_zoo import python

NAMESPACE = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")
KEYS = [bytes([n]) * 20 for n in range(8)]


@pytest.fixture(autouse=True)
def _empty():
    clear_cache()
    yield
    clear_cache()


def test_resolve_store_returns_one_memory_store_per_process():
    assert resolve_store("memory") is resolve_store("memory")


def test_resolve_store_returns_one_store_per_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to("kept")
    named = ["kept", Path("kept"), tmp_path / "kept", "./a/../kept", "~/kept", "link"]
    assert len({id(resolve_store(name)) for name in named}) == 1
    assert resolve_store("other") is not resolve_store("kept")


def test_resolve_store_of_none():
    assert resolve_store(None) is None


@pytest.mark.parametrize("cache", ["", " ", "Memory", "none", "None", "disk", "auto", True, 3, b"folder", ["folder"]])
def test_cache_must_be_memory_or_a_folder(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (resolve_store, cache_info, clear_cache):
        with pytest.raises(InvalidParameterError, match=r"cache=.* must be 'memory', a folder"):
            call(cache)
    assert list(tmp_path.iterdir()) == []


def test_resolve_store_of_a_folder_with_a_reserved_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_store("./None").info().location == str(tmp_path / "None")


def test_resolve_store_raises_for_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidParameterError, match="is a file"):
        resolve_store(tmp_path / "file")


def test_cache_info_and_clear_cache_raise_for_none():
    for call in (cache_info, clear_cache):
        with pytest.raises(InvalidParameterError, match="names no store"):
            call(None)


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_cache_info_and_clear_cache_of_both_stores(where, tmp_path):
    cache = "memory" if where == "memory" else tmp_path / "kept"
    store = resolve_store(cache)
    values = [torch.full((3, n), float(n)) for n in range(4)]
    assert store.get(NAMESPACE, KEYS[:4]) == [None] * 4
    store.put(NAMESPACE, KEYS[:4], values)
    entries = store.get(NAMESPACE, KEYS[2:6])
    assert [entry is not None for entry in entries] == [True, True, False, False]
    assert torch.equal(entries[0], values[2])
    info = cache_info(cache)
    assert (info.hits, info.misses, info.n_entries) == (2, 6, 4)
    assert info.n_bytes >= sum(value.nbytes for value in values)
    assert info.location == (where if where == "memory" else str(tmp_path / "kept"))
    assert 0 < store.room() <= info.limit
    clear_cache(cache)
    after = cache_info(cache)
    assert (after.hits, after.misses, after.n_entries, after.n_bytes) == (0, 0, 0, 0)
    assert store.get(NAMESPACE, KEYS[:4]) == [None] * 4


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_get_separates_namespaces(where, tmp_path):
    store = resolve_store("memory" if where == "memory" else tmp_path / "kept")
    other = CacheNamespace(b"\1" * 16, "tiny/cnn", "top", "average", "float32")
    store.put(NAMESPACE, KEYS[:1], [torch.zeros(2)])
    assert store.get(other, KEYS[:1]) == [None]
    store.put(other, KEYS[:1], [torch.ones(2)])
    assert [store.get(namespace, KEYS[:1])[0].sum().item() for namespace in (NAMESPACE, other)] == [0, 2]


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_put_keeps_the_first_value_of_a_key(where, tmp_path):
    store = resolve_store("memory" if where == "memory" else tmp_path / "kept")
    store.put(NAMESPACE, [KEYS[0], KEYS[0]], [torch.zeros(2), torch.ones(2)])
    store.put(NAMESPACE, KEYS[:1], [torch.ones(2)])
    assert store.get(NAMESPACE, KEYS[:1])[0].sum() == 0
    assert store.info().n_entries == 1


def test_cache_memory_and_cache_disk_are_the_limits(tmp_path):
    with config_context(cache_memory=20_000, cache_disk="3 MB"):
        store = resolve_store("memory")
        store.put(NAMESPACE, KEYS, [torch.zeros(1000) for _ in KEYS])
        assert cache_info().n_entries == 4
        assert (cache_info().limit, cache_info(tmp_path / "kept").limit) == (20_000, 3_000_000)
    assert cache_info().limit == 2 * 1024**3
    assert cache_info(tmp_path / "kept").limit == 10 * 1024**3


@pytest.mark.process
def test_cache_info_imports_neither_torch_nor_lmdb():
    code = (
        "import sys, sktransfer; sktransfer.cache_info(); print(sorted({'torch', 'numpy', 'lmdb'} & set(sys.modules)))"
    )
    assert python("-c", code).stdout.strip() == "[]"


@pytest.mark.process
def test_resolve_store_shares_a_folder_between_processes(tmp_path):
    code = (
        "import torch; from sktransfer.cache.resolve import resolve_store; "
        "from sktransfer.cache.types import CacheNamespace; "
        "namespace = CacheNamespace(bytes(16), 'tiny/cnn', 'stem', 'average', 'float32'); "
        f"resolve_store({os.fspath(tmp_path / 'kept')!r}).put(namespace, [bytes(20)], [torch.arange(5)])"
    )
    run_code(code)
    assert resolve_store(tmp_path / "kept").get(NAMESPACE, [bytes(20)])[0].tolist() == [0, 1, 2, 3, 4]
