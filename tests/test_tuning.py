"""The command `sktransfer tune`."""

from __future__ import annotations

import json

import pytest
import torch

from sktransfer.backbones.loading import load_backbone
from sktransfer.cli import main
from sktransfer.engine.compute import Compute
from sktransfer.machine.tuned import find_choices, forget, path_of


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path))
    forget()
    yield tmp_path
    forget()


@pytest.mark.parametrize("name", ["tiny/bert", "tiny/cnn"])
def test_tune_measures_and_is_listed(name, capsys):
    assert main(["tune", name, "--seconds", "0.2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["backbone"] == name
    assert [path.name for path in path_of(name).parent.iterdir()] == [path_of(name).name]
    assert set(record["choices"]) <= {"float32", "bfloat16", "float16"}
    choice = find_choices(load_backbone(name))["float32"]
    assert choice.per_second > 0
    assert choice.gain >= 1
    assert Compute(torch.device("cpu")).tuned_for(load_backbone(name)).tuned == choice

    assert main(["tune", "--list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["backbone"], row["used"]) == (name, "yes")


def test_tune_list_names_ignored_and_damaged_records(capsys):
    assert main(["tune", "tiny/cnn", "--seconds", "0.1"]) == 0
    assert "float32" in capsys.readouterr().out
    path = path_of("tiny/cnn")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "structure": "f" * 32}))
    path_of("none/at_all").write_text(json.dumps({**content, "backbone": "none/at_all"}))
    path_of("tiny/bert").write_text("{")
    assert main(["tune", "--list"]) == 0
    table = capsys.readouterr().out
    assert "ignored: the network of this name has changed" in table
    assert "ignored: the backbone cannot be loaded" in table
    assert "is damaged and not used" in table
    assert main(["tune", "--forget"]) == 0
    assert capsys.readouterr().out == "forgotten: 3\n"
    assert main(["tune", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_tune_checks_that_it_can_write_before_it_measures(folder, monkeypatch, capsys):
    load_backbone("tiny/cnn").copies.clear()
    (folder / "file").write_text("")
    monkeypatch.setenv("SKTRANSFER_CACHE", str(folder / "file"))
    assert main(["tune", "tiny/cnn", "--seconds", "0.1"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert not load_backbone("tiny/cnn").copies  # of a network that has run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a backbone"),
        (["tiny/nothing"], "tiny/nothing"),
        (["tiny/cnn", "--seconds", "0"], "seconds=0.0"),
        (["tiny/cnn", "--forget"], "'tiny/cnn' is not tuned"),
    ],
)
def test_tune_rejects(arguments, message, capsys):
    assert main(["tune", *arguments]) == 2
    assert message in capsys.readouterr().err
