from __future__ import annotations

import json
import time

import pytest
import torch

from sktransfer.cache.disk import DiskStore
from sktransfer.cache.lmdb import list_namespaces, namespace_path
from sktransfer.cli import main
from tests.cache.test_disk import keep
from tests.cache.test_lmdb import MIDDLE, NEW, OLD, disk_usage, use_before
from tests.helpers.plugin_zoo import python
from tests.test_cli import rows_of

KEYS = [n.to_bytes(20, "big") for n in range(50)]


@pytest.fixture
def folder(tmp_path):
    """A folder with 50 entries in each of three namespaces, last used 30, 20 and 10 days ago."""
    store = DiskStore(tmp_path / "kept", 10**8)
    for days, namespace in ((30, OLD), (20, MIDDLE), (10, NEW)):
        keep(store, namespace, KEYS, [torch.zeros(1500) for _ in KEYS])
        use_before(tmp_path / "kept", namespace, days)
    return tmp_path / "kept"


def left(folder):
    return [info.namespace.backbone for info in list_namespaces(folder)]


def test_cache_prints_a_table_of_namespaces(folder, capsys):
    assert main(["cache", str(folder)]) == 0
    output = capsys.readouterr()
    header, *rows = rows_of(output.out)
    assert header == ["backbone", "stage", "pooling", "dtype", "values", "bytes", "last used"]
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - 10 * 86400))
    assert rows[0][:4] == ["tiny/2", "stage 2", "average", "float32"]
    assert rows[0][4:6] == ["50", "300.7 kB"]
    assert rows[0][6].startswith(day)
    assert [row[0] for row in rows] == ["tiny/2", "tiny/1", "tiny/0"]
    assert "902.1 kB in 3 columns; " in output.err
    assert left(folder) == ["tiny/2", "tiny/1", "tiny/0"]


def test_cache_clear_of_an_empty_folder(folder, capsys):
    for _ in range(2):
        assert main(["cache", str(folder), "--clear"]) == 0
        assert rows_of(capsys.readouterr().out)[1:] == []
    assert main(["cache", str(folder)]) == 2


def test_cache_json(folder, capsys):
    assert main(["cache", str(folder), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert list(output) == ["folder", "on_disk", "columns", "forgotten"]
    assert output["folder"] == str(folder)
    assert output["on_disk"] == disk_usage(folder)
    assert [(row["backbone"], row["values"], row["bytes"]) for row in output["columns"]] == [
        (f"tiny/{n}", 50, 300_700) for n in (2, 1, 0)
    ]
    assert output["forgotten"] == []


@pytest.mark.parametrize(
    ("arguments", "remain"),
    [
        (["--clear"], []),
        (["--prune", "700 kB"], ["tiny/2", "tiny/1"]),
        (["--prune", "350000 bytes"], ["tiny/2"]),
        (["--prune", "1GB"], ["tiny/2", "tiny/1", "tiny/0"]),
        (["--older-than", "15"], ["tiny/2"]),
        (["--older-than", "0"], []),
        (["--older-than", "40.5"], ["tiny/2", "tiny/1", "tiny/0"]),
    ],
)
def test_cache_clear_prune_and_older_than_delete_namespaces(arguments, remain, folder, capsys):
    assert main(["cache", str(folder), *arguments]) == 0
    output = capsys.readouterr()
    assert [row[0] for row in rows_of(output.out)[1:]] == remain
    if "--clear" not in arguments:
        assert output.err.count("forgotten: tiny/") == 3 - len(remain)
    assert left(folder) == remain
    assert disk_usage(folder) < 60_000 + 450_000 * len(remain)


def test_cache_json_lists_forgotten_namespaces(folder, capsys):
    assert main(["cache", str(folder), "--json", "--older-than", "15"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert [row["backbone"] for row in output["columns"]] == ["tiny/2"]
    assert {row["backbone"] for row in output["forgotten"]} == {"tiny/0", "tiny/1"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prune", "much"], "--prune='much' must be a number of bytes"),
        (["--prune", "0"], "--prune='0' must be"),
        (["--prune", "30"], "--prune='30' must have a unit in a folder, as in '2 GB' or '30 bytes'"),
        (["--older-than", "-1"], "--older-than=-1.0 must be a number of days"),
        (["--older-than", "nan"], "--older-than=nan must be a number of days"),
    ],
)
def test_cache_with_invalid_prune_or_older_than_deletes_nothing(arguments, says, folder, capsys):
    assert main(["cache", str(folder), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert len(left(folder)) == 3


def test_cache_clear_and_prune_exclude_each_other(folder, capsys):
    with pytest.raises(SystemExit):
        main(["cache", str(folder), "--clear", "--prune", "1GB"])
    assert "not allowed with" in capsys.readouterr().err
    assert len(left(folder)) == 3


@pytest.mark.parametrize("act", [[], ["--clear"], ["--prune", "1GB"]])
def test_cache_of_a_folder_without_a_store_is_an_error(act, tmp_path, capsys):
    for folder in (tmp_path / "missing", *([] if act == ["--clear"] else [tmp_path])):
        assert main(["cache", str(folder), *act]) == 2
        assert "holds no cache entries" in capsys.readouterr().err
    assert act != ["--clear"] or main(["cache", str(tmp_path), *act]) == 0
    assert list(tmp_path.iterdir()) == []


def test_cache_prints_folders_of_other_layouts(folder, capsys):
    (folder / "sktransfer-store-9").mkdir()
    assert main(["cache", str(folder), "--clear"]) == 0
    assert "of another version: " in capsys.readouterr().err
    assert (folder / "sktransfer-store-9").is_dir()


def test_cache_clear_deletes_a_damaged_store(folder, capsys):
    (namespace_path(folder, NEW) / "data.mdb").write_bytes(b"no database" * 1000)
    for arguments in ([], ["--prune", "1GB"]):
        assert main(["cache", str(folder), *arguments]) == 2
        error = capsys.readouterr().err
        assert "cannot be read or changed" in error
        assert "--clear deletes all entries" in error
    assert main(["cache", str(folder), "--clear"]) == 0
    assert left(folder) == []


@pytest.mark.process
@pytest.mark.parametrize("arguments", [[], ["--json"], ["--prune", "700 kB"], ["--clear"]])
def test_cache_does_not_import_torch(arguments, folder):
    code = f"import sys; from sktransfer.cli import main; main({['cache', str(folder), *arguments]!r}); "
    code += "print(sorted({'torch', 'numpy', 'pandas', 'sklearn', 'transformers'} & set(sys.modules)))"
    assert python("-c", code).stdout.splitlines()[-1] == "[]"
