"""The benchmark of a GPU, in tiny sizes on the CPU."""

from __future__ import annotations

import json

import pytest

from benchmarks.speed import gpu
from tests.helpers.simulated_cuda import CAN_SIMULATE


@pytest.fixture(autouse=True)
def _results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_gpu_runs_its_parts_on_the_cpu(tmp_path, capsys):
    gpu.main(["equality", "epoch", "boundary", "batches", "busy", "files", "memory"])
    rows = json.loads((tmp_path / "results" / "gpu.json").read_text())["rows"]
    assert [row["what"].partition(":")[0] for row in rows[:3]] == ["tiny/cnn", "tiny/bert", "tiny/cnn"]
    assert all(row["reached"] == 0 for row in rows[:2])  # the device is the CPU itself
    assert all(row["scores"][0] > 0 for row in rows[2:])
    assert "no time left" not in capsys.readouterr().out


@pytest.mark.skipif(not (gpu.on_gpu() or CAN_SIMULATE), reason="this version of torch is too old to simulate a GPU")
def test_gpu_compares_flows_on_a_simulated_device(tmp_path, monkeypatch):
    some = ("a frozen pass over images, all layers", "fine-tuning on images")
    monkeypatch.setattr(gpu, "FLOWS", {name: gpu.FLOWS[name] for name in some})
    gpu.main(["flows"])
    rows = json.loads((tmp_path / "results" / "gpu.json").read_text())["rows"]
    assert [(row["what"], row["kept"], row["left"]) for row in rows] == [
        (f"{name} ({'real' if gpu.on_gpu() else 'simulated'}): largest difference", True, 0) for name in some
    ]
    if not gpu.on_gpu():
        assert [row["waits"] for row in rows] == [1, 0.25]  # per batch, and per epoch of four batches


def test_gpu_leaves_out_parts_without_time(capsys):
    gpu.main(["equality", "files", "--seconds", "0"])
    assert capsys.readouterr().out.count("no time left") == 2
