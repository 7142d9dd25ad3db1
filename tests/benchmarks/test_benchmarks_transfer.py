"""Benchmarks of transfer: parts that are transferred, resumed runs, pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks import common
from benchmarks.accuracy import (
    adaptation,
    adaptation_curve,
    domains,
    forgetting,
    freezing_curve,
    joined,
    layer_mix,
    mixed_table,
    segmentation,
    source_task,
)
from benchmarks.remembered import Remembered
from benchmarks.speed import adaptation_cost
from sktransfer import FineTuneClassifier, load_backbone
from sktransfer.testing.samples import make_samples
from tests.helpers.estimators import quick

IMAGES, LABELS = make_samples("image", 12)
TEXTS, _ = make_samples("text", 24)


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    return tmp_path


def is_picture(path):
    with Image.open(path) as picture:
        return picture.size[0] > 400


def test_remembered_measures_once_and_survives_a_torn_write(results):
    asked = []

    def measure(value):
        return lambda: asked.append(value) or value

    known = Remembered("some")
    assert known({"of": "a", "seed": 0}, measure(1.5)) == 1.5
    assert known({"seed": 0, "of": "a"}, measure(2.5)) == 1.5
    with (results / "some.jsonl").open("a") as file:
        file.write('["torn')
    again = Remembered("some")
    assert again({"of": "a", "seed": 0}, measure(3.5)) == 1.5
    assert again({"of": "a", "seed": 1}, measure([4, 5])) == [4, 5]
    assert Remembered("some")({"of": "a", "seed": 1}, measure(0)) == [4, 5]
    assert asked == [1.5, [4, 5]]


def test_joined_takes_k_stages_of_the_source():
    source, random = load_backbone("tiny/cnn"), load_backbone("tiny/cnn", weights="random", seed=1)
    joined = freezing_curve.joined(source, 3, random)
    assert [any(stage is one for one in source.stages) for stage in joined.stages] == [True] * 3 + [False] * 4
    assert [any(stage is one for one in random.stages) for stage in joined.stages] == [False] * 3 + [True] * 4
    assert not joined.pretrained
    assert source.pretrained
    assert freezing_curve.depths(7) == [0, 1, 3, 5, 7]
    assert freezing_curve.depths(8) == [0, 2, 4, 6, 8]


def test_with_statistics_changes_only_batch_norm():
    random = load_backbone("tiny/cnn", weights="random", seed=1)
    seen = freezing_curve.with_statistics(random, IMAGES, LABELS, freezing_curve.TARGET)
    for before, after in zip(random.stages.state_dict().items(), seen.stages.state_dict().items()):
        if "running" in before[0]:
            assert not before[1].equal(after[1])
        elif "tracked" not in before[0]:
            np.testing.assert_allclose(before[1], after[1], atol=1e-12)


def test_source_rows_are_of_one_kind_and_size():
    names = np.array([f"n{number:08d}" for number in (1443537, 2129165, 2699494, 3544143, 4067472, 7873807)])
    images = {"classes": names, "y": np.tile(np.arange(6), 10), "split": np.arange(60) // 48}
    for kind, expected in (("animals", {0, 1}), ("artefacts", {2, 3, 4})):
        rows = freezing_curve.source_rows(images, kind, 2, 3)
        assert len(rows) == len(set(rows)) == 6
        assert set(images["y"][rows]) <= expected
        assert (images["split"][rows] == 0).all()


def test_curves_share_their_first_point_and_are_drawn(results):
    known, calls = Remembered("curve"), []

    def measured(what, measure):
        return known(what, lambda: calls.append(what) or 0.5 + what["k"] / 20)

    report = common.Report("?", "curve")
    random = load_backbone("tiny/cnn", weights="random", seed=1)
    sources = {"near": lambda: random, "far": lambda: random}
    found = freezing_curve.curves("toy", lambda seed: None, sources, lambda seed: random, 2, measured, report, {})
    assert list(found) == ["near, frozen", "near, tuned", "far, frozen", "far, tuned", "random filters, frozen"]
    assert all(list(curve) == [0, 1, 3, 5, 7] for curve in found.values())
    assert len(calls) == 2 * (1 + 5 * 4)
    freezing_curve.draw({"toy": found}, {"toy": list(random.stage_names)}, results / "curve.png")
    assert is_picture(results / "curve.png")


def test_start_takes_parts_of_a_source_task():
    clf = FineTuneClassifier("tiny/bert", max_epochs=0, random_state=0).fit(TEXTS, np.tile([0, 1], 12))
    random = load_backbone("tiny/bert", weights="random", seed=1000)
    for taken, expected in (("", 0), ("E", 1), ("EH", 5), ("EHO", 5)):
        backbone = source_task.start(taken, clf, 0)
        own = [any(stage is one for one in clf.backbone_.stages) for stage in backbone.stages]
        assert own == [True] * expected + [False] * (5 - expected)
        assert len(backbone.stages) == len(random.stages)


def test_source_task_measures_each_row_and_keeps_a_whole_source(results, monkeypatch):
    monkeypatch.setattr(source_task, "TARGET", {**source_task.TARGET, "max_epochs": 1, "lr": 1e-4})
    y = (np.array([("good" in text) for text in TEXTS])).astype(int)
    clf = FineTuneClassifier("tiny/bert", layer=-1, freeze_depth="all", max_epochs=5, random_state=0).fit(TEXTS, y)
    data = (np.array(TEXTS[:12], dtype=object), y[:12], np.array(TEXTS, dtype=object), 1 - y)
    table = {row: [source_task.measure(row, clf, data, 0)] * 2 for row in source_task.ROWS}
    assert table["E(f) H(f) O(f)"][0] == clf.score(TEXTS, 1 - y)
    assert list(table) == list(source_task.ROWS)
    source_task.draw(table, results / "source.png")
    assert is_picture(results / "source.png")


def test_layer_mix_candidates_share_the_rates(results):
    assert [one["head_lr"] for one in layer_mix.candidates({"layer": "mix"})] == layer_mix.RATES
    assert len(layer_mix.candidates({"layer": "mix", "max_epochs": 0})) == 1
    assert len(layer_mix.candidates({"layer": [1, 2]})) == 2 * len(layer_mix.RATES)
    X, y = np.array(TEXTS, dtype=object), np.tile([0, 1], 12)
    found = layer_mix.measure({"layer": "mix", "max_epochs": 0}, "tiny/bert", X, y, 8, 0)
    assert found["weights"] == [0.2] * 5
    rows = {what: [0.5, 0.6] for what in layer_mix.ROWS}
    layer_mix.draw({"MR": rows, "MPQA": rows}, results / "mix.png")
    assert is_picture(results / "mix.png")


def test_forgetting_measures_both_tasks(results, monkeypatch):
    monkeypatch.setattr(forgetting, "BASE", {**forgetting.BASE, "max_epochs": 0, "freeze_depth": "all"})
    alone, after = (forgetting.measure(l2_sp, 100, 0) for l2_sp in (None, 0.3))
    assert len(alone) == len(after) == 2
    assert alone[0] > alone[1]
    forgetting.draw({"first task alone": [alone] * 2, "l2_sp=0": [after] * 2}, results / "forgetting.png")
    assert is_picture(results / "forgetting.png")


@pytest.mark.parametrize(("kind", "tuned"), [("late fusion", False), ("joined", False), ("late fusion", True)])
def test_joined_measures_each_fusion(kind, tuned, monkeypatch):
    monkeypatch.setattr(joined, "N_TEST", 20)
    monkeypatch.setattr(joined, "FineTuneClassifier", lambda *backbone, **options: quick(*backbone, max_epochs=1))
    X, y = joined.TASKS["spoken"](np.random.default_rng(0), 60)
    heard = np.array([joined.WORDS.index(text.split()[-1]) for text in X["text"]])
    assert 0.3 < (heard == y).mean() < 0.8
    assert 0 <= joined.measure("spoken", 0, 60, kind, tuned) <= 1


@pytest.mark.parametrize("task", mixed_table.TASKS)
def test_mixed_table_measures_all_columns_and_those_of_one_kind(task, results, monkeypatch):
    domains = [name for name in ("books", "electronics", "kitchen") for _ in range(8)]
    reviews = pd.DataFrame({"domain": domains, "label": ["neg", "pos"] * 12, "text": TEXTS})
    (results / "text").mkdir()
    reviews.to_csv(results / "text" / "amazon_mdsd.csv.gz", index=False)
    monkeypatch.setenv("SKTRANSFER_TEST_DATA", str(results))
    for name, value in {"N_ROWS": 60, "N_TEST": 20, "N_MISSING": 3}.items():
        monkeypatch.setattr(mixed_table, name, value)
    table, y = mixed_table.make_table(task, 0)
    assert table.isna().sum().tolist() == [3] * 5
    assert len(table) == len(y) == 60
    for columns in (["review", "a"], ["photo"]):
        assert np.isfinite(mixed_table.measure(task, 0, 40, columns))


def test_segmentation_rows_find_digits_on_a_texture(monkeypatch):
    monkeypatch.setattr(segmentation, "N_TRAIN", 2)
    monkeypatch.setattr(segmentation, "N_TEST", 1)
    images, masks = segmentation.textures(0, 64)
    assert images.dtype == np.uint8
    assert abs(images[masks == 1].mean() - images[masks == 0].mean()) < 10
    scribbles = segmentation.scribbled(masks[0], np.random.default_rng(0))
    known = scribbles >= 0
    assert 0 < known.mean() < 0.3
    assert (scribbles[known] == masks[0][known]).all()
    for make in segmentation.ROWS.values():
        assert segmentation.measure(make, images, masks, 0)["iou"] > 0.2


@pytest.fixture
def two_scanners(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name, side in (("mnist_10k", 28), ("usps", 16)):
        images = rng.integers(0, 256, (200, side, side), dtype=np.uint8)
        split = np.arange(200) % 2
        np.savez(tmp_path / "images" / f"{name}.npz", data=images, y=np.arange(200) // 2 % 10, split=split)
    monkeypatch.setenv("SKTRANSFER_TEST_DATA", str(tmp_path))
    domains._digits.cache_clear()
    yield
    domains._digits.cache_clear()


def test_digits_of_two_domains_are_drawn_per_seed(two_scanners):
    pair = domains.digits("MNIST", "USPS", 0)
    X, y, domain = pair.masked()
    assert X.shape == (200, 28, 28)
    assert np.isnan(y[domain < 0]).all()
    assert y[domain > 0].tolist() == pair.y.tolist()
    assert pair.y.tolist() != domains.digits("MNIST", "USPS", 1).y.tolist()
    shifted = domains.digits("MNIST", "USPS", 0, shifted=True)
    assert (np.mean(shifted.y_target < 5), np.mean(shifted.y_test < 5)) == (0.8, 0.8)


def test_outputs_of_candidates_have_scores_and_shares(two_scanners):
    pair = domains.digits("MNIST", "USPS", 0)
    settings = {"max_epochs": 0, "freeze_depth": "all", "layer": -1, "random_state": 0}
    for alignment in (domains.STATISTICS["adabn"], domains.SUPERVISED):
        found = domains.outputs(pair, "tiny/cnn", settings, alignment)
        assert found["true"] == np.mean(pair.y_test < 5)
        assert 0 <= found["score"] <= 1
    assert 0 <= domains.shuffled_score(pair, "tiny/cnn", settings, domains.ALIGNMENTS["none"]) <= 1


def test_adaptation_curve_is_measured_and_drawn(results, monkeypatch):
    monkeypatch.setattr(adaptation_curve, "LABELS_A_CLASS", (2, None))
    texts, labels = np.array(TEXTS, dtype=object), np.tile([0, 1], 12)
    part = texts[:16], labels[:16]
    found = adaptation_curve.curve(lambda: load_backbone("tiny/bert"), "books", part, (texts[16:], labels[16:]), 0)
    scores = {"none": [found] * 2}
    assert len(scores["none"][0]) == 2
    adaptation_curve.draw({**scores, "mlm": [[0.5, 0.6], [0.7, 0.6]]}, results / "lines.png")
    assert is_picture(results / "lines.png")


def test_adaptation_to_grey_images(monkeypatch):
    monkeypatch.setattr(adaptation, "N_GREY", 12)
    monkeypatch.setattr(adaptation, "N_TEST_GREY", 6)
    pool, test = adaptation.grey_images()
    assert (len(pool[0]), len(test[0]), pool[0][0].dtype) == (12, 6, np.uint16)
    assert set(test[1]) == {"clear", "haze", "spot"}
    backbone = adaptation.adapted("grey", "denoise", {"max_epochs": 1, "freeze_depth": -1}, pool[0])
    assert 0 <= adaptation.accuracy(backbone, "grey", pool, test, 2, 0) <= 1


def test_operations_of_simcse():
    assert adaptation_cost.operations(0, cached=False) == 2 * 3 * 6
    assert adaptation_cost.operations(3, cached=False) == 2 * (3 * 3 + 3)
    assert adaptation_cost.operations(3, cached=True) == 2 * 3 * 3
