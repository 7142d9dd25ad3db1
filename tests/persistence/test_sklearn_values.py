from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.sparse
from scipy.stats import loguniform, randint, rv_discrete, uniform
from sklearn.linear_model import LogisticRegression
from sklearn.utils.metadata_routing import MetadataRequest

from sktransfer import load, save
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.codecs import DECODERS, find_codec
from sktransfer.persistence.context import LoadContext, SaveContext


def encode(obj):
    return find_codec(obj).encode(obj, SaveContext(False))


def decode(kind, data):
    return LoadContext({}, DECODERS).build(kind, data)


def round_trip(value, folder):
    save(LogisticRegression(C=value), folder / "one.skt")
    return load(folder / "one.skt").C


@pytest.mark.parametrize("name", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
def test_generator_continues_after_save_and_load(name, tmp_path):
    generator = np.random.Generator(getattr(np.random, name)([1, 2**40]))
    generator.integers(9, size=3, dtype=np.int32)
    again = round_trip(generator, tmp_path)
    assert again.random(4).tolist() == generator.random(4).tolist()
    assert again.spawn(1)[0].random() == generator.spawn(1)[0].random()


def changed(data, *path, value):
    data = copy.deepcopy(data)
    inner = data
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("PCG64", ("name",), "seed"),
        ("PCG64", ("state", "state", "state"), "1"),
        ("PCG64", ("state", "state", "state"), -1),
        ("PCG64", ("state", "has_uint32"), 2),
        ("PCG64", ("state", "bit_generator"), "MT19937"),
        ("PCG64", ("state", "more"), 1),
        ("PCG64", ("seed", "entropy"), "1"),
        ("PCG64", ("seed", "entropy"), -1),
        ("PCG64", ("seed", "pool_size"), 2**30),
        ("PCG64", ("seed", "n_children_spawned"), -1),
        ("MT19937", ("state", "state", "pos"), 626),
        ("MT19937", ("state", "state", "key"), np.zeros(623, np.uint32)),
        ("Philox", ("state", "buffer_pos"), 5),
        ("Philox", ("state", "buffer"), np.zeros(3, np.uint64)),
        ("SFC64", ("state", "state", "state"), np.zeros(4, np.int32)),
    ],
)
def test_generator_refuses_forged_states(name, path, value):
    data = encode(np.random.Generator(getattr(np.random, name)(1)))
    decode("Generator", data)
    with pytest.raises(LoadError):
        decode("Generator", changed(data, *path, value=value))


def test_generator_of_own_bits_cannot_be_saved():
    class Bits(np.random.PCG64):
        pass

    with pytest.raises(SaveError, match="a Generator of Bits cannot be saved"):
        encode(np.random.Generator(Bits(1)))


@pytest.mark.parametrize("frozen", [loguniform(0.1, 1), uniform(loc=2, scale=3), randint(1, np.int64(9))])
def test_distribution_draws_the_same_after_save_and_load(frozen, tmp_path):
    again = round_trip(frozen, tmp_path)
    assert again.rvs(5, random_state=1).tolist() == frozen.rvs(5, random_state=1).tolist()


def test_distribution_that_cannot_be_saved():
    with pytest.raises(SaveError, match=r"not one of scipy\.stats"):
        encode(rv_discrete(name="own", values=([1, 2], [0.5, 0.5]))())
    with pytest.raises(SaveError, match="which is not a number"):
        encode(uniform(np.zeros(3)))


@pytest.mark.parametrize(
    "data",
    [
        {"name": "norm_gen", "args": [], "kwds": {}},
        {"name": "describe", "args": [], "kwds": {}},
        {"name": "norm", "args": ["1"], "kwds": {}},
        {"name": "norm", "args": [1, 2, 3, 4], "kwds": {}},
    ],
)
def test_distribution_refuses_forged_arguments(data):
    with pytest.raises(LoadError):
        decode("rv_continuous_frozen", data)


@pytest.mark.parametrize("name", ["csc_array", "csc_matrix", "csr_array", "csr_matrix"])
def test_sparse_matrix_is_equal_after_save_and_load(name, tmp_path):
    matrix = getattr(scipy.sparse, name)(np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]]))
    again = round_trip(matrix, tmp_path)
    assert type(again) is type(matrix)
    assert again.toarray().tolist() == matrix.toarray().tolist()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("indices", np.array([1, 0, 3], np.int32)),
        ("indices", np.array([1, 0, -1], np.int32)),
        ("indices", np.array([1.0, 0.0, 2.0])),
        ("indptr", np.array([0, 1, 4], np.int32)),
        ("indptr", np.array([0, 2, 1], np.int32)),
        ("indptr", np.array([0, 3], np.int32)),
        ("data", np.array(["a", "b", "c"])),
        ("shape", [2, 2]),
        ("shape", [2, -3]),
        ("shape", [2]),
    ],
)
def test_sparse_matrix_refuses_forged_positions(field, value):
    data = encode(scipy.sparse.csr_array(np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]])))
    decode("csr_array", data)
    with pytest.raises(LoadError):
        decode("csr_array", {**data, field: value})


@pytest.mark.parametrize(
    "requests",
    [{"owner": {}}, {"no_method": {}}, {"fit": ["a"]}, {"fit": {"a": 1}}, {"fit": {3: True}}],
)
def test_metadata_request_refuses_forged_requests(requests):
    data = encode(MetadataRequest(owner="one"))
    decode("MetadataRequest", data)
    with pytest.raises(LoadError):
        decode("MetadataRequest", {**data, "requests": requests})
