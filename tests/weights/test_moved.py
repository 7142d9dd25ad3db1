from __future__ import annotations

import pytest

from sktransfer import config_context
from sktransfer.exceptions import WeightsError
from sktransfer.weights.moved import advice, is_path, iter_names, iter_paths


@pytest.fixture
def place(tmp_path):
    (tmp_path / "w.pt").touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    return tmp_path


@pytest.mark.parametrize("saved", ["/gone/w.pt", r"C:\gone\w.pt"])
def test_iter_paths_yields_the_saved_path_then_the_same_name_in_places(saved, place):
    assert list(iter_paths(saved)) == [saved]
    with config_context(weights_path=place):
        assert list(iter_paths(saved)) == [saved, str(place / "w.pt")]
        assert list(iter_paths("/gone/other.pt")) == ["/gone/other.pt"]
        assert list(iter_paths("/gone/..")) == ["/gone/.."]


def test_iter_paths_yields_files_and_folders_of_models_that_are_places(place):
    places = [place / "w.pt", place / "model", place]
    with config_context(weights_path=places):
        assert list(iter_paths("/gone/v.pt")) == ["/gone/v.pt", str(place / "w.pt"), str(place / "model")]


def test_iter_names_of_folders_files_and_names(place):
    with config_context(weights_path=place):
        moved = ("hf//gone/model", "pretrained"), (f"hf/{place / 'model'}", "pretrained")
        assert list(iter_names("hf//gone/model", "pretrained")) == list(moved)
        assert list(iter_names("tiny/cnn", "/gone/w.pt")) == [
            ("tiny/cnn", "/gone/w.pt"),
            ("tiny/cnn", str(place / "w.pt")),
        ]
        assert list(iter_names("tiny/cnn", "pretrained")) == [("tiny/cnn", "pretrained")]
        kind = [("mine/kind//gone/model", "pretrained"), (f"mine/kind/{place / 'model'}", "pretrained")]
        assert list(iter_names("mine/kind//gone/model", "pretrained")) == kind
        assert list(iter_names("hf//gone/model", "random")) == [("hf//gone/model", "random")]


def test_is_path():
    assert is_path("hf//x", "pretrained")
    assert is_path("mine/kind//x", "pretrained")
    assert is_path("tiny/cnn", "/x")
    assert not is_path("tiny/cnn", "pretrained")
    assert not is_path("hf//x", "random")


def test_advice_names_hash_errors_and_calls():
    text = advice("/gone/w.pt", "0123", [WeightsError("there is none."), WeightsError("it is another")])
    assert text.startswith("/gone/w.pt with the hash 0123 cannot be used: there is none; it is another. Say where")
    assert "load(path, weights=" in text
    assert "config_context(weights_path=" in text
