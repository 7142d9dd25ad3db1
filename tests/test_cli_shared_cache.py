"""The command `sktransfer cache` for URLs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from sktransfer.cache.resolve import resolve_shared
from sktransfer.cli import main
from tests.cache.test_merge import NAMESPACE, OTHER, content, fill
from tests.helpers.plugin_zoo import python
from tests.test_cli import rows_of


@pytest.fixture
def url(tmp_path):
    """URL with 5 entries in each of two namespaces, written 20 days ago and now."""
    url = f"file://{tmp_path}/shared"
    for namespace, days in ((NAMESPACE, 20), (OTHER, 0)):
        fill(url, range(5), namespace)
        for file in (tmp_path / "shared").rglob(f"*{namespace.digest.hex()}/5-*"):
            os.utime(file, times=(time.time() - days * 86400,) * 2)
    return url


def left(url):
    return [info.namespace.stage for info in resolve_shared(url).namespaces()]


def test_cache_prints_the_namespaces_of_a_url(url, capsys):
    assert main(["cache", url]) == 0
    output = capsys.readouterr()
    header, *rows = rows_of(output.out)
    assert header == ["backbone", "stage", "pooling", "dtype", "values", "bytes", "last written"]
    assert [(row[0], row[1]) for row in rows] == [("tiny/cnn", "top"), ("tiny/cnn", "stem")]
    assert "in 2 columns; 2 segments" in output.err


def test_cache_json_of_a_url(url, capsys):
    assert main(["cache", url, "--json", "--prune", "10"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["url"], output["segments"]) == (url, 1)
    assert [(row["stage"], row["values"]) for row in output["columns"]] == [("top", 5)]
    assert "last written" in output["columns"][0]
    (forgotten,) = output["forgotten"]
    assert (forgotten["values"], Path(forgotten["segment"]).suffix) == (5, ".safetensors")


@pytest.mark.parametrize(
    ("arguments", "remain"),
    [
        (["--clear"], []),
        (["--prune", "10"], ["top"]),
        (["--prune", "10 days"], ["top"]),
        (["--older-than", "10"], ["top"]),
        (["--prune", "30"], ["top", "stem"]),
        (["--older-than", "0"], []),
    ],
)
def test_cache_clear_and_prune_of_a_url_delete_segments(arguments, remain, url, capsys):
    assert main(["cache", url, *arguments]) == 0
    assert [row[1] for row in rows_of(capsys.readouterr().out)[1:]] == remain
    assert left(url) == remain


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prune", "2 GB"], "--prune='2 GB' must be a number of days below a URL"),
        (["--older-than", "-1"], "--older-than=-1.0 must be a number of days"),
    ],
)
def test_cache_with_invalid_prune_of_a_url_deletes_nothing(arguments, says, url, capsys):
    assert main(["cache", url, *arguments]) == 2
    assert says in capsys.readouterr().err
    assert len(left(url)) == 2


def test_cache_of_a_url_that_cannot_be_used(tmp_path, capsys):
    (tmp_path / "file").touch()
    for url, says in (
        (f"file://{tmp_path}/none", "holds no cache entries"),
        (f"file://{tmp_path}/file", "cannot be used"),
        ("s3://key:hunter2@bucket", "holds credentials"),
    ):
        assert main(["cache", url]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert "hunter2" not in error


def test_cache_of_the_folder_of_a_url_names_the_url(url, tmp_path, capsys):
    assert main(["cache", f"{tmp_path}/shared"]) == 2
    assert f"holds no cache entries. It holds those of a URL, so give {url}" in capsys.readouterr().err


def test_cache_of_memory_is_refused(capsys):
    assert main(["cache", "memory"]) == 2
    assert "'memory' is a cache within one process. Give a folder or a URL" in capsys.readouterr().err


def test_cache_merge_joins_folders_of_workers(url, tmp_path, capsys):
    workers = [str(tmp_path / name) for name in ("one", "two")]
    fill(workers[0], range(3, 30))
    fill(workers[1], range(25, 60))
    assert main(["cache", url, "--merge", *workers]) == 0
    output = capsys.readouterr()
    assert f"merged: 27 values of {workers[0]}" in output.err
    assert f"merged: 35 values of {workers[1]}" in output.err
    assert content(url) == list(range(60))
    assert main(["cache", str(tmp_path / "all"), "--merge", url, workers[1]]) == 0
    assert content(str(tmp_path / "all")) == list(range(60))


def test_cache_merge_with_a_damaged_segment_has_status_1(url, tmp_path, capsys):
    file = next((tmp_path / "shared").rglob(f"*{OTHER.digest.hex()}/5-*"))
    file.write_bytes(file.read_bytes()[:-3])
    assert main(["cache", str(tmp_path / "all"), "--merge", url]) == 1
    assert f"warning: segment {file} is not used" in capsys.readouterr().err
    assert content(str(tmp_path / "all")) == list(range(5))


@pytest.mark.process
@pytest.mark.parametrize("arguments", [[], ["--prune", "10"], ["--clear"]])
def test_cache_of_a_url_does_not_import_torch(arguments, url):
    code = f"import sys; from sktransfer.cli import main; main({['cache', url, *arguments]!r}); "
    code += "print(sorted({'torch', 'numpy', 'pandas', 'sklearn', 'lmdb'} & set(sys.modules)))"
    assert python("-c", code).stdout.splitlines()[-1] == "[]"
