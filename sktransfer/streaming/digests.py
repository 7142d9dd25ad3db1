"""Hashes by which a resumed run recognizes its rows and its featurizer."""

from __future__ import annotations

import functools
import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from importlib import metadata
from types import CodeType
from typing import Any

import joblib
import numpy as np
import pandas as pd
from scipy.sparse import issparse

from sktransfer.backbones.backbone import Backbone
from sktransfer.samples.columns import is_missing, is_tensor
from sktransfer.words.vectors import WordVectors

__all__ = ["digest_part", "digest_rows", "fingerprint", "versions"]

SIZE = 16  # bytes of a hash
# Parameters that decide how values are computed, not which, and an address in memory that vectorizers keep.
_NEUTRAL = ("batch_size", "cache", "n_jobs", "verbose", "_stop_words_id", "_sklearn_output_config")
_PLAIN = (str, int, float, complex, bytes, tuple, frozenset, np.ndarray, np.generic)  # values that functions use
_COMPUTING = ("numpy", "scikit-learn", "sktransfer", "torch", "transformers")


def versions() -> dict[str, str]:
    """Return the versions of the packages that compute features, because other versions may round otherwise."""
    found = {}
    for name in _COMPUTING:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # used from its folder, without an installation
            continue
    return found


def digest_rows(columns: Sequence[Sequence[Any] | np.ndarray], n_rows: int, *, files: bool) -> np.ndarray:
    """Return a hash of each row.

    Parameters
    ----------
    columns : sequence of sequences or arrays of length n_rows
        Columns of the table. An array may have several dimensions, the first for rows.
    n_rows : int
        Number of rows.
    files : bool
        Whether a str may be the path of a file. The hash of a path includes the size of its file and the time of its
        last change, not the content.

    Returns
    -------
    digests : ndarray of shape (n_rows, 16), uint8

    Examples
    --------
    >>> from sktransfer.streaming.digests import digest_rows
    >>> digest_rows([["a", "b"], [0, 1]], 2, files=False).shape
    (2, 16)
    """
    digests = bytearray()
    for row in range(n_rows):
        running = hashlib.blake2b(digest_size=SIZE)
        for column in columns:
            _add(running, column[row], files)
        digests += running.digest()
    return np.frombuffer(bytes(digests), np.uint8).reshape(n_rows, SIZE)  # (n_rows, 16)


def digest_part(digests: np.ndarray) -> str:
    """Return the hash of consecutive rows.

    Parameters
    ----------
    digests : ndarray of shape (n_rows, 16), uint8
        Hashes of the rows.
    """
    return hashlib.blake2b(np.ascontiguousarray(digests).data, digest_size=SIZE).hexdigest()


def _add(running: Any, value: Any, files: bool) -> None:
    """Add the content of a cell to a hash."""
    if isinstance(value, str):
        _put(running, "str", value.encode("utf-8", "surrogatepass"))
        if files:
            _add_file(running, value)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        _put(running, "bytes", bytes(value))
    elif is_missing(value):
        _put(running, "missing")
    elif isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        _add_number(running, value)
    elif isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        _put(running, f"{value.dtype.str}{value.shape}", value.tobytes())
    elif isinstance(value, os.PathLike):
        _add(running, os.fsdecode(value), True)
    elif isinstance(value, Mapping):  # {"bytes", "path"} of an image column
        _put(running, f"mapping{len(value)}")
        for name, one in value.items():
            _add(running, str(name), False)
            _add(running, one, files or name == "path")
    elif isinstance(value, (list, tuple, np.ndarray)):
        _put(running, f"list{len(value)}")
        for one in value:
            _add(running, one, files)
    else:
        _add_object(running, value)


def _add_number(running: Any, value: Any) -> None:
    """Add a number. Readers of files give 1 or 1.0 for the same cell, depending on the other cells of a chunk."""
    number = value.item() if isinstance(value, np.generic) else value
    kind = "bool" if isinstance(number, bool) else "number"
    _put(running, kind, repr(int(number) if math.isfinite(number) and number == int(number) else number).encode())


def _add_object(running: Any, value: Any) -> None:
    if is_tensor(value):
        value = value.detach().cpu().numpy()
        _put(running, f"{value.dtype.str}{value.shape}", value.tobytes())
    elif hasattr(value, "tobytes") and hasattr(value, "mode"):  # PIL
        _put(running, f"{value.mode}{value.size}", value.tobytes())
        if value.mode == "P":  # the same indices are other colours with another palette
            _put(running, "palette", bytes(value.getpalette() or ()))
    else:
        _put(running, type(value).__name__, joblib.hash(value).encode())


