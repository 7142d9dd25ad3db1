from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path

import fsspec
import pytest
from sklearn.base import clone

from sktransfer import ImageFeaturizer, cache_info, clear_cache, load, save
from sktransfer.cache.resolve import resolve_store
from sktransfer.cache.urls import Location, is_url, without_secrets
from sktransfer.exceptions import InvalidParameterError, StoreError
from tests.cache.test_faults import fork
from tests.cache.test_memory import status_of

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")

SECRET = "hunter2"


def test_is_url():
    given = ["memory://", "s3://b/run", "file:///mnt/run", "memory", "kept", "C:/run", Path("kept"), None, ["s3://b"]]
    assert [is_url(one) for one in given] == [True, True, True, *[False] * 6]


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("memory://run", "memory://run/"),
        ("memory://", "memory:///"),
        ("s3://bucket/run", "S3://bucket/run/"),
        ("file:///mnt/a/run", "file:///mnt/a/run/"),
    ],
)
def test_location_has_one_spelling(url, same):
    assert Location(url).url == Location(same).url


def test_location_path_is_below_the_url():
    assert Location("s3://bucket/run").path("a", "b") == "bucket/run/a/b"
    assert Location("memory://run").path("a") == "/run/a"


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{SECRET}@bucket/run",
        f"s3://{SECRET}@bucket/run",
        f"sftp://user:{SECRET}@host/run",
        f"az://container/run?sig={SECRET}",
        f"nosuch://user:{SECRET}@host/run",
    ],
)
def test_location_refuses_credentials_and_does_not_repeat_them(url):
    for call in (Location, cache_info, clear_cache, resolve_store, lambda url: resolve_store(["memory", url])):
        with pytest.raises(InvalidParameterError, match=r"\*\*\*.*holds credentials.*environment") as raised:
            call(url)
        assert SECRET not in str(raised.value)
    assert SECRET not in without_secrets(f"cannot reach {url}: denied")


def test_credentials_in_a_list_that_is_not_allowed_are_not_repeated():
    with pytest.raises(InvalidParameterError, match="must be 'memory'") as raised:
        resolve_store([f"s3://key:{SECRET}@bucket/run", "memory"])
    assert SECRET not in str(raised.value)


def test_credentials_of_the_environment_are_in_no_pickle_and_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("FSSPEC_MEMORY_SECRET", SECRET)
    featurizer = ImageFeaturizer(cache="memory://secrets")
    save(featurizer, tmp_path / "featurizer.skt")
    assert SECRET.encode() not in pickle.dumps(featurizer) + (tmp_path / "featurizer.skt").read_bytes()
    assert SECRET not in repr(featurizer)
    assert load(tmp_path / "featurizer.skt").cache == "memory"  # the URL belongs to the place where it was fitted
    assert load(tmp_path / "featurizer.skt", cache="memory://secrets").cache == "memory://secrets"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nosuch://bucket/run", "unknown scheme 'nosuch'"),
        ("https://host/run", "cannot be written.*AWS_ENDPOINT_URL_S3"),
        ("s3://", "names no bucket"),
        ("simplecache::s3://bucket/run", "must be a URL of one folder|must be 'memory'|unknown scheme"),
        ("file://", "names no folder"),
        ("file://mnt/run", "has a relative path.*'file:///mnt/run'"),
        ("local://run", "has a relative path"),
        ("memory://with space", "without spaces"),
        ("memory://run*", "without spaces"),
    ],
)
def test_location_refuses_other_urls(url, says, tmp_path, monkeypatch):
    if url.startswith("s3:"):
        pytest.importorskip("s3fs")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match=says):
        Location(url)


def test_location_names_a_missing_package():
    fsspec.register_implementation("nopackage", "sktransfer_no_such_package.FileSystem", errtxt="", clobber=True)
    with pytest.raises(InvalidParameterError, match=r"needs the package .*: `pip install sktransfer_no_such_package"):
        resolve_store("nopackage://bucket/run")


@pytest.mark.parametrize(
    "cache", [["memory"], ["s3://b/a", "s3://b/c"], ["a", "b", "memory://"], ["memory", "kept"], []]
)
def test_resolve_store_refuses_other_lists(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match=r"cache=.* must be 'memory', a folder"):
        resolve_store(cache)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cache", "says"),
    [
        ("s3:/bucket/run", "two slashes after its scheme, so give the string 's3://bucket/run'"),
        ("file:/mnt/run", "give the string 'file:///mnt/run'"),
        (Path("file:///mnt/run"), "A Path is no URL, so give the string 'file:///mnt/run'"),
        (f"s3:/key:{SECRET}@bucket/run", r"\*\*\*@bucket/run"),
    ],
)
def test_resolve_store_refuses_a_url_with_one_slash(cache, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match=says) as raised:
        resolve_store(cache)
    assert SECRET not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_resolve_store_tells_that_a_path_is_no_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match="give the string 's3://bucket/run'"):
        resolve_store(Path("s3://bucket/run"))
    assert list(tmp_path.iterdir()) == []


def test_check_fails_for_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be used: NotADirectoryError.*file is a file"):
        cache_info(f"file://{tmp_path}/file/run")


def test_check_fails_for_a_folder_that_cannot_be_created():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)

        def act():
            if os.getuid() == 0:
                os.setuid(65534)  # root may do anything
            with pytest.raises(StoreError, match="cannot be used: PermissionError: no permission for"):
                cache_info(f"file://{folder}/run")

        assert status_of(fork(act)) == 0


def test_cache_url_that_cannot_be_used_fails_before_anything_is_computed(tmp_path):
    (tmp_path / "file").touch()
    featurizer = ImageFeaturizer(cache=f"file://{tmp_path}/file")
    with pytest.raises(StoreError, match="cannot be used"):
        featurizer.fit([[0.0] * 64])
    assert not hasattr(featurizer, "backbone_")


def test_clone_keeps_urls_and_lists():
    for cache in ("memory://run", ["kept", "memory://run"]):
        assert clone(ImageFeaturizer(cache=cache)).cache == cache
