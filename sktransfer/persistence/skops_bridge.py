"""Write and read trees of objects with skops, with nodes of sktransfer's own for the objects that have a codec.

This is the only module that depends on private parts of skops: the JSON schema of its files, and the fact that
`ConstructorFromReduceNode` calls the class that it names. Tested with skops 0.16.0.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from sktransfer.exceptions import LoadError, SaveError, SktransferError
from sktransfer.persistence.parts import locate_part

__all__ = ["CustomNode", "check_tree", "iter_nodes", "read_tree", "trusted_types", "untrusted_types", "write_tree"]

Build = Callable[[str, dict[str, Any]], Any]
Encode = Callable[[Any], tuple[str, dict[str, Any]] | None]

_SCHEMA = "schema.json"
_UNWRITABLE = (SktransferError, pickle.PicklingError, AttributeError, TypeError, ValueError, RecursionError)
# JSON keys are strings. Keys of these types come back as other values: True and False both as True.
_LOST_KEYS = ("builtins.bool", "builtins.NoneType", "numpy.bool", "numpy.bool_")
# skops sets the state of random generators unchecked. The codec `RandomState` checks it first.
_REFUSED_NODES = ("RandomStateNode", "RandomGeneratorNode")
# Plain Python objects that hold parameters, arrays and estimators, which skops does not trust by default. Left out are
# types whose numbers compiled code uses as positions without a check: trees, neighbour trees and splines. Forged
# numbers in them would make the process read outside its memory.
_PLAIN_TYPES = (
    "numpy.dtype",
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.cluster._bisect_k_means._BisectingTree",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    # Experimental estimators, which skops trusts if they were enabled before it was imported.
    "sklearn.impute._iterative.IterativeImputer",
    "sklearn.impute._iterative._ImputerTriplet",
    "sklearn.model_selection._search_successive_halving.HalvingGridSearchCV",
    "sklearn.model_selection._search_successive_halving.HalvingRandomSearchCV",
    "sklearn.metrics._scorer._CurveScorer",
    "sklearn.metrics._scorer._MultimetricScorer",
    "sklearn.metrics._scorer._PassthroughScorer",
    "sklearn.metrics._scorer._Scorer",
    "sklearn.multiclass._ConstantPredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.utils._bunch.Bunch",
)
# Functions of arrays that are values of parameters.
_FUNCTIONS = (
    "numpy.mean",
    "sklearn.cluster._kmeans._kmeans_single_elkan",
    "sklearn.cluster._kmeans._kmeans_single_lloyd",
    "sklearn.feature_selection._mutual_info.mutual_info_classif",
    "sklearn.feature_selection._mutual_info.mutual_info_regression",
    "sklearn.feature_selection._univariate_selection.chi2",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_oneway",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.feature_selection._univariate_selection.r_regression",
)
# Functions of the distance between samples: values and a formula, without positions.
_KERNELS = (
    "CompoundKernel",
    "ConstantKernel",
    "DotProduct",
    "ExpSineSquared",
    "Exponentiation",
    "Hyperparameter",
    "Matern",
    "PairwiseKernel",
    "Product",
    "RBF",
    "RationalQuadratic",
    "Sum",
    "WhiteKernel",
)
_SPLITTERS = (
    "GroupKFold",
    "GroupShuffleSplit",
    "KFold",
    "LeaveOneGroupOut",
    "LeaveOneOut",
    "LeavePGroupsOut",
    "LeavePOut",
    "PredefinedSplit",
    "RepeatedKFold",
    "RepeatedStratifiedKFold",
    "ShuffleSplit",
    "StratifiedGroupKFold",
    "StratifiedKFold",
    "StratifiedShuffleSplit",
    "TimeSeriesSplit",
    "_CVIterableWrapper",
)

_build: ContextVar[Build | None] = ContextVar("build", default=None)


class CustomNode:
    """Node of a tree that replaces an object that has a codec: the codec's kind and the encoded data.

    While `read_tree` runs, calling the class returns the decoded object instead of a node.

    Parameters
    ----------
    kind : str
        Kind of the codec.
    data : dict
        Output of the codec's `encode`.
    """

    kind: str
    data: dict[str, Any]

    def __new__(cls, kind: str, data: dict[str, Any]) -> Any:
        """Return a node, or the decoded object while a tree is read."""
        build = _build.get()
        return super().__new__(cls) if build is None else build(kind, data)

    def __init__(self, kind: str, data: dict[str, Any]) -> None:
        self.kind, self.data = kind, data

    def __reduce__(self) -> tuple[type[CustomNode], tuple[str, dict[str, Any]]]:
        return CustomNode, (self.kind, self.data)


NODE = f"{CustomNode.__module__}.{CustomNode.__qualname__}"


@contextmanager
def _building(build: Build) -> Iterator[None]:
    token = _build.set(build)
    try:
        yield
    finally:
        _build.reset(token)


class _Copier(pickle.Pickler):
    """Pickler that replaces the objects that have a codec by `CustomNode`s.

    The pickle only serves to copy the object. It is unpickled at once in the same process and never written to a file.
    """

    def __init__(self, file: io.BytesIO, encode: Encode, **options: Any) -> None:
        super().__init__(file, protocol=5, **options)
        self.encode = encode

    def reducer_override(self, obj: Any) -> Any:
        """Return the constructor call of a node, or NotImplemented for objects without a codec."""
        encoded = self.encode(obj)
        return NotImplemented if encoded is None else (CustomNode, encoded)


def write_tree(obj: Any, encode: Encode) -> bytes:
    """Return an object as a skops file in which nodes replace the objects that have a codec.

    Parameters
    ----------
    obj : object
        Object to write. It is not changed.
    encode : callable
        Maps an object to the kind and data of its node, or to None if it has no codec.

    Raises
    ------
    SaveError
        If a part of the object cannot be written without pickle.
    """
    try:
        return _normalized(_dump(obj, encode))
    except _UNWRITABLE as error:
        if isinstance(error, SktransferError) and not isinstance(error, SaveError):
            raise  # about a parameter
        raise SaveError(_why_not(obj, error, encode)) from error


def _dump(obj: Any, encode: Encode) -> bytes:
    import skops.io

    copied, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    _Copier(copied, encode, buffer_callback=buffers.append).dump(obj)
    twin = pickle.loads(copied.getvalue(), buffers=buffers)
    dump: bytes = skops.io.dumps(twin)
    return dump


def _why_not(obj: Any, error: Exception, encode: Encode) -> str:
    """Return a message that names the innermost part that cannot be written."""
    from skops.io._sklearn import UNSUPPORTED_TYPES

    def fails(part: Any) -> bool:
        try:
            _normalized(_dump(part, encode))
        except _UNWRITABLE:
            return True
        return False

    def is_leaf(part: Any) -> bool:
        try:
            has_codec = encode(part) is not None and not hasattr(part, "get_params")  # parameters are written as parts
            return type(part) in UNSUPPORTED_TYPES or has_codec
        except _UNWRITABLE:
            return True

    label, part = locate_part(obj, fails, is_leaf)
    if isinstance(error, SaveError):
        return str(error) if part is obj else f"{label}: {error}"
    return (
        f"{label}, a {type(part).__name__}, cannot be saved without pickle ({type(error).__name__}: {error}). Replace "
        "this part, or use joblib.dump, and load only files of your own. A function must have a name in a module (no "
        "lambda)"
    )


def _normalized(dump: bytes) -> bytes:
    """Return a dump with memory addresses replaced by counters, so that equal objects give equal, small files."""
    with zipfile.ZipFile(io.BytesIO(dump)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        _check_keys(schema)
        ids: dict[int, int] = {}
        files: dict[str, str] = {}
        for node in iter_nodes(schema):
            node.pop("is_json", None)
            if "__id__" in node:
                node["__id__"] = ids.setdefault(node["__id__"], len(ids) + 1)
            if "file" in node:
                name = node["file"]
                node["file"] = files.setdefault(name, f"{len(files)}.{name.rpartition('.')[2]}")
        contents = {new: archive.read(old) for old, new in files.items()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        contents = {_SCHEMA: json.dumps(schema, separators=(",", ":")).encode(), **contents}
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return packed.getvalue()


def _check_keys(schema: Any) -> None:
    for node in iter_nodes(schema):
        if node["__loader__"] == "DictNode":
            for key in node["key_types"]["content"]:
                if f"{key['__module__']}.{key['__class__']}" in _LOST_KEYS:
                    raise SaveError(
                        f"a dict with keys of type {key['__class__']} cannot be saved ({sorted(node['content'])[:4]}); "
                        "use int or str as keys (in class_weight, for example, 0 and 1 instead of False and True)"
                    )


@functools.cache
def trusted_types() -> tuple[str, ...]:
    """Return names of types trusted in addition to those of skops.

    They are plain types of scikit-learn, its kernels and splitters, and the functions of its scorers and selectors.
    """
    from sklearn.metrics import get_scorer, get_scorer_names

    functions = {get_scorer(name)._score_func for name in get_scorer_names()}
    metrics = sorted(f"{function.__module__}.{function.__name__}" for function in functions)
    kernels = (f"sklearn.gaussian_process.kernels.{name}" for name in _KERNELS)
    splitters = (f"sklearn.model_selection._split.{name}" for name in _SPLITTERS)
    return (*_PLAIN_TYPES, *_FUNCTIONS, *kernels, *splitters, *metrics)


def untrusted_types(tree: bytes, trusted: Iterable[str] = ()) -> list[str]:
    """Return the names of types in a tree that are trusted neither by skops nor by sktransfer.

    Parameters
    ----------
    tree : bytes
        Output of `write_tree`.
    trusted : iterable of str, default=()
        Names of further trusted types.
    """
    import skops.io

    return sorted(set(skops.io.get_untrusted_types(data=tree)) - {NODE, *trusted_types(), *trusted})


def read_tree(tree: bytes, build: Build, kinds: Set[str], trusted: Sequence[str]) -> Any:
    """Return the object that a tree describes.

    The whole tree is checked before the first type that it names is imported.

    Parameters
    ----------
    tree : bytes
        Output of `write_tree`, or a file of unknown origin.
    build : callable
        Maps the kind and data of a node to the object.
    kinds : set of str
        Kinds that `build` knows.
    trusted : sequence of str
        Names of further types that the user trusts.

    Raises
    ------
    LoadError
        If the tree is damaged or holds a kind or type that is not known.
    """
    import skops.io

    try:
        check_tree(tree, kinds)
        unknown = untrusted_types(tree, trusted)
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"its tree of objects is damaged ({type(error).__name__}: {error}); save it again") from error
    if unknown:
        raise LoadError(
            f"it holds {unknown}, which {'is' if len(unknown) == 1 else 'are'} not known to be safe, so nothing was "
            f"loaded. If you know these types and trust the author of the file: load(path, trusted={unknown})"
        )
    with _building(build):
        try:
            return skops.io.loads(tree, trusted=[NODE, *trusted_types(), *trusted])
        except (LoadError, Warning):
            raise
        except Exception as error:
            text = f"its tree of objects cannot be rebuilt ({type(error).__name__}: {error}); save it again"
            raise LoadError(text) from error


def iter_nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield all nodes of a schema, outer nodes before inner ones."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "__loader__" in value or "__id__" in value:
                yield value
            waiting.extend(reversed(list(value.values())))
        elif isinstance(value, list):
            waiting.extend(reversed(value))


def check_tree(tree: bytes, kinds: Set[str]) -> None:
    """Check the sizes, arrays and node kinds of a tree before any object is built.

    Parameters
    ----------
    tree : bytes
        Zip file in the format of `write_tree`.
    kinds : set of str
        Kinds of nodes that can be decoded.

    Raises
    ------
    LoadError
        If the tree is not in the format of `write_tree`, is larger than it claims, or holds nodes of unknown kinds.
    """
    with zipfile.ZipFile(io.BytesIO(tree)) as archive:
        infos = archive.infolist()
        packed = [info.filename for info in infos if info.compress_type or info.file_size != info.compress_size]
        if packed or sum(info.file_size for info in infos) > len(tree) or len({i.filename for i in infos}) < len(infos):
            raise LoadError("its tree of objects holds members that are compressed, overlap, or occur twice")
        schema = json.loads(archive.read(_SCHEMA))
        for info in infos:
            if info.filename.endswith(".npy"):
                _check_array(info.filename, archive.read(info))
    if not isinstance(schema, dict):
        raise LoadError(f"its tree of objects is a {type(schema).__name__}")
    nodes = list(iter_nodes(schema))
    if any(type(node.get("__id__", 1)) is not int or node.get("__id__", 1) < 1 for node in nodes):
        raise LoadError("its tree of objects holds an id that is not a positive int")
    unknown = sorted({_kind(node) for node in nodes if _is_custom(node)} - kinds)
    if unknown:
        raise LoadError(
            f"it holds nodes of the kinds {unknown}, which this sktransfer does not know: nothing was loaded. A newer "
            "sktransfer may know them: install it"
        )
    refused = sorted({node["__loader__"] for node in nodes if node.get("__loader__") in _REFUSED_NODES})
    if refused:
        raise LoadError(f"it holds {refused}, which sktransfer.save does not write: nothing was loaded")
    _check_files(nodes)
    _check_growth(schema, len(nodes))


def _is_custom(node: dict[str, Any]) -> bool:
    return f"{node.get('__module__')}.{node.get('__class__')}" == NODE


def _kind(node: dict[str, Any]) -> str:
    if node.get("__loader__") != "ConstructorFromReduceNode":
        return f"{node.get('__loader__')} of a CustomNode"
    first, _ = node["content"]["content"]
    return str(json.loads(first["content"]))


def _check_array(name: str, content: bytes) -> None:
    """Check that an array has the size that its header claims, because numpy allocates memory by the header."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise LoadError(f"its array {name} has a header of version {version}, which sktransfer.save does not write")
    shape, _, dtype = readers[version](file)
    count = 1
    for length in shape:
        count *= length
    size = len(content) - file.tell()
    if dtype.hasobject or any(length < 0 for length in shape) or count * dtype.itemsize != size:
        raise LoadError(f"its array {name} claims the shape {shape} of {dtype}, and has {size} bytes")
    if dtype.itemsize == 0 and count > 2**20:
        raise LoadError(f"its array {name} claims {count} values of zero bytes each")


