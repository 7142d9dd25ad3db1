"""Files that may change, and a cache that holds whole things only."""

from __future__ import annotations

import os

import pytest

from sktransfer.exceptions import WeightsError
from sktransfer.words.files import cache_folder, kept, source_of


def test_a_missing_file_says_what_may_be_given(tmp_path):
    with pytest.raises(WeightsError, match=r"no such file.*Did you mean 'fasttext'.*\.bin"):
        source_of("fastext")
    with pytest.raises(WeightsError, match="no such file"):
        source_of(tmp_path)


def test_a_file_that_changed_is_another_source(tmp_path):
    path = tmp_path / "a.vec"
    path.write_text("a 1 2\n")
    before = source_of(path)
    assert source_of(path) == before
    assert source_of(path).key(1) == before.key(1) != before.key(2)
    digest = before.digest()
    path.write_text("a 1 3\n")
    os.utime(path, ns=(before.modified + 1, before.modified + 1))
    assert source_of(path) != before
    assert source_of(path).digest() != digest
    with pytest.raises(WeightsError, match="has changed since its vectors were read"):
        before.digest()


def test_the_cache_stands_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "one"))
    assert cache_folder() == tmp_path / "one"
    monkeypatch.delenv("SKTRANSFER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "sktransfer"


def test_what_is_kept_is_made_once_and_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path))
    made = []

    def make(folder):
        made.append(folder)
        (folder / "x").write_text("done")

    def crash(folder):
        (folder / "x").write_text("half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        kept("key", crash)
    assert list((tmp_path / "vectors").iterdir()) == []
    assert (kept("key", make) / "x").read_text() == "done"
    kept("key", make)
    assert len(made) == 1


def test_of_two_that_make_the_same_the_first_wins(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path))

    def make(folder):
        (folder / "x").write_text("second")
        kept("key", lambda other: (other / "x").write_text("first"))

    assert (kept("key", make) / "x").read_text() == "first"
    assert [path.name for path in (tmp_path / "vectors").iterdir()] == ["key"]


def test_a_cache_that_cannot_be_written_is_an_error_that_names_the_way_out(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="SKTRANSFER_CACHE"):
        kept("key", lambda folder: None)
