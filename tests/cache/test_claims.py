"""Tests of claims, and of passes that share a store at the same time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from sktransfer import Backbone, ImageFeaturizer, clear_cache
from sktransfer.cache.claims import Claims
from sktransfer.cache.disk import DiskStore
from sktransfer.cache.resolve import resolve_store
from sktransfer.cache.types import CacheNamespace
from sktransfer.engine import forward

NAMES = [bytes([n]) * 20 for n in range(1, 5)]
NAMESPACE = CacheNamespace(bytes(range(16)), "tiny/cnn", "stem", "average", "float32")
N = 192
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), np.uint8)


class Counted(nn.Module):
    """A stage that writes the number of its samples to a file, and takes its time."""

    gate, waits = threading.Event(), threading.Event()

    def __init__(self, path):
        super().__init__()
        self.path, self.layer = str(path), nn.Conv2d(3, 4, 3)

    def forward(self, values):
        if threading.current_thread().name == "stuck":
            self.waits.set()
            self.gate.wait()
        time.sleep(0.01)
        with Path(self.path).open("a") as file:
            file.write(f"{len(values)}\n")
        return self.layer(values)


@pytest.fixture
def counted(tmp_path):
    """Return a featurizer with batches of 16, and a function that returns the number of samples of its stage."""
    path = tmp_path / "counts"
    path.touch()
    backbone = Backbone.from_modules([("stem", Counted(path)), ("top", nn.ReLU())], input_size=(8, 8))
    return ImageFeaturizer(backbone, batch_size=16), lambda: sum(map(int, path.read_text().split()))


def test_claim_and_release_within_a_process(tmp_path):
    for claims in (Claims(), Claims(tmp_path / "new" / "claims")):
        assert claims.claim(NAMES[:2]) == [True, True]
        assert claims.claim(NAMES[1:3]) == [False, True]
        claims.release([NAMES[1], NAMES[3]])
        assert claims.claim(NAMES) == [False, True, False, True]


def test_claim_without_a_writable_file_holds_within_the_process(tmp_path):
    (tmp_path / "file").touch()
    claims = Claims(tmp_path / "file" / "claims")
    assert [claims.claim(NAMES[:1]), claims.claim(NAMES[:1])] == [[True], [False]]


def test_claim_after_the_folder_was_deleted(tmp_path):
    claims = Claims(tmp_path / "claims")
    claims.claim(NAMES[:1])
    claims.release(NAMES[:1])
    (tmp_path / "claims").unlink()
    assert claims.claim(NAMES[:1]) == [True]
    assert (tmp_path / "claims").exists()


def hold(folder, ready):
    DiskStore(folder, 10**9).claim(NAMESPACE, NAMES[:2])
    ready.send(True)
    time.sleep(600)


@pytest.mark.process
def test_claim_of_a_killed_process_is_free(tmp_path):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path, theirs), daemon=True)
    process.start()
    ours.recv()
    store = DiskStore(tmp_path, 10**9)
    assert store.claim(NAMESPACE, NAMES[1:3]) == [False, True]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert store.claim(NAMESPACE, NAMES[:2]) == [True, True]


@pytest.mark.process
def test_claim_in_a_forked_process_forgets_those_of_its_parent():
    shared_with_child.claim(NAMES[:1])
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(claim_one) == [True]
    assert claim_one() == [False]


shared_with_child = Claims()


def claim_one():
    return shared_with_child.claim(NAMES[:1])


def test_forward_in_threads_runs_each_sample_once(counted):
    featurizer, samples = counted
    featurizer.fit(IMAGES[:1])
    clear_cache()
    before = samples()
    parts = [np.arange(N), np.arange(N)[::-1], np.arange(N // 3, N)]
    with ThreadPoolExecutor(3) as pool:
        features = list(pool.map(lambda part: featurizer.transform(IMAGES[part]), parts))
    assert samples() - before == N
    for part, found in zip(parts, features):
        np.testing.assert_array_equal(found, features[0][part])


def transform(featurizer, part, barrier, results):
    barrier.wait()
    results.put((part[0], featurizer.transform(IMAGES[part])))


@pytest.mark.process
def test_forward_in_processes_runs_each_sample_once(counted, tmp_path):
    featurizer, samples = counted
    featurizer.set_params(cache=tmp_path / "kept").fit(IMAGES[:1])
    context = multiprocessing.get_context("fork")
    parts = [np.arange(1, N), np.arange(N - N // 3), np.arange(N // 3, N)]
    barrier, results = context.Barrier(3), context.Queue()
    workers = [context.Process(target=transform, args=(featurizer, part, barrier, results)) for part in parts]
    for worker in workers:
        worker.start()
    found = dict(results.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    assert samples() == N
    expected = featurizer.set_params(cache=None).transform(IMAGES)
    for part in parts:
        np.testing.assert_array_equal(found[part[0]], expected[part])


def test_forward_computes_what_a_stuck_pass_claims(counted, monkeypatch):
    featurizer, samples = counted
    featurizer.fit(IMAGES[:1])
    clear_cache()
    monkeypatch.setattr(forward, "_PATIENCE", 0.05)
    before, gate = samples(), Counted.gate
    stuck = threading.Thread(target=featurizer.transform, args=(IMAGES[:32],), name="stuck")
    gate.clear()
    try:
        stuck.start()
        assert Counted.waits.wait(60)
        found = featurizer.transform(IMAGES[:64])
        assert samples() - before == 64
    finally:
        gate.set()
        stuck.join()
    np.testing.assert_array_equal(found, featurizer.set_params(cache=None).transform(IMAGES[:64]))


def test_forward_releases_claims_after_an_error(counted):
    featurizer = counted[0].fit(IMAGES[:1])
    store = resolve_store("memory")
    broken = [*IMAGES[:40], "no such file.png"]
    with pytest.raises(ValueError, match="row 40"):
        featurizer.transform(broken)
    assert not store._claims.names
    assert threading.active_count() < 20
