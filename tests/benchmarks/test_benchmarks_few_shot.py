"""The few-shot benchmark: draws, stored scores, and the table."""

from __future__ import annotations

import json
import sys

import numpy as np

from benchmarks.accuracy import few_shot
from sktransfer.testing.samples import make_samples

TEXTS, LABELS = make_samples("text", 60)
DATA = np.array([*TEXTS, *TEXTS[:5]], dtype=object), np.array([*LABELS, *LABELS[:5]]) == "good"  # five come twice


def test_draw_is_nested_balanced_and_disjoint_from_the_test():
    (X_test, _), pool = few_shot.split(DATA, 20)
    assert len(X_test) == len(set(X_test)) == 20
    assert len(pool[0]) == 40
    few, more = few_shot.draw(pool, 2, 0), few_shot.draw(pool, 4, 0)
    assert np.bincount(few[1]).tolist() == [2, 2]
    assert np.bincount(more[1]).tolist() == [4, 4]
    assert set(few[0]) < set(more[0])
    assert not set(more[0]) & set(X_test)
    assert set(few_shot.draw(pool, 4, 1)[0]) != set(more[0])


def test_notes_measure_once_per_settings(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return 0.5

    path = tmp_path / "new" / "draws.json"
    assert few_shot.Notes(path, "a").score(["MR", 2], measure)[0] == 0.5
    assert few_shot.Notes(path, "a").score(["MR", 2], measure)[0] == 0.5
    assert len(calls) == 1
    few_shot.Notes(path, "b").score(["MR", 2], measure)
    few_shot.Notes(path, "a").score(["MR", 4], measure)
    assert len(calls) == 3


def test_main_prints_a_row_per_method_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(few_shot, "TASKS", {"MR": lambda: DATA})
    monkeypatch.setattr(few_shot, "sentence_encoder", lambda: "tiny/bert")
    monkeypatch.setitem(few_shot.TRAINED, "max_epochs", 1)
    monkeypatch.setattr(sys, "argv", ["few_shot", "--draws", "2", "--shots", "2", "--test", "20"])
    few_shot.main()
    printed = capsys.readouterr().out
    assert len([line for line in printed.splitlines() if line.startswith("  MR, 2 labels per class")]) == 5
    rows = json.loads((tmp_path / "results" / "few_shot.json").read_text())["rows"]
    assert all(0 <= score <= 1 for row in rows for score in row["scores"])
    monkeypatch.setattr(few_shot, "one_draw", lambda *_: 1 / 0)  # all scores are stored
    few_shot.main()
    again = json.loads((tmp_path / "results" / "few_shot.json").read_text())["rows"]
    assert [row["scores"] for row in again] == [row["scores"] for row in rows]
