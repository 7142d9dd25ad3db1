"""Searches on Ray and Spark, run by `pytest -m cluster`."""

from __future__ import annotations

import pandas as pd
import pytest
from joblib import Parallel, delayed, parallel_config

from sktransfer import ImageFeaturizer
from sktransfer.samples.texts import check_texts
from tests.helpers.saved_estimators import weights_file
from tests.test_cluster import IMAGES, assert_equal_to_serial, pipeline_search, tuning_search

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore"),  # of the engines
]
TEXTS = pd.DataFrame({"text": ["up", "down", "left"]})


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _system_config={"worker_niceness": 0})
    register_ray()
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def spark():
    sql = pytest.importorskip("pyspark.sql")
    from joblibspark import register_spark

    register_spark()
    builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = (
        builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate()
    )
    yield session
    session.stop()


@pytest.fixture(params=["ray", "spark"])
def engine(request):
    request.getfixturevalue(request.param)
    return request.param


def test_search_over_a_pipeline_equals_the_serial_one(engine, tmp_path):
    with parallel_config(engine):
        assert_equal_to_serial(pipeline_search(tmp_path / "kept"))


def test_search_over_fine_tuning_equals_the_serial_one(engine):
    with parallel_config(engine):
        assert_equal_to_serial(tuning_search())


def test_error_of_an_estimator_without_weights_is_reported(engine, tmp_path):
    path = tmp_path / "mine.safetensors"
    weights_file(path)
    featurizer = ImageFeaturizer("tiny/cnn", weights=path, cache=None).fit(IMAGES)
    path.unlink()
    # joblib-spark 0.6.0 hands an error of any task to joblib in a form that joblib does not read.
    with (
        pytest.raises(Exception, match="mine" if engine == "ray" else "_ExceptionWithTraceback"),
        parallel_config(engine),
    ):
        Parallel(2)(delayed(featurizer.transform)(IMAGES) for _ in range(2))
    with parallel_config(engine):
        assert Parallel(2)(delayed(abs)(-n) for n in range(3)) == [0, 1, 2]


def test_hint_about_a_data_set_of_ray_works(ray):
    X = ray.data.from_pandas(TEXTS)
    with pytest.raises(ValueError, match=r"X is a \w+ of Ray.*pass X\.to_pandas\(\), .* sktransfer\.featurize\(X, "):
        check_texts(X)
    assert check_texts(X.to_pandas()).load(1) == "down"


def test_hint_about_a_frame_of_spark_works(spark):
    X = spark.createDataFrame(TEXTS)
    with pytest.raises(
        ValueError, match=r"X is a DataFrame of Spark.*pass X\.toPandas\(\), .* sktransfer\.featurize\(X, "
    ):
        check_texts(X)
    assert check_texts(X.toPandas()).load(1) == "down"
