from __future__ import annotations

import json
import os
import time

import pytest
import torch

from sktransfer.cache.disk_columns import list_columns
from sktransfer.cache.disk_store import DiskStore
from sktransfer.cli import main
from tests.cache.test_disk_columns import MIDDLE, NEW, OLD
from tests.cache.test_disk_store import keep
from tests.helpers.plugin_zoo import python
from tests.test_cli import rows_of

KEYS = [n.to_bytes(20, "big") for n in range(50)]


@pytest.fixture
def folder(tmp_path):
    """A folder with 50 values in each of three columns, used 30, 20 and 10 days ago."""
    store = DiskStore(tmp_path / "kept", 10**8)
    for days, column in ((30, OLD), (20, MIDDLE), (10, NEW)):
        keep(store, column, KEYS, [torch.zeros(1500) for _ in KEYS])
        when = time.time() - days * 86400
        os.utime(store._environment.layout / "used" / column.digest.hex(), (when, when))
    store._environment.close()
    return tmp_path / "kept"


def left(folder):
    store = DiskStore(folder, 10**8)
    found = [one.column.backbone for one in list_columns(store._environment)]
    store._environment.close()
    return found


def test_a_table_shows_what_is_kept(folder, capsys):
    assert main(["cache", str(folder)]) == 0
    told = capsys.readouterr()
    header, *rows = rows_of(told.out)
    assert header == ["backbone", "stage", "pooling", "dtype", "values", "bytes", "last used"]
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - 10 * 86400))
    assert rows[0][:4] == ["tiny/2", "stage 2", "average", "float32"]
    assert rows[0][4:6] == ["50", "300.7 kB"]
    assert rows[0][6].startswith(day)
    assert [row[0] for row in rows] == ["tiny/2", "tiny/1", "tiny/0"]
    assert "902.1 kB in 3 columns; " in told.err
    assert left(folder) == ["tiny/2", "tiny/1", "tiny/0"]


def test_the_same_as_json(folder, capsys):
    assert main(["cache", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["folder", "on_disk", "columns", "forgotten"]
    assert told["folder"] == str(folder)
    assert told["on_disk"] == (folder / "sktransfer-store-1" / "lmdb" / "data.mdb").stat().st_size
    assert [(one["backbone"], one["values"], one["bytes"]) for one in told["columns"]] == [
        (f"tiny/{n}", 50, 300_700) for n in (2, 1, 0)
    ]
    assert told["forgotten"] == []


@pytest.mark.parametrize(
    ("arguments", "remain"),
    [
        (["--clear"], []),
        (["--prune", "700 kB"], ["tiny/2", "tiny/1"]),
        (["--prune", "350000"], ["tiny/2"]),
        (["--prune", "1GB"], ["tiny/2", "tiny/1", "tiny/0"]),
        (["--older-than", "15"], ["tiny/2"]),
        (["--older-than", "0"], []),
        (["--older-than", "40.5"], ["tiny/2", "tiny/1", "tiny/0"]),
    ],
)
def test_what_is_to_go_goes_and_its_space_is_given_back(arguments, remain, folder, capsys):
    assert main(["cache", str(folder), *arguments]) == 0
    told = capsys.readouterr()
    assert [row[0] for row in rows_of(told.out)[1:]] == remain
    if "--clear" not in arguments:
        assert told.err.count("forgotten: tiny/") == 3 - len(remain)
    assert left(folder) == remain
    data = folder / "sktransfer-store-1" / "lmdb" / "data.mdb"
    assert data.stat().st_size < 60_000 + 450_000 * len(remain)


def test_what_went_is_in_the_json(folder, capsys):
    assert main(["cache", str(folder), "--json", "--older-than", "15"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["backbone"] for one in told["columns"]] == ["tiny/2"]
    assert {one["backbone"] for one in told["forgotten"]} == {"tiny/0", "tiny/1"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prune", "much"], "--prune='much' must be a number of bytes"),
        (["--prune", "0"], "--prune='0' must be"),
        (["--older-than", "-1"], "--older-than=-1.0 must be a number of days"),
        (["--older-than", "nan"], "--older-than=nan must be a number of days"),
    ],
)
def test_what_is_not_allowed_is_told_and_nothing_goes(arguments, says, folder, capsys):
    assert main(["cache", str(folder), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert len(left(folder)) == 3


def test_only_one_thing_at_once(folder, capsys):
    with pytest.raises(SystemExit):
        main(["cache", str(folder), "--clear", "--prune", "1GB"])
    assert "not allowed with" in capsys.readouterr().err
    assert len(left(folder)) == 3


@pytest.mark.parametrize("act", [[], ["--clear"], ["--prune", "1GB"]])
def test_a_folder_without_a_store_is_an_error_and_stays_as_it_is(act, tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "missing"):
        assert main(["cache", str(folder), *act]) == 2
        assert "keeps nothing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_other_versions_are_told_of(folder, capsys):
    (folder / "sktransfer-store-9").mkdir()
    assert main(["cache", str(folder), "--clear"]) == 0
    assert "of another version: " in capsys.readouterr().err
    assert (folder / "sktransfer-store-9").is_dir()


def test_a_damaged_store_is_told_of_and_can_be_cleared(folder, capsys):
    (folder / "sktransfer-store-1" / "lmdb" / "data.mdb").write_bytes(b"no database" * 1000)
    for arguments in ([], ["--prune", "1GB"]):
        assert main(["cache", str(folder), *arguments]) == 2
        error = capsys.readouterr().err
        assert "cannot be read or changed" in error
        assert "--clear begins anew" in error
    assert main(["cache", str(folder), "--clear"]) == 0
    assert left(folder) == []


@pytest.mark.process
@pytest.mark.parametrize("arguments", [[], ["--json"], ["--prune", "700 kB"], ["--clear"]])
def test_nothing_heavy_is_imported(arguments, folder):
    code = f"import sys; from sktransfer.cli import main; main({['cache', str(folder), *arguments]!r}); "
    code += "print(sorted({'torch', 'numpy', 'pandas', 'sklearn', 'transformers'} & set(sys.modules)))"
    assert python("-c", code).stdout.splitlines()[-1] == "[]"
