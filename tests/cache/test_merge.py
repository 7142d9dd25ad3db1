from __future__ import annotations

import pytest
import torch

from sktransfer.cache.disk import folder_store
from sktransfer.cache.lmdb import namespace_path
from sktransfer.cache.merge import merge
from sktransfer.cache.resolve import resolve_shared
from sktransfer.cache.types import CacheNamespace
from sktransfer.exceptions import InvalidParameterError, StoreError, StoreWarning
from tests.cache.test_faults import key, value

NAMESPACE = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")
OTHER = CacheNamespace(b"\1" * 16, "tiny/cnn", "top", "", "float16")


def place(name, tmp_path):
    return f"file://{tmp_path}/{name}" if name.startswith("url") else str(tmp_path / name)


def store_of(name):
    if "://" in name:
        return resolve_shared(name)
    from pathlib import Path

    return folder_store(Path(name), 10**8)


def fill(name, numbers, namespace=NAMESPACE):
    store = store_of(name)
    store.put(namespace, [key(n) for n in numbers], [value(n) for n in numbers])
    store.flush()


def content(name, namespace=NAMESPACE, numbers=range(700)):
    store, keys = store_of(name), [key(n) for n in numbers]
    entries = store.fetch(namespace, keys) if "://" in name else dict(zip(keys, store.get(namespace, keys)))
    found = [n for n in numbers if entries.get(key(n)) is not None]
    assert all(torch.equal(entries[key(n)], value(n)) for n in found)
    return found


@pytest.mark.parametrize("target", ["folder", "url"])
def test_merge_joins_folders_and_urls(target, tmp_path):
    target, *sources = (place(name, tmp_path) for name in (target, "one", "url two", "three"))
    fill(sources[0], range(300))
    fill(sources[0], range(5), OTHER)
    fill(sources[1].replace(" ", ""), range(200, 400))
    fill(sources[2], range(600, 610))
    fill(target, range(395, 405))
    sources[1] = sources[1].replace(" ", "")
    assert merge(target, sources) == dict(zip(sources, (305, 200, 10)))
    assert content(target) == [*range(405), *range(600, 610)]
    assert content(target, OTHER) == list(range(5))
    assert content(sources[0]) == list(range(300))  # as it was


def test_merge_packs_small_segments(tmp_path):
    source, target = place("url1", tmp_path), place("url2", tmp_path)
    for number in range(6):
        fill(source, [number])
    merge(target, [source])
    assert [one.n_entries for one in store_of(source).segments()] == [1] * 6
    assert [one.n_entries for one in store_of(target).segments()] == [6]


def test_merge_twice_adds_nothing(tmp_path):
    fill(place("one", tmp_path), range(10))
    for _ in range(2):
        merge(place("url", tmp_path), [place("one", tmp_path)])
    assert len(store_of(place("url", tmp_path)).segments()) == 1


@pytest.mark.parametrize("name", ["one", "url"])
def test_merge_into_itself_is_refused(name, tmp_path):
    fill(place(name, tmp_path), range(3))
    with pytest.raises(InvalidParameterError, match="cannot be merged into itself"):
        merge(place(name, tmp_path), [place(name, tmp_path)])


def test_merge_of_a_source_without_entries_writes_nothing(tmp_path):
    fill(place("one", tmp_path), range(3))
    for empty in ("two", "url"):
        with pytest.raises(StoreError, match="holds no cache entries"):
            merge(place("urltarget", tmp_path), [place("one", tmp_path), place(empty, tmp_path)])
    assert store_of(place("urltarget", tmp_path)).segments() == []


def test_merge_names_damaged_segments_and_takes_the_others(tmp_path):
    source, target = place("urlsource", tmp_path), place("target", tmp_path)
    for numbers in (range(5), range(5, 8)):
        fill(source, numbers)
    damaged = next(one for one in (tmp_path / "urlsource").rglob("5-*"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.warns(StoreWarning, match=damaged.name):
        assert merge(target, [source]) == {source: 3}
    assert content(target) == [5, 6, 7]


def test_merge_of_a_damaged_folder_is_an_error(tmp_path):
    fill(place("one", tmp_path), range(3))
    store_of(place("one", tmp_path))._environment(NAMESPACE).close()
    (namespace_path(tmp_path / "one", NAMESPACE) / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="cannot be read"):
        merge(place("url", tmp_path), [place("one", tmp_path)])
