from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sktransfer import FineTuneClassifier, TextFeaturizer, cache_info, clear_cache
from sktransfer.cache.levels import LayeredStore, layered_store
from sktransfer.cache.memory import MemoryStore
from sktransfer.cache.resolve import resolve_store, without_memory
from sktransfer.cache.shared import SharedStore, shared_store
from sktransfer.cache.types import CacheNamespace
from sktransfer.cache.urls import Location
from tests.cache.test_faults import features_elsewhere, key, value

NAMESPACE = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")
TEXTS = [f"film {n}, {'good' if n % 2 else 'bad'}" for n in range(30)]


@pytest.fixture
def url(tmp_path):
    return f"file://{tmp_path}/shared"


def machine(url, limit=10**8):
    """Return a store as another machine has it."""
    return LayeredStore(MemoryStore(limit), SharedStore(Location(url), refresh=0.0))


def keep(store, numbers):
    store.put(NAMESPACE, [key(n) for n in numbers], [value(n) for n in numbers])


def found(store, numbers, **options):
    values = store.get(NAMESPACE, [key(n) for n in numbers], **options)
    assert all(one is None or torch.equal(one, value(n)) for n, one in zip(numbers, values))
    return [n for n, one in zip(numbers, values) if one is not None]


def test_get_copies_segments_of_the_shared_level_to_the_local_one(url):
    first, second = machine(url), machine(url)
    keep(first, range(20))
    assert found(second, range(20)) == []
    first.flush()
    assert found(second, [3, 25]) == [3]
    assert found(second.local, range(20)) == list(range(20))
    n_read = second.shared.n_read
    assert found(second, range(20)) == list(range(20))
    assert second.shared.n_read == n_read


def test_get_offers_entries_of_the_local_level_to_the_shared_one(url):
    first = machine(url)
    keep(first.local, range(20))  # before there was a URL
    for number in range(20):
        assert found(first, [number, number + 20]) == [number]
    assert first.shared.n_written == 0
    first.flush()
    assert len(first.shared.segments()) == 1
    assert found(first, range(20)) == list(range(20))
    first.flush()
    assert found(machine(url), range(21)) == list(range(20))
    other = machine(url)
    keep(other.local, range(20))  # as in the shared level already
    found(other, range(20))
    other.flush()
    assert len(first.shared.segments()) == 1


def test_a_url_that_is_given_later_gets_what_a_folder_holds(url, tmp_path):
    folder = str(tmp_path / "local")
    TextFeaturizer("tiny/bert", cache=folder).fit_transform(TEXTS)
    TextFeaturizer("tiny/bert", cache=[folder, url]).fit_transform(TEXTS)
    store = shared_store(url)
    n_segments = len(store.segments())
    assert store.info().n_entries >= len(TEXTS)
    TextFeaturizer("tiny/bert", cache=[folder, url]).fit_transform(TEXTS)
    assert len(store.segments()) == n_segments <= 2


def test_get_where_the_local_level_is_too_small(url):
    first, second = machine(url), machine(url, limit=2000)
    keep(first, range(20))
    first.flush()
    assert found(second, range(20)) == list(range(20))
    for number in range(20):  # a segment is not read again for one value
        assert found(second, [number]) in ([number], [])
    assert second.shared.n_read < 3 * first.shared.n_written
    assert found(second, range(20)) == list(range(20))


def test_info_counts_both_levels_and_lookups_that_are_counted(url):
    first, second = machine(url), machine(url)
    keep(first, range(4))
    first.flush()
    found(second, range(6))
    found(second, range(6), counted=False)
    info = second.info()
    assert (info.hits, info.misses, info.n_entries) == (4, 2, 4)
    assert info.location == f"memory and {url}"
    assert (second.shared.hits, second.shared.misses) == (4, 2)
    assert second.room() == second.local.room()


def test_claim_and_release_are_those_of_the_local_level(url):
    store = machine(url)
    assert store.claim(NAMESPACE, [key(1), key(2)]) == [True, True]
    assert store.local.claim(NAMESPACE, [key(2), key(3)]) == [False, True]
    store.release(NAMESPACE, [key(2)])
    assert store.claim(NAMESPACE, [key(2)]) == [True]


