"""`featurize` on the workers of Dask, Ray and Spark."""

from __future__ import annotations

import os

import dask.bag
import dask.dataframe
import numpy as np
import pandas as pd
import pytest

from sktransfer import featurize
from sktransfer.exceptions import InvalidParameterError, InvalidSample, InvalidSampleError, UnknownWordsWarning
from sktransfer.streaming.engines import dask_client
from sktransfer.streaming.step import Block, Step, located


@pytest.fixture
def table(texts):
    return pd.DataFrame({"text": texts, "id": range(100, 125)})


@pytest.fixture(scope="module")
def dask_cluster():
    """Start a cluster of one worker process. Its client is the one of this module."""
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def stop(rows, n):
    """Fail after n rows."""
    for i, row in enumerate(rows):
        if i == n:
            raise KeyboardInterrupt
        yield row


def check_engine(data, table, embedder, expected, out):
    """Assert that data of an engine give the features in order, and that a run resumes."""
    options = {"columns": "text", "keep": "id", "chunk_size": 5}
    chunks = [table[start : start + 5] for start in range(0, 25, 5)]
    with pytest.raises(KeyboardInterrupt):  # another process has written some parts
        featurize(stop(chunks, 2), embedder, out, **options)
    stored = featurize(data, embedder, out, **options)
    assert stored.n_computed == 15
    assert np.array_equal(stored.to_numpy(), expected)
    rows = pd.concat([rows for _, rows in stored.batches()], ignore_index=True)
    assert rows["id"].tolist() == table["id"].tolist()
    assert featurize(data, embedder, out, **options).n_computed == 0


@pytest.mark.process
def test_dask_client_and_its_workers(dask_cluster, table, embedder, expected, tmp_path):
    assert dask_client() is dask_cluster
    data = dask.dataframe.from_pandas(table, npartitions=4)
    check_engine(data, table, embedder, expected, tmp_path / "a")
    pids = dask.bag.from_sequence(range(3), npartitions=3)

    class Pid(type(embedder)):
        def transform(self, X):
            return np.full((len(X), 1), os.getpid())

    stored = featurize(pids, Pid(embedder.embedding_).fit(["good"]), tmp_path / "b")
    assert os.getpid() not in stored.to_numpy()


@pytest.mark.process
def test_dask_workers_report_errors_of_chunks(dask_cluster, table, embedder, tmp_path):
    data = dask.dataframe.from_pandas(table, npartitions=4)
    with pytest.raises(InvalidParameterError, match="chunk 0, from row 0: it has no column 'title'"):
        featurize(data, embedder, tmp_path / "a", columns="title")
    table.loc[20, "text"] = None
    data = dask.dataframe.from_pandas(table, npartitions=4)
    with pytest.raises(InvalidSampleError, match="row 20") as caught:
        featurize(data, embedder, tmp_path / "a", columns="text")
    assert caught.value.row == 20


@pytest.mark.cluster
@pytest.mark.process
@pytest.mark.filterwarnings("ignore")
def test_ray_tasks(table, embedder, expected, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # workers of low priority would starve on a busy machine
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        data = ray.data.from_pandas([table[:8], table[8:]])
        check_engine(data, table, embedder, expected, tmp_path / "a")
        assert data.context.execution_options.preserve_order is False
    finally:
        ray.shutdown()


@pytest.mark.cluster
@pytest.mark.process
@pytest.mark.filterwarnings("ignore")
def test_spark_map_in_arrow(table, embedder, expected, tmp_path):
    sql = pytest.importorskip("pyspark.sql")
    builder = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    try:
        rows = session.sparkContext.parallelize(list(table.itertuples(index=False, name=None)), 3)
        data = session.createDataFrame(rows, "text string, id long")
        check_engine(data, table, embedder, expected, tmp_path / "a")
    finally:
        session.stop()


def test_blocks_are_exchanged_as_bytes(table, embedder, tmp_path):
    step = Step(embedder, "text", ("id",))
    for skip in (0, 10, 25):
        block = step(table, skip)
        block.warnings = [(UnknownWordsWarning, "unknown"), (FutureWarning, "other")]
        block.failures = [InvalidSample(3, "a.jpg", "is empty")]
        again = Block.from_bytes(block.to_bytes())
        assert np.array_equal(again.digests, block.digests)
        assert (again.names, again.skip, again.failures) == (["text"], skip, block.failures)
        assert again.warnings == [(UnknownWordsWarning, "unknown"), (UserWarning, "other")]
        assert (again.features is None) == (skip == 25)
        if skip < 25:
            assert np.array_equal(again.features, block.features)
            assert again.kept.equals(block.kept)


def test_errors_of_a_worker_name_the_row(embedder):
    step = Step(embedder, "text")
    with located(3, 100), pytest.raises(InvalidSampleError, match="row 1"):
        step(pd.DataFrame({"text": ["good", None]}))
    with pytest.raises(InvalidSampleError, match="row 101"), located(3, 100):
        step(pd.DataFrame({"text": ["good", None]}), 1)
