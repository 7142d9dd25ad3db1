"""Codecs of values that estimators and searches of scikit-learn hold: generators, requests, distributions, matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
import scipy.stats
from sklearn.utils.metadata_routing import MetadataRequest

from sktransfer._validation import require_field
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.context import Codec, LoadContext, SaveContext, import_class

__all__ = ["CODECS"]

_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_SEED_FIELDS = ("entropy", "spawn_key", "pool_size", "n_children_spawned")
_MATRICES = ("csc_array", "csc_matrix", "csr_array", "csr_matrix")


def _encode_generator(generator: np.random.Generator, context: SaveContext) -> dict[str, Any]:
    bits = generator.bit_generator
    seed = getattr(bits, "seed_seq", None)
    if type(bits).__name__ not in _BIT_GENERATORS or type(seed) is not np.random.SeedSequence:
        raise SaveError(
            f"a Generator of {type(bits).__name__} cannot be saved without pickle; allowed are {_BIT_GENERATORS}"
        )
    seed_fields = {name: _as_ints(getattr(seed, name)) for name in _SEED_FIELDS}
    return {"name": type(bits).__name__, "state": bits.state, "seed": seed_fields}


def _as_ints(value: Any) -> Any:
    return [int(each) for each in value] if np.ndim(value) else int(value)


def _decode_generator(data: dict[str, Any], context: LoadContext) -> np.random.Generator:
    name, state = require_field(data, "name", str, _BIT_GENERATORS), require_field(data, "state", dict)
    seed = require_field(data, "seed", dict)
    for field in ("pool_size", "n_children_spawned"):
        if not 0 <= require_field(seed, field, int) < 2**31:
            raise LoadError(f"a seed with {field}={seed[field]}")
    if seed["pool_size"] > 1024 or not all(_are_words(seed.get(field)) for field in ("entropy", "spawn_key")):
        raise LoadError("a seed that is not made of ints")
    bits = getattr(np.random, name)(np.random.SeedSequence(**{field: seed[field] for field in _SEED_FIELDS}))
    _check_state(state, bits.state, name)
    bits.state = state
    return np.random.Generator(bits)


def _are_words(value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return len(values) <= 1024 and all(type(each) is int and 0 <= each < 2**1024 for each in values)


def _check_state(state: Mapping[str, Any], own: Mapping[str, Any], label: str) -> None:
    """Check that a state has the fields, types and shapes of a generator's own, because numpy does not check them."""
    if state.keys() != own.keys():
        raise LoadError(f"a state of {label} with the fields {sorted(state)}, and not {sorted(own)}")
    for field, expected in own.items():
        value = state[field]
        if isinstance(expected, Mapping):
            _check_state(require_field(state, field, dict), expected, label)
            continue
        if isinstance(expected, np.ndarray):
            fits = type(value) is np.ndarray and (value.dtype, value.shape) == (expected.dtype, expected.shape)
        elif isinstance(expected, str):
            fits = value == expected
        else:  # positions in a buffer of as many values: numpy would read beyond its end
            limit = {"pos": 625, "buffer_pos": 5, "has_uint32": 2, "uinteger": 2**32}.get(field, 2**128)
            fits = type(value) is int and 0 <= value < limit
        if not fits:
            raise LoadError(f"a state of {label} with a wrong {field}")


def _encode_request(request: MetadataRequest, context: SaveContext) -> dict[str, Any]:
    owner = request.owner if isinstance(request.owner, str) else type(request.owner).__name__
    requests = {name: dict(value.requests) for name, value in vars(request).items() if name != "owner"}
    return {"owner": owner, "requests": requests}


def _decode_request(data: dict[str, Any], context: LoadContext) -> MetadataRequest:
    request = MetadataRequest(owner=require_field(data, "owner", str))  # only shown in messages
    for method, given in require_field(data, "requests", dict).items():
        if method == "owner" or method not in vars(request) or not isinstance(given, dict):
            raise LoadError(f"a request of metadata for {method!r}")
        for name, alias in given.items():
            if not isinstance(name, str) or not isinstance(alias, (bool, str, type(None))):
                raise LoadError(f"a request of the metadata {name!r} as {alias!r}")
            vars(request)[method].add_request(param=name, alias=alias)
    return request


def _encode_distribution(frozen: Any, context: SaveContext) -> dict[str, Any]:
    name = frozen.dist.name
    if type(vars(scipy.stats).get(name)) is not type(frozen.dist):
        raise SaveError(f"a distribution {name!r} that is not one of scipy.stats cannot be saved without pickle")
    return {"name": name, "args": _as_numbers(frozen.args), "kwds": _as_numbers(frozen.kwds)}


def _as_numbers(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _as_numbers(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_as_numbers(value) for value in values]
    if isinstance(values, np.generic):
        values = values.item()
    if type(values) not in (bool, int, float):
        raise SaveError(f"a distribution with the argument {values!r}, which is not a number, cannot be saved")
    return values


def _decode_distribution(data: dict[str, Any], context: LoadContext) -> Any:
    name = require_field(data, "name", str)
    distribution = vars(scipy.stats).get(name)
    if not isinstance(distribution, (scipy.stats.rv_continuous, scipy.stats.rv_discrete)):
        raise LoadError(f"scipy.stats has no distribution {name!r}")
    args, kwds = require_field(data, "args", list), require_field(data, "kwds", dict)
    if not all(type(value) in (bool, int, float) for value in (*args, *kwds.values())):
        raise LoadError(f"the arguments of the distribution {name!r} are not numbers")
    return distribution(*args, **kwds)


def _encode_matrix(matrix: Any, context: SaveContext) -> dict[str, Any]:
    parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    return {**parts, "shape": [int(length) for length in matrix.shape]}


def _decode_matrix(cls: Any, data: dict[str, Any]) -> Any:
    values, indices, indptr = (require_field(data, name, np.ndarray) for name in ("data", "indices", "indptr"))
    shape = require_field(data, "shape", list)
    if values.dtype.kind not in "biufc" or not all(part.dtype in (np.int32, np.int64) for part in (indices, indptr)):
        raise LoadError(f"a matrix of {values.dtype} with indices of {indices.dtype} and {indptr.dtype}")
    if len(shape) != 2 or not all(type(length) is int and 0 <= length < 2**62 for length in shape):
        raise LoadError(f"a matrix of shape {shape}")
    matrix = cls((values, indices, indptr), shape=tuple(shape))
    matrix.check_format(full_check=True)  # compiled code does not check the indices again
    return matrix


def _matrix_codec(name: str) -> Codec:
    path = f"scipy.sparse:{name}"
    return Codec(name, path, _encode_matrix, lambda data, context: _decode_matrix(import_class(path), data))


CODECS = (
    Codec("Generator", "numpy.random:Generator", _encode_generator, _decode_generator),
    Codec(
        "MetadataRequest",
        "sklearn.utils.metadata_routing:MetadataRequest",
        _encode_request,
        _decode_request,
    ),
    Codec(
        "rv_continuous_frozen",
        "scipy.stats._distn_infrastructure:rv_continuous_frozen",
        _encode_distribution,
        _decode_distribution,
    ),
    Codec(
        "rv_discrete_frozen",
        "scipy.stats._distn_infrastructure:rv_discrete_frozen",
        _encode_distribution,
        _decode_distribution,
    ),
    *map(_matrix_codec, _MATRICES),
)
