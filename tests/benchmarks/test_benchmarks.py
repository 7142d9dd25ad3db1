"""Parts of the benchmarks: reports and their picture, alternating programs, the bound by operations."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import common, picture, run
from benchmarks.speed import memory, timing
from benchmarks.speed.freeze_depth_search import bound
from benchmarks.speed.grid_search import count, counted, search
from sktransfer import TextFeaturizer, load_backbone

ROOT = Path(__file__).parents[2]
TEXTS = [f"{i} good reasons to see this {'film' if i % 2 else 'play'} again" for i in range(20)]


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    return tmp_path


def test_report_judges_the_median_ratio(results, capsys):
    report = common.Report("how fast?", "speed")
    report.judge("reached", [1.0, 1.4, 9.0], must=1.3, aim=1.6, peer="another")
    report.judge("short", [1.0, 1.2, 9.0], must=1.3)
    report.judge("small enough", [1.1], must=1.15, at_most=True)
    report.judge("too much", [1.2], must=1.15, at_most=True)
    report.row("for comparison", [0.5, 0.7])
    report.write()
    rows = json.loads((results / "speed.json").read_text())["rows"]
    assert [row.get("kept") for row in rows] == [True, False, True, False, None]
    assert rows[0]["reached"] == 1.4
    assert rows[0]["peer"] == "another"
    printed = capsys.readouterr().out
    assert "1.4x  reached (at least 1.3, aim 1.6)  peer=another" in printed
    assert "1.2x  SHORT (at most 1.15)" in printed


def test_collect_and_draw_all_reports(results):
    for name, ratio in (("first", 2.0), ("second", 0.5)):
        report = common.Report("?", name)
        report.judge("ratio", [ratio], must=1.0, aim=1.5)
        report.row("beside", [1.0])
        report.write()
    content = run.collect(["first", "second", "never_written"], {"first": 3.0})
    assert list(content["questions"]) == ["first", "second"]
    assert content["questions"]["first"]["wall_seconds"] == 3.0
    rows = run.judged(content)
    assert [(row["question"], row["kept"]) for row in rows] == [("first", True), ("second", False)]
    picture.draw(rows, results / "benchmarks.png")
    colours = {pixel for _, pixel in Image.open(results / "benchmarks.png").convert("RGB").getcolors(10**6)}
    assert {(0x2A, 0x7F, 0x62), (0xC0, 0x56, 0x3B)} <= colours  # one bar of each kind


def test_progress_is_positive_beyond_the_mark():
    speed, size = {"must": 2.0, "at_most": False}, {"must": 1.0, "at_most": True}
    assert picture.progress(speed, 4.0) == picture.progress(size, 0.5) == 1.0
    assert picture.progress(speed, 1.0) == picture.progress(size, 2.0) == -1.0


@pytest.mark.process
def test_run_refuses_an_unknown_question():
    command = [sys.executable, "-m", "benchmarks.run", "nonsense"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "second_process" in done.stderr


def test_every_question_has_a_file():
    for folder, questions in (("speed", run.SPEED), ("accuracy", run.ACCURACY)):
        assert not [name for name in questions if not (ROOT / "benchmarks" / folder / f"{name}.py").is_file()]


def test_in_turn_alternates_the_order():
    calls = []
    programs = {name: lambda name=name: (calls.append(name), time.sleep(0.01 * len(name))) for name in ("a", "bb")}
    taken = timing.in_turn(programs, 2, lambda: calls.append("-"), each_round=lambda: calls.append("round"))
    assert calls == ["round", "-", "a", "-", "bb", "round", "-", "bb", "-", "a"]
    assert all(slow > fast for fast, slow in zip(taken["a"], taken["bb"]))
    assert timing.ratios([4.0, 1.0], [2.0, 4.0]) == [2.0, 0.25]
    assert timing.fastest(programs) == "a"


def test_filled_rate_restores_the_number_of_threads():
    before = torch.get_num_threads()
    seen = []

    def work():
        seen.append(torch.get_num_threads())
        time.sleep(0.01)
        return 2

    with timing.threads(before + 1):
        rate = timing.filled_rate(work, least=0.1)
        assert torch.get_num_threads() == before + 1
        assert 0.3 * 200 * timing.n_cores() < rate <= 200 * timing.n_cores()
    assert set(seen) == {1}
    assert torch.get_num_threads() == before
    assert timing.product_rate(torch.float32, (64, 64, 64), least=0.05) > 1e6


def test_bound_of_equal_layers():
    layers = [0.0, *[1.0] * 6]  # embeddings cost next to nothing
    assert bound(layers, [7, 6, 5, 4]) == pytest.approx(2.0)
    assert bound(layers, [7, 6]) == pytest.approx(152 / 37)
    assert bound(layers, [7], n_rates=4) == pytest.approx(44.0)


def test_count_of_samples_through_the_backbone():
    y = [i % 2 for i in range(20)]
    featurizer = TextFeaturizer(load_backbone("tiny/bert"))
    assert count(featurizer, TEXTS, y) == 20
    assert count(featurizer.set_params(cache=None), TEXTS, y) >= 51 * 20
    with counted(featurizer.fit(TEXTS[:1]).backbone) as n:
        featurizer.transform(TEXTS[:7])
    assert n() == 7
    featurizer.transform(TEXTS[:7])
    assert n() == 7  # what comes later is not counted
    assert len(search(featurizer).param_grid["clf__C"]) == 10


def test_peak_memory_of_a_process(tmp_path):
    memory.write_images(tmp_path, 70, different=8)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 8
    found = memory.peak(tmp_path, 70, "")
    assert found["output"] < 1e6 < 5e7 < found["peak"] < 5e9
