"""Benchmarks of single predictions and of the service under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time

import numpy as np
import pytest
import uvicorn
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.speed import latency, load_test, overhead
from examples.service.app import create_app
from sktransfer import ImageFeaturizer, TextFeaturizer


@contextlib.contextmanager
def serving(app):
    """Serve an application in a thread, and yield its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return load_test.write_estimators(tmp_path_factory.mktemp("load"))


def test_client_counts_answers_and_refused_uploads(files, monkeypatch):
    monkeypatch.setattr(load_test, "BAD", 4)
    seen = load_test.Seen()
    with serving(create_app(**files)) as address:
        asyncio.run(load_test.client(0, address, range(1, 10), seen))
    assert (seen.errors, seen.n_refused, len(seen.seconds)) == ([], 2, 9)


def test_client_counts_other_answers_as_errors(files):
    seen = load_test.Seen()
    with serving(create_app(text=files["text"])) as address:  # without the endpoint for images
        asyncio.run(load_test.client(0, address, range(1, 10), seen))
    assert len(seen.errors) + len(seen.seconds) == 9
    assert {error[:3] for error in seen.errors} == {"404"}


def test_load_measures_memory_until_the_time_is_over(files):
    with serving(create_app(text=files["text"])) as address:
        seen = asyncio.run(load_test.load(address, os.getpid(), 0.1, 1))
    assert len(seen.memory) == 2
    assert seen.memory[0] > 1e7


@pytest.mark.parametrize("modality", ["text", "image"])
def test_latency_compares_equal_probabilities(modality):
    featurizer, new = {
        "text": (TextFeaturizer("tiny/bert", layer=1), load_test.new_text),
        "image": (ImageFeaturizer("tiny/cnn", layer=1), load_test.new_image),
    }[modality]
    X = [new(np.random.default_rng(row)) for row in range(4)]
    compared = latency.programs(make_pipeline(featurizer, LogisticRegression()).fit(X, [0, 1, 0, 1]), X)
    for row in range(4):
        results = [program(row) for program in compared.values()]
        for one in results:
            np.testing.assert_allclose(one, results[0], atol=latency.TOLERANCE)
    taken = latency.measure(compared, 4, 2)
    assert {name: values.shape for name, values in taken.items()} == dict.fromkeys(compared, (2, 2))


@pytest.mark.parametrize("name", overhead.BUDGETS)
def test_overhead_network_gives_the_features_of_transform(name):
    texts = [load_test.new_text(np.random.default_rng(row)) for row in range(5)]
    X = texts if name == "tiny/bert" else overhead.samples(name, 5)
    kind = TextFeaturizer if name == "tiny/bert" else ImageFeaturizer
    featurizer = kind(name, layer=-1, cache=None).fit(X[:1])
    network = overhead.Network(featurizer, X)
    assert len(network.single) == 5
    np.testing.assert_array_equal(np.concatenate(network(network.single)), featurizer.transform(X))
