"""The ablation of fine-tuning recipes: draws, recipes, and its picture."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks import common
from benchmarks.accuracy import recipes
from sktransfer import FineTuneClassifier
from sktransfer.testing.samples import make_samples

TEXTS, LABELS = make_samples("text", 32)


@pytest.fixture
def reviews(monkeypatch):
    X = np.array([f"{text} {row % 150}" for row, text in enumerate(TEXTS * 5)], dtype=object)  # ten come twice
    monkeypatch.setattr(recipes, "movie_reviews", lambda: (X, np.tile(LABELS == "good", 5).astype(int)))


def test_draw_samples_is_balanced_and_disjoint_from_the_test(reviews):
    drawn = [recipes.draw_samples(20, 40, seed) for seed in (0, 0, 1)]
    for X, y, X_test, y_test in drawn:
        assert np.bincount(y).tolist() == [10, 10]
        assert not set(X) & set(X_test)
        assert len(X_test) == len(y_test) == 40
    assert drawn[0][0].tolist() == drawn[1][0].tolist() != drawn[2][0].tolist()
    assert drawn[0][2].tolist() == drawn[2][2].tolist()


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_score_accepts_each_recipe(name, reviews):
    data = recipes.draw_samples(8, 10, 0)
    assert 0 <= recipes.score(recipes.RECIPES[name], data, 0) <= 1
    assert FineTuneClassifier(**recipes.BASE).get_params()["freeze_depth"] == 0


def test_draw_samples_with_all_labels_uses_all_but_the_test(reviews):
    X, _, X_test, _ = recipes.draw_samples(0, 40, 0)
    assert len(X) == len(set(recipes.movie_reviews()[0])) - 40
    assert not set(X) & set(X_test)


def test_draw_photos_uses_the_split_of_the_data_set(monkeypatch):
    paths = [f"images/hymenoptera/{part}/{n}.jpg" for part in ("train", "val") for n in range(10)]
    monkeypatch.setattr(recipes, "photos", lambda: (paths, np.arange(20)))
    X, y, X_test, y_test = recipes.draw_photos(0, 1000, 1)
    assert [len(X), len(X_test)] == [10, 10]
    assert all("/train/" in path for path in X)
    assert y.tolist() == list(range(10))
    assert y_test.tolist() == list(range(10, 20))
    assert len(recipes.draw_photos(4, 3, 1)[0]) == 4


def test_score_of_random_weights_uses_the_same_preprocessing(monkeypatch):
    seen = {}

    class Tuner(FineTuneClassifier):
        def fit(self, X, y):
            seen.update(self.get_params())
            return self

        def score(self, X, y):
            return 0.5

    monkeypatch.setattr(recipes, "FineTuneClassifier", Tuner)
    monkeypatch.setattr(
        recipes, "load_backbone", lambda name, weights: SimpleNamespace(preprocess=f"that of {weights}")
    )
    settings = {"weights": "a file", "freeze_depth": 4}
    assert recipes.score({"weights": "random"}, ([], [], [], []), 0, "tiny/cnn", settings) == 0.5
    assert (seen["weights"], seen["preprocess"], seen["freeze_depth"]) == ("random", "that of a file", 0)
    recipes.score({}, ([], [], [], []), 0, "tiny/cnn", settings)
    assert (seen["weights"], seen["preprocess"], seen["freeze_depth"]) == ("a file", "auto", 4)


def test_gain_is_in_points_and_draw_writes_a_picture(tmp_path):
    rows = {name: [0.5 + place / 100, 0.6] for place, name in enumerate(recipes.RECIPES)}
    assert recipes.gain(rows, "full").tolist() == [0, 0]
    place = list(rows).index("last")
    assert recipes.gain(rows, "last") == pytest.approx([place, 0])
    for n in (1, 4):
        recipes.draw({f"ground {one}": rows for one in range(n)}, tmp_path / "recipes.png")
        with Image.open(tmp_path / "recipes.png") as picture:
            assert picture.size[0] > 500 * min(n, 2)


def test_measure_stores_and_reports_each_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    asked = []

    def score(changes, data, seed, backbone, settings):
        asked.append((tuple(changes), seed))
        return 0.5 + len(asked) / 1000

    drawn = recipes.Ground("toy", lambda: "tiny/bert", lambda n: {"lr": n}, lambda n, n_test, seed: ([0] * 7,), (0,), 2)
    monkeypatch.setattr(recipes, "score", score)
    monkeypatch.setitem(recipes.GROUNDS, "toy", drawn)
    for _ in range(2):
        what, rows = recipes.measure("toy", 0, 10, 2, common.Report("?", "recipes"))
        assert what == "toy, all 7 labels"
        assert len(asked) == 2 * len(recipes.RECIPES)
        assert all(len(scores) == 2 for scores in rows.values())
    assert capsys.readouterr().out.count("toy, all 7 labels: all three") == 2