def _check_files(nodes: list[dict[str, Any]]) -> None:
    """Check that no two objects share a member of the zip, because each would allocate memory of its own."""
    owners: dict[str, set[Any]] = defaultdict(set)
    for node in nodes:
        if "file" in node:
            owners[str(node["file"])].add(node.get("__id__"))
    for name, ids in owners.items():
        if len(ids) > 1 or not all(isinstance(number, int) and number > 0 for number in ids):
            raise LoadError(f"several objects of its tree claim the member {name}")


def _check_growth(schema: dict[str, Any], n_nodes: int) -> None:
    """Reject trees that expand exponentially ("billion laughs") or contain themselves.

    A node may refer to another one by its id. `write_tree` writes out every node in full. In a forged tree, each level
    could refer twice to the level below.
    """
    nodes_by_id: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for node in iter_nodes(schema):
        nodes_by_id[_id(node)].append(node)
    sizes: dict[Any, int] = {}
    open_ids: set[Any] = set()

    def size(node: dict[str, Any]) -> int:
        number = _id(node)
        if number in open_ids:
            raise LoadError("its tree of objects holds an object within itself")
        if number not in sizes:
            open_ids.add(number)
            sizes[number] = max(1 + sum(map(size, _children(twin))) for twin in nodes_by_id[number])
            open_ids.remove(number)
        return sizes[number]

    if size(schema) > 4 * n_nodes + 1000:
        raise LoadError("its tree of objects refers to itself so often that reading it would not end")


def _id(node: dict[str, Any]) -> Any:
    return node.get("__id__", (id(node),))


def _children(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes directly below a node."""
    waiting = list(node.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "__loader__" in value or "__id__" in value:
                yield value
            else:
                waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
