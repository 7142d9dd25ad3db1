"""Records of what was measured on this processor."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from sktransfer import ImageFeaturizer, TextFeaturizer, load_backbone
from sktransfer.engine.compute import Compute, resolve_compute
from sktransfer.exceptions import StoreError, StoreWarning
from sktransfer.machine.processor import processor
from sktransfer.machine.tuned import Choice, Record, find_choices, forget, path_of, read_records, structure_of, write

CPU = torch.device("cpu")
NAME = "tiny/bert"
TEXTS = [f"a film about the sea {'and its people ' * (row % 7)}{row}" for row in range(40)]


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path))
    forget()
    yield tmp_path / "tuned"
    forget()  # what this process has read


def record(name=NAME, **choices):
    return Record(
        name,
        structure_of(load_backbone(name)),
        processor(CPU),
        torch.get_num_threads(),
        "2030-01-01 12:00",
        choices or {"float32": Choice(300, 1, 10.0, 1.2)},
    )


def test_write_is_used_by_automatic_batches():
    backbone = load_backbone(NAME)
    assert Compute(CPU).tuned_for(backbone).tuned is None
    write(record())
    tuned = Compute(CPU).tuned_for(backbone)
    assert (tuned.budget("tokens"), tuned.workers, tuned.samples_per_batch(100, "tokens")) == (300, 1, 3)
    assert Compute(CPU, batch_size=7).tuned_for(backbone).tuned is None
    assert Compute(CPU, torch.bfloat16).tuned_for(backbone).tuned is None  # not measured
    assert Compute(torch.device("cuda", 0)).tuned_for(backbone).tuned is None


@pytest.mark.parametrize(("name", "featurizer"), [(NAME, TextFeaturizer), ("tiny/cnn", ImageFeaturizer)])
@pytest.mark.parametrize("choice", [Choice(1, 1), Choice(100_000_000, 3)], ids=["single", "whole"])
def test_write_does_not_change_the_bits_of_features(name, featurizer, choice):
    X = TEXTS if name == NAME else list(np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8))
    before = featurizer(name, layer="all", cache=None).fit_transform(X)
    write(record(name, float32=choice))
    assert find_choices(load_backbone(name))
    np.testing.assert_array_equal(featurizer(name, layer="all", cache=None).fit_transform(X), before)


@pytest.mark.parametrize("order", [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_precision_auto_is_float32_where_it_is_fastest(order):
    write(record(**{name: Choice(300, 1) for name in order}))
    usual = resolve_compute("cpu", "auto").dtype
    expected = torch.float32 if order[0] == "float32" else usual
    assert resolve_compute("cpu", "auto", backbone=load_backbone(NAME)).dtype == expected
    assert resolve_compute("cpu", "bfloat16", backbone=load_backbone(NAME)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"structure": "0" * 32}, "network of this name has changed"),
        ({"machine": "1.0 x86_64"}, "torch was 1.0, and is"),
        ({"machine": f"{torch.__version__} abacus"}, "another machine"),
        ({"n_threads": 97}, "torch had 97 threads"),
    ],
    ids=["structure", "torch", "machine", "threads"],
)
def test_stale_records_are_ignored(change, reason):
    changed = replace(record(), **change)
    write(changed)
    assert reason in changed.stale(structure_of(load_backbone(NAME)))
    assert not find_choices(load_backbone(NAME))


def test_structure_of_does_not_depend_on_weights():
    assert structure_of(load_backbone(NAME)) == structure_of(load_backbone(NAME, weights="random"))
    assert structure_of(load_backbone(NAME)) != structure_of(load_backbone("tiny/cnn"))


DAMAGES = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "a list": lambda text: "[]",
    "a lacking field": lambda text: text.replace('"machine"', '"engine"'),
    "a negative budget": lambda text: text.replace('"budget": 300', '"budget": -300'),
    "a text as rate": lambda text: text.replace('"per_second": 10.0', '"per_second": "fast"'),
    "another layout": lambda text: text.replace('"layout": 1', '"layout": 2'),
    "choices that are no mapping": lambda text: json.dumps({**json.loads(text), "choices": 3}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_read_records_names_a_damaged_file(damage):
    path = write(record())
    path.write_text(damage(path.read_text()))
    (error,) = read_records().values()
    assert isinstance(error, StoreError)
    assert str(path) in str(error)
    assert "--forget" in str(error)
    with pytest.warns(StoreWarning, match="damaged and not used"):
        assert not find_choices(load_backbone(NAME))


def test_write_replaces_the_file_at_once(folder):
    path = write(record())
    write(record(float32=Choice(512, 2)))
    assert [one.name for one in folder.iterdir()] == [path.name]
    assert read_records() == {path: record(float32=Choice(512, 2))}


def test_find_choices_takes_a_folder_that_cannot_be_read_for_none(monkeypatch):
    write(record())
    with monkeypatch.context() as patch:
        patch.setenv("SKTRANSFER_CACHE", "x" * 300)  # longer than a name may be
        assert not find_choices(load_backbone(NAME))


def test_write_names_a_folder_that_cannot_be_written(folder):
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file")
    with pytest.raises(StoreError, match=r"cannot be written .*SKTRANSFER_CACHE"):
        write(record())
    folder.unlink()


def test_forget_deletes_one_or_all():
    write(record())
    write(record("tiny/cnn"))
    assert forget(NAME) == [path_of(NAME)]
    assert not find_choices(load_backbone(NAME))
    with pytest.raises(StoreError, match="'tiny/bert' is not tuned"):
        forget(NAME)
    assert forget() == [path_of("tiny/cnn")]
    assert forget() == []
