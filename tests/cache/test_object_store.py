"""A shared store in an object server with the interface of S3."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from benchmarks.speed.shared_cache import faults
from sktransfer import TextFeaturizer, cache_info, clear_cache
from sktransfer.cache.resolve import resolve_shared, resolve_store
from sktransfer.cache.segments import LAYOUT
from sktransfer.cache.shared import SharedStore
from sktransfer.cache.types import CacheNamespace
from sktransfer.cache.urls import Location
from sktransfer.exceptions import StoreError, StoreWarning
from tests.cache.test_faults import TEXTS, features_elsewhere, key, value
from tests.helpers.object_server import READER, bucket, object_store, use  # noqa: F401, fixtures

pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),  # of botocore
]
NAMESPACE = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")


def keep(store, numbers):
    store.put(NAMESPACE, [key(n) for n in numbers], [value(n) for n in numbers])
    store.flush()


def found(store, numbers):
    entries = store.fetch(NAMESPACE, [key(n) for n in numbers])
    assert all(torch.equal(entries[key(n)], value(n)) for n in numbers if key(n) in entries)
    return [n for n in numbers if key(n) in entries]


def test_fetch_put_prune_and_clear_in_a_bucket(bucket):  # noqa: F811
    store, other = (SharedStore(Location(bucket), refresh=0.0) for _ in range(2))
    assert found(other, range(5)) == []
    keep(store, range(1500))
    assert found(other, range(1490, 1510)) == list(range(1490, 1500))
    assert [one.namespace for one in other.namespaces()] == [NAMESPACE]
    assert other.namespaces()[0].used > 1e9
    assert other.prune(1) == []
    assert len(other.prune(0)) == len(set(store._segments[NAMESPACE.digest]))
    assert found(SharedStore(Location(bucket)), range(5)) == []
    keep(other, range(5))
    other.clear()
    assert store.segments() == []


def test_fetch_of_a_cut_object_is_named(bucket):  # noqa: F811
    store = SharedStore(Location(bucket))
    keep(store, range(5))
    (segment,) = store.segments()
    store.location.fs.pipe_file(segment.path, store.location.fs.cat_file(segment.path)[:-1])
    with pytest.warns(StoreWarning, match=f"segment {segment.path} is not used: it is cut or changed"):
        assert found(SharedStore(Location(bucket)), range(5)) == []


def test_cache_of_other_processes_in_a_bucket(bucket, tmp_path):  # noqa: F811
    plain = TextFeaturizer(cache=None).fit_transform(TEXTS)
    assert features_elsewhere(bucket) == ["equal"]
    n_bytes = cache_info(bucket).n_bytes
    assert np.array_equal(TextFeaturizer(cache=[tmp_path / "kept", bucket]).fit_transform(TEXTS), plain)
    info = cache_info(bucket)
    assert (info.hits, info.misses, info.n_bytes) == (len(TEXTS), 0, n_bytes)
    clear_cache(bucket)
    assert cache_info(bucket).n_entries == 0


def test_cache_of_a_reader_is_read_and_not_written(bucket, object_store, monkeypatch):  # noqa: F811
    keep(SharedStore(Location(bucket)), range(5))
    use(monkeypatch, object_store, READER)
    store = SharedStore(Location(bucket))
    store.check()
    assert found(store, range(8)) == list(range(5))
    with pytest.warns(StoreWarning, match="cannot be written .*PermissionError.*: going on without it"):
        keep(store, range(5, 8))
    assert len(store.segments()) == 1


@pytest.mark.parametrize("wrong", ["bucket", "key", "secret", "address"])
def test_cache_url_that_cannot_be_used_fails_at_once(wrong, bucket, object_store, monkeypatch):  # noqa: F811
    url, secret = bucket, "a secret that must not be shown"
    if wrong == "bucket":
        url = "s3://no-such-bucket/run"
    elif wrong == "key":
        use(monkeypatch, object_store, ("nobody", secret))
    elif wrong == "secret":
        use(monkeypatch, object_store, ("writer", secret))
    else:
        use(monkeypatch, "http://127.0.0.1:1", ("writer", secret))
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        url = "s3://another-bucket/run"
    for call in (resolve_store, resolve_shared, cache_info):
        with pytest.raises(StoreError, match=f"cache='{url}/?.*' cannot be used: ") as raised:
            call(f"{url}/{wrong}")
        assert secret not in str(raised.value)
        if wrong == "address":
            break  # the client tries several times
    assert LAYOUT not in str(raised.value)


def test_faults_in_a_bucket_are_none(bucket):  # noqa: F811
    """Two processes write and three read. One is killed at a random moment."""
    sums = faults(bucket, [random.Random(1).randrange(100)], n_values=1500)
    assert (sums["wrong"], sums["lost"], sums["failed"]) == (0, 0, 0)
    assert sums["written"] >= 1500
