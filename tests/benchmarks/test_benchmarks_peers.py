"""Peers of the benchmarks give the same results as sktransfer, on small inputs."""

from __future__ import annotations

import functools
import os

import numpy as np
import pytest
import torch

from benchmarks import common
from benchmarks.speed import (
    freeze_depth_search,
    full_fine_tuning,
    image_throughput,
    multitask_cost,
    second_process,
    text_throughput,
    token_throughput,
    users_way,
)

TEXTS = np.array(
    [f"{'Never' if i % 3 else 'Always'} see this {'film ' * (1 + i % 5)}again, {i} times" for i in range(12)],
    dtype=object,
)


@pytest.fixture(autouse=True)
def _data():
    if not os.environ.get("SKTRANSFER_TEST_DATA"):
        pytest.skip("SKTRANSFER_TEST_DATA is not set: it is the folder of real weights and images")


@pytest.fixture
def report(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    return common.Report("?", "small")


@functools.cache
def task(kind, n=39, n_test=6):
    """Return a task of two batches, prepared once."""
    return {"text": freeze_depth_search.Texts, "image": freeze_depth_search.Photos}[kind](n, n_test)


def test_text_throughput_peer_gives_equal_features():
    expected = text_throughput.encode(text_throughput.peer("float32"), TEXTS, 4)
    for precision in text_throughput.MARKS:
        text_throughput.check(precision, text_throughput.ours(precision).transform(TEXTS), expected)
    with pytest.raises(AssertionError, match="differ"):
        text_throughput.check("float32", expected + 1e-4, expected)
    with pytest.raises(AssertionError, match="cosine"):
        text_throughput.check("bfloat16", expected[::-1], expected)


def test_n_tokens_excludes_padding():
    model = text_throughput.peer("float32")
    assert text_throughput.n_tokens(model, np.array(["good", "a good film"], dtype=object)) == 3 + 5


def test_token_throughput_peer_gives_equal_features():
    sentences = [text.split() for text in TEXTS]
    expected = token_throughput.encode(token_throughput.peer(), sentences, 4)
    assert token_throughput.difference(token_throughput.ours().transform(sentences), expected) < 1e-4
    with pytest.raises(AssertionError, match="differ"):
        token_throughput.difference([part + 1e-3 for part in expected], expected)


def test_image_throughput_peer_gives_equal_features():
    paths, _ = common.photos(3)
    expected = image_throughput.embetter_way(image_throughput.network(), paths)
    for precision in image_throughput.MARKS:
        image_throughput.check(precision, image_throughput.ours(precision).transform(paths), expected)
    with pytest.raises(AssertionError, match="differ"):
        image_throughput.check("float32", expected + 1e-3, expected)


def test_limit_adds_the_costs_of_decoding_and_forward():
    assert image_throughput.limit(2.0, 2.0) == (1.0 if not torch.cuda.is_available() else 2.0)


@pytest.mark.parametrize("kind", ["text", "image"])
def test_plain_freezing_gives_equal_scores(kind, report, monkeypatch):
    monkeypatch.setattr(freeze_depth_search, "EPOCHS", 1)
    one = task(kind)
    freeze_depth_search.compare(report, one, "(c) all, 4 learning rates" if kind == "text" else "(b) all and -1", 1)
    assert [row["difference"] for row in report.rows] == [0]


@pytest.mark.parametrize("kind", ["text", "image"])
@pytest.mark.parametrize("freeze_depth", [0, 6])
def test_plain_freezing_trains_the_same_parameters(kind, freeze_depth):
    one, epochs = task(kind), 1 if freeze_depth == 0 else 3
    ours = freeze_depth_search.tuner(one, freeze_depth=freeze_depth, max_epochs=epochs).fit(one.X, one.y)
    options = {"module__freeze_depth": freeze_depth, **one.options}
    peer = freeze_depth_search.plain_net(one.module, len(one.X), epochs, freeze_depth_search.SEED, **options)
    peer.fit(one.peer_X(one.X), one.y)
    np.testing.assert_allclose(ours.net_.history[:, "train_loss"], peer.history[:, "train_loss"], rtol=1e-3)
    np.testing.assert_allclose(ours.predict_proba(one.X_test), peer.predict_proba(one.peer_X(one.X_test)), atol=2e-3)
    trained = sum(parameter.requires_grad for parameter in peer.module_.parameters())
    assert trained == sum(len(group["params"]) for group in ours.net_.optimizer_.param_groups)


def test_halving_search_chooses_a_depth_and_models_are_scored(report):
    one = task("image")
    search = freeze_depth_search.halving_search(one)
    peer = type("Peer", (), {"best_params_": {"module__freeze_depth": 8}})
    found = freeze_depth_search.chosen_models(one, search, peer)
    assert found["depth"] in ["all", -1, -2, -3]
    assert 0 <= found["chosen_ours"] <= 1
    assert found["n_test"] == 6


@pytest.mark.parametrize("kind", ["text", "image"])
def test_full_fine_tuning_by_hand_gives_an_equal_loss(kind):
    for precision, tolerance in full_fine_tuning.TOLERANCE.items():
        loss = full_fine_tuning.by_hand(task(kind), precision)
        assert abs(full_fine_tuning.ours(task(kind), precision) - loss) <= tolerance * loss


def test_multitask_cost_peers_give_equal_results(report):
    multitask_cost.measure(report, 12, 12, 1)
    assert [row["difference"] for row in report.rows[:2]] == [0, 0]
    assert len(report.rows) == 3


def test_users_way_searches_depths():
    labels = np.arange(12) % 2
    search = users_way.as_users_write_it(TEXTS, labels, [7, 6], 2, 1, max_length=16)
    assert search.cv_results_["mean_test_score"].shape == (2,)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_second_process_gives_equal_features(tmp_path):
    options, (paths, _) = {"backbone": "tiny/cnn"}, common.photos(3)
    (_, before), (_, after) = (
        second_process.transform("image", options, paths, tmp_path, tmp_path / "cache") for _ in range(2)
    )
    np.testing.assert_array_equal(before, after)
    assert any((tmp_path / "cache").iterdir())


def test_folded_network_gives_equal_features():
    work = image_throughput.forwards(torch.float32)[2, "channels_last"]
    model, batch = image_throughput.folded(work).args
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    with torch.no_grad():
        torch.testing.assert_close(model(batch), work.args[0](batch), atol=1e-4, rtol=1e-4)