def test_clear_deletes_both_levels(url):
    store = machine(url)
    keep(store, range(4))
    store.flush()
    store.clear()
    assert found(store, range(4)) == []
    assert store.shared.info().n_entries == 0


def test_resolve_store_of_a_url_and_of_a_list(url, tmp_path):
    alone, listed = resolve_store(url), resolve_store([tmp_path / "kept", url])
    assert alone.local is resolve_store("memory")
    assert listed.local is resolve_store(tmp_path / "kept")
    assert alone.shared is listed.shared is shared_store(url)
    assert resolve_store(["memory", url]) is alone is layered_store(resolve_store("memory"), shared_store(url))


def test_without_memory_leaves_a_bounded_part_of_the_shared_level_in_memory(url):
    with without_memory():
        assert resolve_store("memory") is None
        store = resolve_store(url)
    assert store.shared is shared_store(url)
    assert store.local is not resolve_store("memory")
    assert store.room() <= 128 * 1024**2


def test_cache_info_of_a_list_and_of_its_url(url, tmp_path):
    TextFeaturizer("tiny/bert", cache=[tmp_path / "kept", url]).fit_transform(TEXTS)
    both, shared, local = (cache_info(one) for one in ([tmp_path / "kept", url], url, tmp_path / "kept"))
    assert both.location == f"{tmp_path / 'kept'} and {url}"
    assert both.n_entries == shared.n_entries == local.n_entries >= len(TEXTS)
    assert (both.limit, shared.limit) == (local.limit, None)
    clear_cache([tmp_path / "kept", url])
    assert cache_info(url).n_entries == cache_info(tmp_path / "kept").n_entries == 0


@pytest.mark.parametrize("layer", [1, "auto"])
def test_transform_with_a_url_equals_that_without_a_cache(layer, url):
    y = np.arange(len(TEXTS)) % 2
    plain = TextFeaturizer("tiny/bert", layer=layer, cache=None).fit_transform(TEXTS, y)
    for _ in range(2):
        clear_cache()
        assert np.array_equal(TextFeaturizer("tiny/bert", layer=layer, cache=url).fit_transform(TEXTS, y), plain)
    assert cache_info(url).hits >= len(TEXTS)


def test_fit_writes_one_segment_per_namespace_at_its_end(url):
    clear_cache()
    y = np.arange(len(TEXTS)) % 2
    options = {"freeze_depth": 3, "max_epochs": 1, "lr": 1e-4, "random_state": 0}
    plain = FineTuneClassifier("tiny/bert", cache=None, **options).fit(TEXTS, y)
    tuned = FineTuneClassifier("tiny/bert", cache=url, **options).fit(TEXTS, y)
    segments = shared_store(url).segments()
    assert len({segment.digest for segment in segments}) == len(segments) > 0
    clear_cache()
    again = FineTuneClassifier("tiny/bert", cache=url, **options).fit(TEXTS, y)
    for one in (tuned, again):
        assert np.array_equal(one.predict_proba(TEXTS), plain.predict_proba(TEXTS))


@pytest.mark.process
@pytest.mark.loky
def test_cache_of_a_grid_search_in_processes(url):
    clear_cache()
    pipeline = make_pipeline(TextFeaturizer("tiny/bert", cache=url), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=3, n_jobs=2)
    scores = search.fit(TEXTS, np.arange(len(TEXTS)) % 2).cv_results_["mean_test_score"]
    pipeline.set_params(textfeaturizer__cache=None)
    search.set_params(n_jobs=1)
    assert np.array_equal(search.fit(TEXTS, np.arange(len(TEXTS)) % 2).cv_results_["mean_test_score"], scores)
    assert cache_info(url).hits > 0  # the refit found the values of the workers


@pytest.mark.process
def test_cache_of_two_machines_with_folders_of_their_own(url, tmp_path):
    assert features_elsewhere([str(tmp_path / "first"), url]) == ["equal"]
    before = cache_info(url)
    assert features_elsewhere([str(tmp_path / "second"), url]) == ["equal"]
    assert cache_info(url).n_bytes == before.n_bytes > 0  # the second machine has computed nothing
    assert cache_info(tmp_path / "first").n_entries > cache_info(tmp_path / "second").n_entries == 4
