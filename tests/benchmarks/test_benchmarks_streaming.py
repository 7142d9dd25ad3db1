"""Benchmarks of `featurize`: kills and resumption, rates."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.speed import scale, streaming


@pytest.mark.process
def test_kill_often_and_resume_give_the_same_files(tmp_path):
    streaming.stream(3000, tmp_path / "whole")
    n_parts = streaming.kill_often(3000, tmp_path / "killed", n_kills=2, most=0.1)
    assert len(n_parts) <= 2
    streaming.stream(3000, tmp_path / "killed")
    assert streaming.digest(tmp_path / "killed") == streaming.digest(tmp_path / "whole")
    (tmp_path / "killed" / "part-00000000.parquet").write_bytes(b"")
    assert streaming.digest(tmp_path / "killed") != streaming.digest(tmp_path / "whole")


def test_cost_and_compare_measure_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "RESULTS", tmp_path)
    (tmp_path / "scale").mkdir()
    name = "WordEmbedder, two words"
    found = scale.cost(name, 2000)
    assert found["n_features"] == 100
    assert found["bytes"] > 2000 * 100 * 3
    assert scale.compare(name, 2000)["seconds"] > 0


def test_image_chunks_have_the_size():
    chunks = list(scale.image_chunks(8)(200))
    assert [chunk.shape for chunk in chunks] == [(100, 8, 8, 3)] * 2
    assert not np.array_equal(*chunks)
