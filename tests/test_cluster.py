"""Tests of tasks on the workers of joblib, Dask, Ray and Spark."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from joblib import Parallel, delayed, parallel_config
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from sktransfer import FineTuneClassifier, ImageFeaturizer
from sktransfer._cluster import gpu_of_worker, stop_if_cancelled
from sktransfer.engine.compute import resolve_device
from sktransfer.exceptions import WeightsError
from sktransfer.testing.samples import make_samples
from tests.helpers.saved_estimators import weights_file

IMAGES, LABELS = make_samples("image", 24)
# Dask closes some of its sockets late.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def client():
    """Return the client of a cluster of two processes, named 0 and 1, with one thread each."""
    patient = {"distributed.comm.timeouts.connect": "120s"}  # workers import torch, which takes long on a busy machine
    with (
        dask.config.set(patient),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def pipeline_search(cache):
    model = make_pipeline(ImageFeaturizer("tiny/cnn", cache=cache), LogisticRegression())
    return GridSearchCV(model, {"imagefeaturizer__layer": [2, 5]}, cv=2, n_jobs=2, error_score="raise")


def tuning_search():
    tuner = FineTuneClassifier("tiny/cnn", max_epochs=1, batch_size=8, random_state=0)
    return GridSearchCV(tuner, {"freeze_depth": [4, 6]}, cv=2, n_jobs=2, error_score="raise")


def scores(search):
    return {name: found for name, found in search.cv_results_.items() if "test_score" in name}


def assert_equal_to_serial(search):
    """Fit a search with the current backend of joblib, and compare it with the serial search."""
    X = np.empty(len(IMAGES), object)
    X[:] = list(IMAGES)
    found = search.fit(X, LABELS)
    with parallel_config("sequential"):
        expected = search.fit(X, LABELS)
    for name, values in scores(expected).items():
        np.testing.assert_array_equal(scores(found)[name], values)


@pytest.mark.process
def test_search_over_a_pipeline_on_dask_equals_the_serial_one(client, tmp_path):
    with parallel_config("dask"):
        assert_equal_to_serial(pipeline_search(tmp_path / "kept"))


@pytest.mark.process
def test_search_over_fine_tuning_on_dask_equals_the_serial_one(client):
    with parallel_config("dask"):
        assert_equal_to_serial(tuning_search())


@pytest.mark.process
def test_dask_reports_the_error_of_an_estimator_without_weights(client, tmp_path):
    path, workers = tmp_path / "mine.safetensors", client.run(os.getpid)
    weights_file(path)
    featurizer = ImageFeaturizer("tiny/cnn", weights=path, cache=None).fit(IMAGES)
    path.unlink()
    for one in (featurizer, pickle.loads(pickle.dumps(featurizer))):
        with pytest.raises(WeightsError, match="mine"):
            client.submit(ImageFeaturizer.transform, one, IMAGES, pure=False).result(timeout=120)
    assert client.run(os.getpid) == workers


class Signal(Callback):
    """Write the worker's process number to a file in each epoch."""

    def __init__(self, folder):
        self.folder = folder

    def on_epoch_end(self, net, **kwargs):
        (Path(self.folder) / str(os.getpid())).touch()


def interrupt_when(condition):
    """Send Ctrl-C to this process as soon as a condition holds."""

    def wait():
        while not condition():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.process
def test_ctrl_c_ends_the_trainings_of_a_search_on_dask(client, tmp_path):
    endless = FineTuneClassifier("tiny/cnn", max_epochs=10**6, random_state=0, callbacks=[Signal(str(tmp_path))])
    workers = set(client.run(os.getpid).values())
    search = GridSearchCV(endless, {"freeze_depth": [4, 6]}, cv=2, n_jobs=2, error_score="raise")
    interrupt_when(lambda: {int(path.name) for path in tmp_path.iterdir()} == workers)
    with (
        pytest.raises(KeyboardInterrupt),
        Client(client.scheduler.address, set_as_default=False) as own,  # when it is closed, its tasks are cancelled
        parallel_config("dask", client=own),
    ):
        search.fit(IMAGES, LABELS)
    free = client.map(lambda _: os.getpid(), range(2), workers=list(client.run(os.getpid)), pure=False)
    client.gather(free)  # one thread per worker, so each training has ended
    assert set(client.run(os.getpid).values()) == workers


def test_stop_if_cancelled_does_nothing_outside_of_a_task():
    stop_if_cancelled()


@pytest.mark.process
def test_gpu_of_worker_follows_the_name_of_a_worker_of_dask(client):
    found = {name: client.submit(gpu_of_worker, 2, workers=[name], pure=False).result(timeout=60) for name in (0, 1)}
    assert found == {0: 0, 1: 1}


@pytest.mark.process
@pytest.mark.loky
def test_gpu_of_worker_differs_between_workers_of_loky():
    found = Parallel(2, batch_size=1)(delayed(gpu_of_process)(i) for i in range(8))
    assert all(gpu == (number - 1) % 3 for number, gpu in found)


def gpu_of_process(_):
    return int(multiprocessing.current_process().name.rpartition("-")[2]), gpu_of_worker(3)


@pytest.mark.process
@pytest.mark.parametrize(("visible", "expected"), [(None, 1), ("0,1", 1), ("1,0", 0)])
def test_gpu_of_worker_follows_devices_that_are_rotated_for_the_worker(visible, expected, monkeypatch):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(multiprocessing.current_process(), "name", "ForkPoolWorker-2")
    assert gpu_of_worker(2) == expected


@pytest.mark.process
def test_resolve_device_auto_is_the_gpu_of_the_worker(gpu, monkeypatch):
    assert resolve_device("auto").index == 0
    monkeypatch.setattr(multiprocessing.current_process(), "name", "LokyProcess-4")
    assert resolve_device("auto").index == 1
    features = ImageFeaturizer("tiny/cnn", cache=None).fit_transform(IMAGES[:4])
    np.testing.assert_allclose(
        features, ImageFeaturizer("tiny/cnn", cache=None, device="cuda:0").fit_transform(IMAGES[:4])
    )