def _add_file(running: Any, path: str) -> None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path takes longer to make than a file to find
    except (OSError, ValueError):  # no file, or no possible name
        return
    _put(running, "file", f"{status.st_size} {status.st_mtime_ns}".encode())


def _put(running: Any, kind: str, content: bytes = b"") -> None:
    running.update(b"%s %d|" % (kind.encode(), len(content)))
    running.update(content)


def fingerprint(estimator: Any) -> str:
    """Return a hash of what a fitted transformer computes: class, parameters and fitted attributes of all its parts.

    Parameters that do not change values are left out: `batch_size`, `cache`, `n_jobs` and `verbose`. Backbones and
    word vectors count by the hash of their weights, wherever these come from.

    Parameters
    ----------
    estimator : estimator
        Fitted transformer, such as a pipeline.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sktransfer.streaming.digests import fingerprint
    >>> fingerprint(StandardScaler().fit([[0.0], [2.0]])) == fingerprint(StandardScaler().fit([[0.0], [4.0]]))
    False
    """
    running = hashlib.blake2b(digest_size=SIZE)
    _add_part(running, estimator, ())
    return running.hexdigest()


def _add_part(running: Any, value: Any, within: tuple[int, ...]) -> None:
    """Add a part of an estimator to a hash. `within` has the ids of the objects that hold it."""
    if id(value) in within:
        _put(running, "circle", str(within.index(id(value))).encode())
        return
    add = functools.partial(_add_part, within=(*within, id(value)))
    attributes = _attributes(value)
    if isinstance(value, (list, tuple)):
        _put(running, f"list{len(value)}")
        for one in value:
            add(running, one)
    elif isinstance(value, Set):
        add(running, sorted(value, key=repr))
    elif isinstance(value, Mapping):
        _put(running, f"mapping{len(value)}")
        for one in _flat(value.items()):
            add(running, one)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        _put(running, f"objects{value.shape}")
        add(running, value.ravel().tolist())
    elif attributes is not None:
        _put(running, f"{type(value).__module__}.{type(value).__qualname__}")
        add(running, attributes)
    elif isinstance(value, type):
        _put(running, "type", f"{value.__module__}.{value.__qualname__}".encode())
    else:
        _add(running, value, False)


def _flat(pairs: Iterable[tuple[Any, Any]]) -> Iterable[Any]:
    return (one for pair in pairs for one in pair)


def _attributes(value: Any) -> Any:
    """Return what an object consists of, or None if it is a value."""
    if isinstance(value, Backbone):
        return [value.fingerprint(), value.preprocess.key, value.properties()]
    if isinstance(value, WordVectors):
        if value.source is not None:
            return [value.source.digest()]
        return [list(value.words), np.asarray(value.matrix), value.subwords]
    if issparse(value):
        entries = value.tocoo()
        return [entries.shape, entries.row, entries.col, entries.data]
    if isinstance(value, (pd.Series, pd.DataFrame)):
        return [value.index.tolist(), value.to_numpy()]
    if isinstance(value, pd.Index):
        return value.tolist()
    code = getattr(value, "__code__", None)
    if code is not None:  # lambdas have the same name
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        used = [value.__globals__.get(name) for name in code.co_names]
        values = [one for one in [*cells, *used, *(value.__defaults__ or ())] if isinstance(one, _PLAIN)]
        keywords = {name: one for name, one in (value.__kwdefaults__ or {}).items() if isinstance(one, _PLAIN)}
        return [value.__module__, value.__qualname__, *_instructions(code), values, keywords]
    if isinstance(value, type) or not _is_plain_object(value):
        return None
    return {name: one for name, one in sorted(vars(value).items()) if name not in _NEUTRAL}


def _instructions(code: CodeType) -> list[Any]:
    """Return what a function consists of without the values that it finds elsewhere."""
    constants = [_instructions(one) if isinstance(one, CodeType) else one for one in code.co_consts]
    return [code.co_code, [one for one in constants if isinstance(one, (*_PLAIN, list))], list(code.co_names)]


def _is_plain_object(value: Any) -> bool:
    """Return whether the attributes of an object are all that it holds."""
    if hasattr(value, "get_params"):
        return True
    if not hasattr(value, "__dict__") or is_tensor(value) or isinstance(value, (str, bytes, np.ndarray, Mapping)):
        return False
    return type(value).__module__.partition(".")[0] in ("sktransfer", "sklearn")
