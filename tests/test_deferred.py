"""Tests of objects that unpickle to a reference."""

import copy
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from joblib import Parallel, delayed
from sklearn.base import clone

from sktransfer import ImageFeaturizer, load_backbone
from sktransfer._deferred import Deferred, defer
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.exceptions import WeightsError
from sktransfer.testing.samples import make_samples
from tests.helpers.saved_estimators import weights_file

IMAGES = make_samples("image", 4)[0]


class Heavy(Deferred):
    """An object that counts how often it is made."""

    _ATTRIBUTES = frozenset({"value", "name"})
    made = 0

    def __init__(self, value):
        self.value, self.name = value, "heavy"
        Heavy.made += 1


@pytest.fixture
def heavy():
    Heavy.made = 0
    return defer(Heavy, Heavy, (3,), {"name": "heavy"})


def test_defer_makes_the_object_at_the_first_use(heavy):
    assert heavy.name == "heavy"
    assert not hasattr(heavy, "missing")
    assert Heavy.made == 0
    assert heavy.value == heavy.value == 3
    assert Heavy.made == 1
    assert not hasattr(heavy, "missing")


def test_defer_reports_the_error_at_each_use():
    broken = defer(Heavy, lambda: 1 / 0, (), {})
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            _ = broken.value


def test_defer_in_several_threads_keeps_one_object():
    backbone = load_backbone("tiny/cnn").with_preprocess(ImageTransform(resize=9))
    for _ in range(20):
        again = pickle.loads(pickle.dumps(backbone))
        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(lambda _, one=again: id(one.copies), range(16)))
        assert found == {id(again.copies)}


def test_deferred_attributes_are_those_of_a_backbone():
    backbone = load_backbone("tiny/bert")
    assert set(vars(backbone)) == backbone._ATTRIBUTES


@pytest.fixture
def fitted(tmp_path):
    """Return a fitted featurizer whose weights are deleted, and their path."""
    path = tmp_path / "mine.safetensors"
    weights_file(path)
    featurizer = ImageFeaturizer("tiny/cnn", weights=path, cache=None).fit(IMAGES)
    path.unlink()
    return featurizer, path


def transformed(featurizer):
    return featurizer.transform(IMAGES)


def test_unpickled_estimator_names_the_missing_weights_at_first_use(fitted):
    again = pickle.loads(pickle.dumps(fitted[0]))
    for one in (again, copy.copy(again), copy.deepcopy(again), pickle.loads(pickle.dumps(again))):
        assert one.backbone_.name == "tiny/cnn"
        assert repr(one.backbone_) == repr(fitted[0].backbone_)
        assert clone(one).get_params() == fitted[0].get_params()
        with pytest.raises(WeightsError, match="mine"):
            one.transform(IMAGES)


@pytest.mark.process
def test_pool_reports_the_error_of_an_unpickled_estimator(fitted):
    with multiprocessing.Pool(1) as pool:
        worker = pool.apply(os.getpid)
        with pytest.raises(WeightsError, match="mine"):
            pool.apply_async(transformed, fitted[:1]).get(60)
        assert pool.apply(os.getpid) == worker


@pytest.mark.process
@pytest.mark.loky
def test_executor_and_loky_report_the_error_of_an_unpickled_estimator(fitted):
    with ProcessPoolExecutor(1) as pool:
        with pytest.raises(WeightsError, match="mine"):
            pool.submit(transformed, fitted[0]).result(60)
        assert pool.submit(abs, -3).result(60) == 3
    with pytest.raises(WeightsError, match="mine"):
        Parallel(2)(delayed(transformed)(one) for one in [fitted[0]] * 2)
